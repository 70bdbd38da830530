"""Where `--init-from` gets its weights: a file, a URL, an object in a bucket, or the model of another run.

Whatever the source, what comes back is a safetensors file of float32 tensors in torchvision's naming.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.runs.results import open_run
from job.runs.run import Run
from job.runs.tensorfile import write_tensors
from job.runs.torchfile import TorchFile
from job.storage.errors import NotFound
from job.storage.files import local_errors, new_file_beside, sha256, without_secrets
from job.storage.http import ANOTHER_SOURCE, Progress, download
from job.storage.opening import open_store

FORMS = "a .safetensors or .pth file, its http(s):// or s3:// URL, or a finished run (FOLDER/ID or s3://bucket/prefix/ID)"
ENDINGS = (".safetensors", ".pth", ".pt")
KINDS = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": "<u2"}
"""of safetensors; bfloat16 is the upper half of a float32"""
FIRST = "features.0.weight"
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.pth?$")
"""torchvision's names end in the first digits of the file's SHA-256"""


def fetch_weights(source: str, cache: Path, progress: Progress | None = None) -> Path:
    """The file for `source`; see FORMS.  It lies in `cache`, unless `source` is a local file that needs no conversion.

    Raises JobError: USAGE where there is no such thing, DATA where it is damaged or no AlexNet, and what `download` and stores raise.
    """
    folder = cache / "weights"
    if source.startswith(("http://", "https://")):
        return converted(_from_web(source, folder, progress), folder)
    if source.startswith("s3://") and source.endswith(ENDINGS):
        return converted(_from_bucket(source, folder), folder)
    if source.startswith("s3://") or (source and Path(source).is_dir()):
        return converted(_from_run(source, folder), folder)
    if not source or "://" in source or not Path(source).is_file():
        raise JobError(Exit.USAGE, f"--init-from {without_secrets(source)!r}: there is no such file. Expected {FORMS}.")
    _check_digits(Path(source), source)
    return converted(Path(source), folder)


def converted(path: Path, folder: Path) -> Path:
    """The same weights as a safetensors file of float32, made in `folder` where `path` is none.  Raises JobError (65)."""
    with local_errors(path), path.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"\x80\x02"):
        raise JobError(Exit.DATA, f"{path}: a file as PyTorch wrote it before version 1.6. Load it and save it again in a newer one.")
    shapes, tensors, ready = _torch(path) if start == b"PK\x03\x04" else _safetensors(path)
    if FIRST not in shapes:
        raise JobError(Exit.DATA, f"{path}: no tensor {FIRST} but {_some(shapes)}. Expected an AlexNet in torchvision's naming.")
    if ready:
        return path
    target = folder / f"{sha256(path)}.safetensors"  # named by what it was made from, and visible only whole
    if not target.is_file():
        with new_file_beside(target) as temporary:
            write_tensors(temporary, shapes, "float32", tensors)
            temporary.replace(target)
    return target


def model_file(run: Run, model: str, folder: Path) -> Path:
    """The object that a summary names (`checkpoints/NAME/model.safetensors`), verified by its manifest.  Raises JobError (65)."""
    *parents, name = model.split("/")
    where = f"{run.store.url}/{run.key(model)}"
    manifest = run.manifest(*parents)
    entry = None if manifest is None else manifest.files.get(name)
    if entry is None:
        raise JobError(Exit.DATA, f"{where}: the checkpoint's MANIFEST.json is missing or does not list it.")
    target = folder / f"{entry.sha256}.safetensors"
    if not target.is_file() or entry.wrong_digest(target):
        try:
            run.store.download(run.key(model), target)
        except NotFound:
            raise JobError(Exit.DATA, f"{where} is missing, though its MANIFEST.json lists it.") from None
    if found := entry.wrong_digest(target):
        target.unlink()
        raise JobError(Exit.DATA, f"{where} has SHA-256 {found[:12]}…, its manifest says {entry.sha256[:12]}….")
    return target


def _from_run(source: str, folder: Path) -> Path:
    run = open_run(source)
    summary = run.summary()
    if summary is None:
        raise JobError(Exit.USAGE, f"--init-from {source}: this run has not ended (no summary.json). Expected {FORMS}.")
    return model_file(run, summary["model"], folder)


def _from_bucket(source: str, folder: Path) -> Path:
    parent, _, name = source.rpartition("/")
    target = _place(source, folder)
    try:
        open_store(parent).download(name, target)
    except NotFound:
        raise JobError(Exit.USAGE, f"--init-from {source}: there is no such object. Expected {FORMS}.") from None
    _check_digits(target, source)
    return target


def _from_web(source: str, folder: Path, progress: Progress | None) -> Path:
    target = _place(source, folder)
    digits = DIGEST.search(target.name)
    if target.is_file() and not (digits and sha256(target).startswith(digits[1])):
        target.unlink()  # nothing tells whether it is still what the URL names
    try:
        download(source, target, sha256=None, md5=None, progress=progress)
    except JobError as error:  # its advice is for datasets
        text = str(error).replace(ANOTHER_SOURCE, "Use another copy, or a file of your own.").replace("--mirror", "--init-from")
        raise JobError(error.code, f"--init-from: {text}") from None
    try:
        _check_digits(target, source)
    except JobError:
        target.unlink()
        raise
    return target


def _place(source: str, folder: Path) -> Path:
    """In the cache, under the source's own name."""
    plain = without_secrets(source)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", plain.rpartition("/")[2])[-100:] or "weights"
    return folder / hashlib.sha256(source.encode()).hexdigest()[:16] / name


