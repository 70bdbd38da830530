"""`make e2e-cluster`: the manifests on a real cluster, the current kubectl context, which is printed first.

Everything happens in a namespace of its own with a new name, which is deleted at the end unless KEEP=1; no other namespace is touched.
Variables: GPU=0 patches the GPU's request and the device away; TAG, REGISTRY name the images; LOAD is a command that is called with each
image first; ROWS=1,4 runs some rows only (all from 3 on need 2).
"""

import os
import secrets
import shlex
import subprocess
import sys
import time
import traceback

from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.jobs import GPU, Cluster, image
from tests.cluster.kubectl import ROOT, Failed, context, own_namespace, read
from tests.cluster.rows import FILES, ROWS


def prepare(c: Cluster) -> None:
    if load := os.environ.get("LOAD"):
        for name in needed():
            print(f"{load} {name}", flush=True)
            if code := subprocess.run([*shlex.split(load), name], check=False, cwd=ROOT).returncode:
                sys.exit(f"LOAD: `{load} {name}` ended with {code}. Expected a command that brings this image to the cluster's nodes.")
    if not GPU:
        print("GPU=0: the Jobs run without nvidia.com/gpu and with --device=cpu, but for the one that must end with 71", flush=True)
    print("the trainings are small: --recipe=digits --data=digits --width=0.0625 --threads=1, and ask for 100m of CPU", flush=True)


def needed() -> list[str]:
    """All images that the manifests name."""
    pods = [document.get("spec", {}).get("template", {}).get("spec", {}) for path in FILES for document in read(path)]
    return sorted({image(container["image"]) for pod in pods for container in pod.get("containers", [])})


def main() -> int:
    name = f"alexnet-e2e-{secrets.token_hex(4)}"
    print(f"context {context()}\nnamespace {name}, which is made for this", flush=True)
    with own_namespace(name, keep=os.environ.get("KEEP") == "1"):
        return run(Cluster(name))


def run(c: Cluster) -> int:
    chosen = [int(n) for n in os.environ.get("ROWS", "").split(",") if n] or list(range(1, len(ROWS) + 1))
    prepare(c)
    table: list[tuple[int, str, bool, str]] = []
    with c.sampler:
        for number in chosen:
            row, begun = ROWS[number - 1], time.monotonic()
            try:
                held, said = True, row(c)
            except (Failed, BotoCoreError, ClientError, subprocess.SubprocessError, KeyError, ValueError) as error:
                held, said = False, f"{type(error).__name__}: {error}"
                traceback.print_exc()
                for kind in ("trainjobs", "jobsets", "jobs"):  # for the rows to come; a set would make its Jobs anew
                    c.k.run("delete", kind, "--all", "--wait=false")
            table.append((number, " ".join((row.__doc__ or "").split()), held, said))
            print(f"row {number}: {'held' if held else 'DID NOT HOLD'} after {time.monotonic() - begun:.0f} s: {said}", flush=True)
    print()
    for number, name, held, said in table:
        print(f"{number:>2}  {name:<28} {'yes' if held else 'NO ':<3}  {' '.join(said.split())[:400]}")
    return 0 if all(row[2] for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
