"""Own pictures: a folder with `train/CLASS/…` and `test/CLASS/…`, of any format and size that Pillow reads."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import sched_getaffinity
from pathlib import Path

import numpy as np

from job.data.cifar_binary import damaged
from job.data.dataset import Dataset, Split
from job.data.image_files import read_picture

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
CLASSES = 10
"""as in CIFAR-10, for which layers, figures and the binary layout are made"""
EXPECTED = f"train/CLASS/*.png and test/CLASS/*.png, with the same {CLASSES} classes in both"


def is_image_folder(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def read_image_folder(folder: Path, *, name: str, source: str) -> Dataset:
    """Classes are numbered by their names, images come in the order of classes and file names, each as `read_picture` scales it to
    32 × 32.  Raises JobError (DATA), naming the folder or the file.
    """
    classes = _classes(folder / "train")
    if (others := _classes(folder / "test")) != classes:
        odd = sorted({*classes} ^ {*others})
        raise damaged(folder, f"train/ and test/ have other classes ({', '.join(odd[:5])})", EXPECTED, "")
    if len(classes) != CLASSES:
        raise damaged(folder, f"{len(classes)} class{'es' if len(classes) != 1 else ''}", EXPECTED, "")
    digests: dict[str, str] = {}
    return Dataset(
        name=name,
        train=_read(folder / "train", classes, digests),
        test=_read(folder / "test", classes, digests),
        classes=tuple(classes),
        source=source,
        checksums=digests,
    )


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read(folder: Path, classes: Sequence[str], digests: dict[str, str]) -> Split:
    paths, labels = list[Path](), list[int]()
    for label, name in enumerate(classes):
        own = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith("."))
        if not own:
            raise damaged(folder / name, "there are no pictures", f"files that end in {', '.join(ENDINGS)}", "")
        paths += own
        labels += [label] * len(own)
    images = np.empty((len(paths), 32, 32, 3), np.uint8)
    with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:  # Pillow decodes without Python's lock
        for row, pixels in enumerate(pool.map(read_picture, paths)):
            images[row] = pixels
    digests[folder.name] = hashlib.sha256(images.data).hexdigest()
    return Split(images=images, labels=np.array(labels, np.uint8))
