"""What `make build` writes beside an image, of a listing and labels as the engine gives them."""

import hashlib
from pathlib import Path

from tools.image_records import bill_of_materials, packages, provenance

ROOT = Path(__file__).parents[3]
DIGEST = "ab" * 32
LABELS = {
    "org.opencontainers.image.revision": "c" * 40 + "-dirty",
    "org.opencontainers.image.source": "https://git.example/you/alexnet-job",
    "org.opencontainers.image.base.name": f"nvidia/cuda:13.0.3-base-ubuntu24.04@sha256:{'d' * 64}",
    "org.opencontainers.image.created": "2026-11-28T10:00:00Z",
}


def test_a_bill_of_materials() -> None:
    listing = "deb/ubuntu tini 0.19.0-1\n\npypi torch 2.14.1\npypi numpy 2.4.6\npypi numpy 2.4.6\n"
    bill = bill_of_materials("r.example/you/alexnet-torch:7", DIGEST, LABELS["org.opencontainers.image.created"], packages(listing))
    whole, *parts = bill["packages"]
    assert whole["externalRefs"][0]["referenceLocator"] == f"pkg:oci/alexnet-torch@sha256:{DIGEST}"
    assert [part["externalRefs"][0]["referenceLocator"] for part in parts] == [
        "pkg:deb/ubuntu/tini@0.19.0-1",
        "pkg:pypi/numpy@2.4.6",
        "pkg:pypi/torch@2.14.1",
    ]
    names = [package["SPDXID"] for package in bill["packages"]]
    assert len({*names}) == len(names)
    assert {relation["relatedSpdxElement"] for relation in bill["relationships"]} == {*names}
    assert bill["creationInfo"]["created"] == "2026-11-28T10:00:00Z"


def test_where_an_image_comes_from() -> None:
    statement = provenance("alexnet-tf:7", DIGEST, "Dockerfile.tf", LABELS)
    assert statement["subject"] == [{"name": "alexnet-tf:7", "digest": {"sha256": DIGEST}}]
    sources = {each["uri"]: each.get("digest") for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert sources["https://git.example/you/alexnet-job"] == {"gitCommit": "c" * 40}
    assert sources["requirements/tf.txt"] == {"sha256": hashlib.sha256((ROOT / "requirements/tf.txt").read_bytes()).hexdigest()}
    assert "requirements/torch.txt" not in sources
    assert sources["docker:nvidia/cuda:13.0.3-base-ubuntu24.04"] == {"sha256": "d" * 64}
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["revision"].endswith("-dirty"), "what was changed is not hidden"
