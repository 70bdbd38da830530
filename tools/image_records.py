"""What `make build` writes beside an image: its bill of materials (SPDX 2.3) and where it comes from (SLSA provenance 1).

python -m tools.image_records IMAGE DOCKERFILE [--docker COMMAND]     files build/IMAGE.spdx.json and build/IMAGE.provenance.json

The packages are those that the image itself lists, of the distribution and of Python.  Neither file is signed.  The standard library is
enough to run this.
"""

import argparse
import hashlib
import json
import subprocess
import uuid
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LISTING = r"""
. /etc/os-release
dpkg-query --show --showformat "deb/$ID "'${Package} ${Version}\n'
/opt/alexnet/bin/python -c 'from importlib.metadata import distributions as all
for each in all(): print("pypi", each.metadata["Name"].lower().replace("_", "-"), each.version)'
"""
"""prints kind, name and version of each package"""
LABEL = "org.opencontainers.image."


class Package(NamedTuple):
    kind: str
    """of package URLs: `pypi`, or `deb/` and the distribution"""
    name: str
    version: str

    @property
    def url(self) -> str:
        return f"pkg:{self.kind}/{self.name}@{self.version}"


def packages(listing: str) -> list[Package]:
    return sorted({Package(*line.split()) for line in listing.splitlines() if line.strip()})


def bill_of_materials(image: str, digest: str, created: str, found: list[Package]) -> dict[str, Any]:
    """SPDX 2.3, https://spdx.github.io/spdx-spec/v2.3"""

    def entry(number: int, name: str, version: str, reference: str) -> dict[str, Any]:
        return {
            "SPDXID": f"SPDXRef-{number}",
            "name": name,
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": reference}],
        }

    name, _, tag = image.rpartition(":")
    whole = entry(0, name, tag, f"pkg:oci/{name.rpartition('/')[2]}@sha256:{digest}")
    parts = [entry(number, each.name, each.version, each.url) for number, each in enumerate(found, 1)]
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-0"), *(("SPDXRef-0", "CONTAINS", part["SPDXID"]) for part in parts)]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image,
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "creationInfo": {"created": created, "creators": ["Tool: alexnet-job-make-build"]},
        "packages": [whole, *parts],
        "relationships": [{"spdxElementId": a, "relationshipType": how, "relatedSpdxElement": b} for a, how, b in relations],
    }


def provenance(image: str, digest: str, dockerfile: str, labels: dict[str, str]) -> dict[str, Any]:
    """An in-toto statement, https://slsa.dev/spec/v1.0/provenance.  What went into the build: the checkout, the base, the locks."""
    revision, (base, _, base_digest) = labels[f"{LABEL}revision"], labels[f"{LABEL}base.name"].partition("@sha256:")
    locks = ["requirements/build.txt", f"requirements/{dockerfile.rpartition('.')[2]}.txt"]
    sources = [
        {"uri": labels.get(f"{LABEL}source") or "checkout", "digest": {"gitCommit": revision.removesuffix("-dirty")}},
        {"uri": f"docker:{base}", **({"digest": {"sha256": base_digest}} if base_digest else {})},
        *({"uri": name, "digest": {"sha256": hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}} for name in [dockerfile, *locks]),
    ]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": image, "digest": {"sha256": digest}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "make build",
                "externalParameters": {"dockerfile": dockerfile, "base": labels[f"{LABEL}base.name"], "revision": revision},
                "resolvedDependencies": sources,
            },
            "runDetails": {"builder": {"id": "make build"}, "metadata": {"startedOn": labels[f"{LABEL}created"]}},
        },
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("image")
    arguments.add_argument("dockerfile")
    arguments.add_argument("--docker", default="docker")
    given = arguments.parse_args()

    def docker(*words: str) -> str:
        return subprocess.run([given.docker, *words], check=True, capture_output=True, text=True).stdout

    about = json.loads(docker("image", "inspect", "--format", "{{json .}}", given.image))
    digest, labels = about["Id"].removeprefix("sha256:"), about["Config"]["Labels"]
    listing = docker("run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", given.image, "-c", LISTING)
    bill = bill_of_materials(given.image, digest, labels[f"{LABEL}created"], packages(listing))
    folder, name = ROOT / "build", given.image.rpartition("/")[2].replace(":", "-")
    folder.mkdir(exist_ok=True)
    for kind, record in (("spdx", bill), ("provenance", provenance(given.image, digest, given.dockerfile, labels))):
        path = folder / f"{name}.{kind}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{path.relative_to(ROOT)}: {len(bill['packages']) - 1} packages" if kind == "spdx" else path.relative_to(ROOT))


if __name__ == "__main__":
    main()
