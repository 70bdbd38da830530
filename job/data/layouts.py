"""A dataset on the disk, in whichever layout it is: a folder, or an archive that is read as a stream and never extracted."""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from job.data import cifar_binary, cifar_python
from job.data.cifar_binary import ARCHIVE, FOLDER, damaged
from job.data.dataset import Dataset
from job.data.image_folder import is_image_folder, read_image_folder

PYTHON_FOLDER = "cifar-10-batches-py"
INNER = (FOLDER, PYTHON_FOLDER, f"{PYTHON_FOLDER}-target/{PYTHON_FOLDER}")
"""folders that archives contain; the last one as Keras names it in its cache"""
ARCHIVES = (ARCHIVE, "cifar-10-python.tar.gz")
EXPECTED = "a folder or .tar.gz archive of CIFAR-10 (binary or Python version), or a folder with train/CLASS/*.png and test/CLASS/*.png"


def read_dataset(path: Path, *, name: str, source: str) -> Dataset:
    """Raises JobError (DATA), naming the file."""
    try:
        if path.is_dir():
            folder = next((path / inner for inner in INNER if (path / inner).is_dir()), path)
            if folder == path and is_image_folder(path):
                return read_image_folder(path, name=name, source=source)
            if folder == path and (packed := next((path / each for each in ARCHIVES if (path / each).is_file()), None)):
                return read_dataset(packed, name=name, source=source)
            files = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
            return _assemble(folder, files, lambda file: (folder / file).open("rb"), name=name, source=source)
        with _members(path) as (archive, members):
            files = {file: member.size for file, member in members.items()}
            return _assemble(path, files, lambda file: _open(archive, members[file]), name=name, source=source)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, LookupError, OverflowError) as error:
        # the last three are what tarfile lets escape when a header holds nonsense
        thing, what = path, f"not a whole .tar.gz archive ({error})"
        if isinstance(error, OSError) and error.errno is not None:
            thing, what = error.filename or path, f"could not be read ({error.strerror})"
        raise damaged(thing, what, EXPECTED) from None


def _assemble(where: Path, files: Mapping[str, int], open_file: Callable[[str], IO[bytes]], *, name: str, source: str) -> Dataset:
    """By the layout that the names of the files show."""
    if not any(file.endswith(".bin") for file in files) and cifar_python.is_python(files):
        return cifar_python.assemble(where, files, open_file, name=name, source=source)
    if not any(file.startswith(("data_batch_", "test_batch")) for file in files):
        raise damaged(where, "none of CIFAR-10's files is there", EXPECTED, "Name the folder that holds them, or use --data cifar10.")
    return cifar_binary.assemble(where, files, open_file, name=name, source=source)


@contextmanager
def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]]:
    """An archive and its files by bare name, in the order in which they are stored.

    The first of two passes: it learns the sizes, so that the second reads every image straight to its place, and it reads on to the
    checksum at the end of the gzip stream, which tarfile does not.
    """
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        members: dict[str, tarfile.TarInfo] = {}
        for member in archive:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts:
                raise damaged(f"{path}: {member.name}", "a member outside the archive's folder", "relative names without ..")
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise damaged(f"{path}: {member.name}", "a link or a special file", "plain files and folders")
            if member.isreg() and str(place.parent) in (".", FOLDER, PYTHON_FOLDER):
                if place.name in members:
                    raise damaged(f"{path}: {place.name}", "there twice", "each file once")
                members[place.name] = member
        while stream.read(1 << 20):
            pass
        yield archive, members


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "a regular file, as `_members` has checked"
    return file
