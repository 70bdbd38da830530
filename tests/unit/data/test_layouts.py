"""The layouts that people have beside the binary one: the Python version in the caches of torchvision and Keras, and own pictures."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from job.core.exits import Exit, JobError
from job.data.cifar_binary import CLASSES, RECORD
from job.data.dataset import Dataset
from job.data.sources import load

PIXELS = RECORD - 1


def rows(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """(count, 3072) bytes, and labels."""
    return np.random.default_rng(seed).integers(0, 256, (count, PIXELS), dtype=np.uint8), [n % 10 for n in range(count)]


PARTS = {"data_batch_1": rows(300, 1), "data_batch_2": rows(20, 2), "test_batch": rows(30, 3)}


def python2(data: np.ndarray, labels: list[int]) -> bytes:
    """As Python 2 wrote the official batches: protocol 2, texts and pixels as byte strings."""

    def text(word: str) -> bytes:
        return b"U" + bytes([len(word)]) + word.encode()

    def whole(number: int) -> bytes:
        return b"K" + bytes([number]) if number < 256 else b"M" + number.to_bytes(2, "little")

    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85" + text("b") + b"\x87Rq\x07"
    shape = whole(data.shape[0]) + whole(data.shape[1]) + b"\x86"
    kind = (
        b"cnumpy\ndtype\nq\x08" + text("u1") + b"K\x00K\x01\x87Rq\x09(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array += b"(K\x01" + shape + kind + b"\x89T" + data.nbytes.to_bytes(4, "little") + data.tobytes() + b"tb"
    batch = text("batch_label") + b"q\x02" + text("training batch 1 of 5")
    listed = b"]q\x04(" + b"".join(map(whole, labels)) + b"e"
    return b"\x80\x02}q\x01(" + batch + text("labels") + listed + text("data") + array + text("filenames") + b"]u."


def python3(data: np.ndarray, labels: list[int], protocol: int) -> bytes:
    return pickle.dumps({b"data": data, b"labels": labels, b"filenames": [b"a.png"]}, protocol)


def batches(write: object = python2) -> dict[str, bytes]:
    files = {name: write(*part) for name, part in PARTS.items()}  # type: ignore[operator]
    return {**files, "batches.meta": pickle.dumps({"label_names": [f"class {n}" for n in range(10)], "num_vis": 3072}, 2)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def archive(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as written:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return path


def read(path: Path) -> Dataset:
    return load(str(path), cache=Path("/never/used"))


def refused(path: Path) -> str:
    with pytest.raises(JobError) as raised:
        read(path)
    assert raised.value.code == Exit.DATA
    return str(raised.value)


def test_the_python_version_is_the_same_dataset_as_the_binary_one(tmp_path: Path) -> None:
    binary = {f"{name}.bin": np.hstack([np.array(labels, np.uint8)[:, None], data]).tobytes() for name, (data, labels) in PARTS.items()}
    expected = read(write(tmp_path / "binary", binary))
    files = batches()
    places = [
        write(tmp_path / "unpacked", files),
        write(tmp_path / "torchvision" / "cifar-10-batches-py", files).parent,
        write(tmp_path / "keras" / "datasets" / "cifar-10-batches-py-target" / "cifar-10-batches-py", files).parent.parent,
        write(tmp_path / "keras3" / "cifar-10-batches-py", files).parent,
        archive(tmp_path / "cifar-10-python.tar.gz", files),
        archive(tmp_path / "download" / "cifar-10-python.tar.gz", files).parent,
        write(tmp_path / "protocol2", batches(lambda *part: python3(*part, 2))),
        write(tmp_path / "protocol4", batches(lambda *part: python3(*part, 4))),
    ]
    for place in places:
        found = read(place)
        assert found.fingerprint == expected.fingerprint, place
        assert found.classes == tuple(f"class {n}" for n in range(10))
        assert set(found.checksums) == set(files)


def test_the_official_writer_is_read_as_pickle_itself_reads_it() -> None:
    """`python2` above says what `pickle` says."""
    data, labels = PARTS["data_batch_1"]
    found = pickle.loads(python2(data, labels), encoding="latin1")  # noqa: S301  our own bytes
    assert found["labels"] == labels
    np.testing.assert_array_equal(found["data"], data)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_nothing_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {**batches(), "data_batch_2": pickle.dumps({"data": Evil(), "labels": []}, 2)}
    said = refused(write(tmp_path, files))
    assert "data_batch_2: it would import '__builtin__.print', which is not allowed (nothing in it was executed)" in said
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("data_batch_1", None, "data_batch_1 is missing"),
        ("test_batch", None, "test_batch is missing"),
        ("test_batch", python2(*PARTS["test_batch"])[:-20_000], "it is damaged"),
        ("test_batch", b"", "it is damaged"),
        ("test_batch", pickle.dumps([1, 2], 2), "no dictionary"),
        ("test_batch", pickle.dumps({"data": 1, "labels": [1]}, 2), "no table of rows"),
        ("test_batch", pickle.dumps({"data": PARTS["test_batch"][0], "fine_labels": [1]}, 2), "it holds no 'labels'"),
        ("test_batch", python3(PARTS["test_batch"][0], [10] * 30, 2), "labels are not one number from 0 to 9"),
        ("test_batch", python3(PARTS["test_batch"][0], [1] * 29, 2), "labels are not one number from 0 to 9"),
        ("test_batch", python3(PARTS["test_batch"][0].astype(np.int64), [1] * 30, 2), "unexpected arguments"),
        ("batches.meta", pickle.dumps({"label_names": ["a"] * 10}, 2), "10 class names, 1 of them different"),
    ],
)
def test_a_damaged_batch_is_named(file: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    files: dict[str, bytes | None] = {**batches(), file: content}
    said = refused(write(tmp_path, {name: data for name, data in files.items() if data is not None}))
    assert words in said
    assert file in said


def pictures(root: Path, names: tuple[str, ...] = CLASSES, count: int = 2) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (32 if split == "test" else 50 + label, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
            (folder / "notes.txt").write_text("ignored")
    return root


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    found = read(pictures(tmp_path / "mine"))
    assert (found.name, found.classes, len(found.train), len(found.test)) == ("mine", CLASSES, 20, 20)
    assert found.test.labels.tolist() == [n // 2 for n in range(20)]
    np.testing.assert_array_equal(found.test.images[3], np.asarray(Image.open(tmp_path / "mine" / "test" / "automobile" / "1.png")))
    assert found.train.images[0].shape == (32, 32, 3), "scaled"


def test_a_folder_of_pictures_that_is_not_as_documented(tmp_path: Path) -> None:
    assert "3 classes" in refused(pictures(tmp_path / "three", ("a", "b", "c")))
    broken = pictures(tmp_path / "broken")
    (broken / "test" / "ship" / "0.png").write_bytes(b"no picture")
    assert "ship/0.png: not a picture" in refused(broken)
    for path in (broken / "test" / "ship").glob("*.png"):
        path.unlink()
    assert "no pictures" in refused(broken)
    (broken / "test" / "ship").rename(broken / "test" / "boat")
    assert "other classes (boat, ship)" in refused(broken)
