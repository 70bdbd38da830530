"""Where the images come from: CIFAR-10 by download, the digits beside this file, files on the disk, a bucket."""

import difflib
import re
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from job.core.exits import Exit, JobError
from job.data.bucket import fetch_dataset
from job.data.cifar_binary import ARCHIVE
from job.data.dataset import Dataset, Split
from job.data.layouts import read_dataset
from job.storage.files import without_secrets
from job.storage.http import Progress, download
from job.storage.opening import open_store

# https://www.cs.toronto.edu/~kriz/cifar.html publishes the MD5; the SHA-256 is that of the same 170,052,171 bytes
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
SOURCES = (
    "cifar10, digits, s3://bucket/prefix, a folder or .tar.gz archive of CIFAR-10 (binary or Python version), or a folder with "
    "train/CLASS/*.png and test/CLASS/*.png"
)


def load(
    source: str,
    *,
    cache: Path,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """The dataset that `source` names: see SOURCES.

    `mirror` replaces the URL of the archive of `cifar10`; one that ends in `/` is a folder that holds the archive under its own name.
    A folder called `digits` is reached as `./digits`.
    Raises JobError: USAGE for a source that is not there, DATA for a damaged file, and what `download` raises.
    """
    if source == "digits":
        return digits()
    if source == "cifar10":
        url = URL if not mirror else mirror + ARCHIVE if mirror.endswith("/") else mirror
        archive = download(url, cache / ARCHIVE, sha256=SHA256, md5=MD5, progress=progress)
        dataset = read_dataset(archive, name="cifar10", source=without_secrets(url))
        return replace(dataset, checksums={ARCHIVE: SHA256, **dataset.checksums})
    if source.startswith("s3://"):
        origin = without_secrets(source)
        return read_dataset(fetch_dataset(open_store(source), cache, progress), name=_name(PurePosixPath(origin)), source=origin)
    if "://" in source:
        raise JobError(
            Exit.USAGE, f"--data: a URL other than s3://. Allowed: {SOURCES}. For a copy of CIFAR-10: --data cifar10 --mirror URL"
        )
    try:
        path = Path(source).expanduser()
        there = source != "" and path.exists()
    except (OSError, RuntimeError):  # a name too long, a folder without access, ~nobody
        there = False
    if not there:
        near = difflib.get_close_matches(source, ("cifar10", "digits"), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise JobError(Exit.USAGE, f"--data {source!r}: neither a known dataset nor a path that exists.{hint} Allowed: {SOURCES}.")
    return read_dataset(path, name=_name(path.resolve()), source=source)


def at_hand(source: str, cache: Path) -> bool:
    """Whether `load` needs no network for it."""
    try:
        return source == "digits" or (cache / ARCHIVE if source == "cifar10" else Path(source).expanduser()).exists()
    except (OSError, RuntimeError, ValueError):
        return False


def name_of(source: str) -> str:
    """What `load` calls the dataset that `source` names."""
    if source in ("cifar10", "digits"):
        return source
    return _name(PurePosixPath(without_secrets(source)) if "://" in source else Path(source).expanduser().resolve())


def _name(path: PurePath) -> str:
    return re.sub(r"\.(tar\.gz|tgz)$", "", path.name)


def digits() -> Dataset:
    """The 1,797 digits of digits/README.md, 8 by 8 pixels of 0 to 16; every fifth image of each class is for the test."""
    with np.load(Path(__file__).parent / "digits" / "digits.npz", allow_pickle=False) as stored:
        pixels, labels = stored["images"], stored["labels"]  # (1797, 8, 8), (1797,)
    grey = (pixels.astype(np.int64) * 255 // 16).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)  # (1797, 32, 32, 3)
    for_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        for_test[np.flatnonzero(labels == label)[4::5]] = True
    return Dataset(
        name="digits",
        train=Split(images=images[~for_test], labels=labels[~for_test]),
        test=Split(images=images[for_test], labels=labels[for_test]),
        classes=tuple("0123456789"),
        source="Optical Recognition of Handwritten Digits, UCI Machine Learning Repository",
        checksums={},
    )