def _check_digits(path: Path, source: str) -> None:
    digits = DIGEST.search(without_secrets(source))
    if digits and not (found := sha256(path)).startswith(digits[1]):
        raise JobError(
            Exit.DATA,
            f"--init-from {without_secrets(source)}: its SHA-256 begins with {found[: len(digits[1])]}, its name says {digits[1]}. "
            "It is damaged, or another file. Get it again.",
        )


Contents = tuple[dict[str, tuple[int, ...]], Iterator[tuple[str, NDArray[Any]]], bool]
"""shapes, tensors in the same order, and whether the file is already what is wanted"""


def _torch(path: Path) -> Contents:
    file = TorchFile(path)
    return {name: stored.shape for name, stored in file.tensors.items()}, iter(file), False


def _safetensors(path: Path) -> Contents:
    """As `tensorfile.read_tensors`, but for half precisions too, which safetensors does not give to NumPy."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(path.stat().st_size - 8, 100 << 20):
                raise ValueError("its first 8 bytes are not the length of a header")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        found = {name: (KINDS[e["dtype"]], tuple(e["shape"]), *e["data_offsets"]) for name, e in header.items() if e["dtype"] in KINDS}
        rest = path.stat().st_size - 8 - length
        for name, (kind, shape, start, end) in found.items():
            if not 0 <= start <= end <= rest or end - start != np.prod(shape, dtype=object) * np.dtype(kind).itemsize:
                raise ValueError(f"tensor {name} does not fit into the file")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise JobError(Exit.DATA, f"{path}: not a readable safetensors file ({error}). Expected {FORMS}.") from None

    def tensors() -> Iterator[tuple[str, NDArray[Any]]]:
        with path.open("rb") as file:
            for name, (kind, shape, start, end) in found.items():
                file.seek(8 + length + start)
                array = np.frombuffer(file.read(end - start), kind).reshape(shape)
                yield name, (array.astype("<u4") << 16).view("<f4") if header[name]["dtype"] == "BF16" else array

    return {name: shape for name, (_, shape, *_) in found.items()}, tensors(), all(kind == "<f4" for kind, *_ in found.values())


def _some(shapes: dict[str, tuple[int, ...]]) -> str:
    names = [*shapes][:3]
    return ", ".join(names) + (" …" if len(shapes) > len(names) else "") if names else "no float tensor"
