"""The file of `alexnet trace`: one safetensors file, whose `__metadata__` holds facts, as JSON, and a digest of everything.

Tensors: `initial/NAME`, `losses` (steps,), `other/evaluation`, and for each observed step `STEP/evaluation`, `STEP/inputs`,
`STEP/activations/LAYER`, `STEP/logits`, `STEP/gradients/NAME`, `STEP/slots/SLOT/NAME` and `STEP/weights/NAME`, all in canonical layout.
Of the step before an observed one, slots and weights as well.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.core.records import TraceFacts
from job.runs.tensorfile import Header, stored_bytes
from job.storage.errors import NotFound
from job.storage.opening import split

FORMAT = "alexnet-trace-2"
CHUNK = 1 << 22


class TraceWriter:
    """Takes one tensor after the other, so that a trace of the whole network needs no memory of its own size."""

    def __init__(self, folder: Path) -> None:
        self.body = (folder / "body").open("w+b")
        self.header = Header()
        self.digest = hashlib.sha256()

    def add(self, name: str, array: NDArray[Any]) -> None:
        self.header.add(name, array.dtype.name, array.shape)
        data = stored_bytes(array, array.dtype.name)
        self.body.write(data)
        self.digest.update(data)

    def finish(self, path: Path, facts: TraceFacts) -> None:
        """Write the whole file: header, then the tensors."""
        metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in facts.items()}}
        metadata["sha256"] = _sealed(self.digest, self.header.as_object(metadata))
        with path.open("wb") as file, self.body:
            file.write(self.header.encode(metadata))
            self.body.seek(0)
            shutil.copyfileobj(self.body, file, CHUNK)


class Trace:
    """A file that was verified.  Raises JobError (65) where it is damaged, 2 where it is no trace; both name it."""

    def __init__(self, path: Path, url: str) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            self._file = cast(Any, safe_open)(path, framework="numpy")
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
                metadata = header.get("__metadata__", {})
                if metadata.get("format") != FORMAT:
                    raise JobError(
                        Exit.USAGE, f"{url}: no trace of the format {FORMAT}. Expected what this version's `alexnet trace` writes."
                    )
                given, found = metadata.pop("sha256", ""), _sealed(_digest(file), header)
        except (SafetensorError, OSError) as error:
            raise JobError(Exit.DATA, f"{url}: not a readable safetensors file ({error}). Make it again with `alexnet trace`.") from None
        self.url = url
        self.names = frozenset(self._file.keys())
        if found != given:
            raise JobError(
                Exit.DATA, f"{url}: its digest does not match its contents, so it is damaged. Make it again with `alexnet trace`."
            )
        facts: Any = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
        self.facts: TraceFacts = facts

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._file.get_tensor(name)
        return array


@contextmanager
def opened(url: str) -> Iterator[Trace]:
    """The trace at a path or at s3://bucket/key.  Raises JobError, as `Trace`, and 2 where there is none."""
    if Path(url).is_file():
        yield Trace(Path(url), url)
        return
    store, key = split(url)
    with tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        path = Path(folder) / "trace.safetensors"
        try:
            store.download(key, path)
        except NotFound:
            raise JobError(
                Exit.USAGE, f"{url}: there is no such file. Expected a trace; `alexnet trace --output {url}` makes one."
            ) from None
        yield Trace(path, url)


def digest_of(array: NDArray[Any]) -> str:
    """SHA-256 of a tensor's bytes in the file."""
    return hashlib.sha256(stored_bytes(array, array.dtype.name)).hexdigest()


def _digest(file: BinaryIO) -> Any:
    """SHA-256, still open, of the rest of a file."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest


def _sealed(digest: Any, header: Mapping[str, Any]) -> str:
    """The digest of tensors, and of what the header says."""
    digest.update(json.dumps(header, sort_keys=True).encode())
    return str(digest.hexdigest())
