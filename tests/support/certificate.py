"""A certificate that nobody trusts, for servers on loopback."""

from pathlib import Path

import trustme


def private_certificate(folder: Path) -> Path:
    """Key, certificate for 127.0.0.1 and that of its private authority, in one PEM file: it serves a server, and as AWS_CA_BUNDLE."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    path = folder / "certificate.pem"
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    return path
