"""The dataset: every source gives the same arrays, every damage is refused by name."""

import gzip
import hashlib
import io
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.exits import Exit, JobError
from job.data import cifar_binary, sources
from job.data.cifar_binary import CLASSES, CLASSES_FILE, FOLDER, RECORD, TEST_FILE
from job.data.dataset import Dataset, Split, subset
from job.data.sources import load

DIGITS = "7952ba291e4f4602f42d64b4073b6935d7491d3487616b83abf114c3ff4aeb43"
OWN_CLASSES = [f"class {n}" for n in range(10)]

Files = dict[str, bytes]


def records(count: int, seed: int) -> bytes:
    """`count` random images in the official layout."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, RECORD), dtype=np.uint8)
    rows[:, 0] = np.arange(count) % 10
    return rows.tobytes()


@pytest.fixture
def files() -> Files:
    return {
        "data_batch_2.bin": records(300, 2),  # not in order, of different sizes, more than one block
        TEST_FILE: records(20, 9),
        CLASSES_FILE: "\n".join([*OWN_CLASSES, "", ""]).encode(),
        "data_batch_1.bin": records(30, 1),
        "readme.html": b"ignored",
    }


def write_folder(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: Files, *, prefix: str = FOLDER + "/", planted: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member in planted or []:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(path: Path | str) -> Dataset:
    return load(str(path), cache=Path("/never/used"))


def refused(path: Path | str, code: Exit = Exit.DATA) -> str:
    with pytest.raises(JobError) as raised:
        read(path)
    assert raised.value.code == code
    assert "Traceback" not in str(raised.value)
    return str(raised.value)


def test_pixels_and_labels_are_where_the_layout_says(tmp_path: Path, files: Files) -> None:
    dataset = read(write_folder(tmp_path, files))
    assert (len(dataset.train), len(dataset.test)) == (330, 20)
    record = files["data_batch_2.bin"][290 * RECORD : 291 * RECORD]  # image 30 + 290, in the second block of its file
    image = dataset.train.images[320]
    for channel in range(3):
        assert image[5, 7, channel] == record[1 + channel * 1024 + 5 * 32 + 7]
    assert dataset.train.labels[320] == record[0]
    assert dataset.test.images[0, 0, 0, 0] == files[TEST_FILE][1]
    assert dataset.classes == tuple(OWN_CLASSES)


def test_folder_and_archive_in_every_allowed_layout_are_the_same_dataset(tmp_path: Path, files: Files) -> None:
    layouts = [
        write_folder(tmp_path / "flat", files),
        write_folder(tmp_path / "nested" / FOLDER, files).parent,
        write_archive(tmp_path / "own.tar.gz", files),
        write_archive(tmp_path / "flat.tgz", files, prefix=""),
        write_archive(tmp_path / "dotted.tar.gz", files, prefix=f"./{FOLDER}/"),
        write_archive(tmp_path / "reversed.tar.gz", dict(reversed(files.items()))),
    ]
    datasets = [read(layout) for layout in layouts]
    assert len({dataset.fingerprint for dataset in datasets}) == 1
    assert [dataset.name for dataset in datasets] == ["flat", "nested", "own", "flat", "dotted", "reversed"]
    assert [dataset.source for dataset in datasets] == [str(layout) for layout in layouts]
    used = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "readme.html"}
    assert all(dataset.checksums == used for dataset in datasets)


def test_the_fingerprint_follows_from_the_arrays_alone_and_sees_every_one(tmp_path: Path, files: Files) -> None:
    dataset = read(write_folder(tmp_path, files))
    splits = (dataset.train, dataset.test)
    whole = b"".join(array.tobytes() for split in splits for array in (split.images, split.labels))
    assert dataset.fingerprint == hashlib.sha256(whole).hexdigest()
    for split in splits:
        for array in (split.images, split.labels):
            array.flat[-1] ^= 1
            changed = Dataset(name="x", train=dataset.train, test=dataset.test, classes=CLASSES, source="", checksums={})
            assert changed.fingerprint != dataset.fingerprint
            array.flat[-1] ^= 1


def test_the_fingerprint_is_computed_once_without_a_copy(tmp_path: Path) -> None:
    dataset = read(write_folder(tmp_path, {"data_batch_1.bin": records(1000, 1), TEST_FILE: records(10, 2)}))
    tracemalloc.start()
    first = dataset.fingerprint
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    dataset.train.labels[0] ^= 1
    assert dataset.fingerprint is first


def test_an_archive_is_read_without_a_second_copy(tmp_path: Path) -> None:
    files = {f"data_batch_{n}.bin": bytes(1500 * RECORD) for n in range(1, 6)} | {TEST_FILE: bytes(1500 * RECORD)}
    path = write_archive(tmp_path / "own.tar.gz", files)
    size = sum(map(len, files.values()))
    del files
    tracemalloc.start()
    dataset = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset.train) == 7500
    assert peak < 1.15 * size  # less than one of the six files on top


def test_classes_are_the_known_ones_where_the_source_names_none(tmp_path: Path, files: Files) -> None:
    del files[CLASSES_FILE]
    assert read(write_folder(tmp_path, files)).classes == CLASSES


def drop(name: str) -> Callable[[Files], None]:
    return lambda files: files.pop(name) and None


def replaced(name: str, content: bytes) -> Callable[[Files], None]:
    return lambda files: files.update({name: content})


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (replaced(TEST_FILE, b""), [TEST_FILE, "0 bytes", "3073"]),
        (replaced("data_batch_1.bin", records(30, 1)[:-1]), ["data_batch_1.bin", f"{30 * RECORD - 1} bytes", "3073"]),
        (
            replaced("data_batch_2.bin", records(300, 1)[: 299 * RECORD] + b"\x0a" + bytes(3072)),
            ["data_batch_2.bin", "record 299", "label 10"],
        ),
        (replaced(TEST_FILE, b"\xff" * RECORD), [TEST_FILE, "record 0", "label 255", "0 to 9"]),
        (drop(TEST_FILE), [TEST_FILE, "missing", FOLDER]),
        (drop("data_batch_1.bin"), ["data_batch_1.bin is missing"]),
        (replaced("data_batch_4.bin", records(1, 4)), ["data_batch_3.bin is missing"]),
        (replaced(CLASSES_FILE, b"cat\ndog\n"), [CLASSES_FILE, "2 class names", "10 names"]),
        (replaced(CLASSES_FILE, b"cat\n" * 10), [CLASSES_FILE, "1 of them different"]),
        (replaced(CLASSES_FILE, b"\xff\xfe"), [CLASSES_FILE, "1 class names"]),
    ],
    ids=["empty", "size", "label", "first-label", "no-test", "no-train", "gap", "few-classes", "same-classes", "not-text"],
)
def test_a_damaged_file_is_named_with_what_was_found_and_expected(
    tmp_path: Path, files: Files, damage: Callable[[Files], None], named: list[str]
) -> None:
    damage(files)
    for path in (write_folder(tmp_path / "own", files), write_archive(tmp_path / "own.tar.gz", files)):
        text = refused(path)
        for word in [str(path), "Expected", "--data cifar10", *named]:
            assert word in text


def test_an_empty_folder_lacks_the_first_file(tmp_path: Path) -> None:
    assert "none of CIFAR-10's files is there" in refused(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_a_missing_file(tmp_path: Path, files: Files) -> None:
    del files["data_batch_2.bin"]
    (write_folder(tmp_path, files) / "data_batch_2.bin").mkdir()
    assert len(read(tmp_path).train) == 30


def test_a_file_that_ends_early_while_it_is_read_is_named() -> None:
    place = Split(images=np.empty((300, 32, 32, 3), np.uint8), labels=np.empty(300, np.uint8))
    with pytest.raises(JobError, match=rf"data_batch_1\.bin: ends after {299 * RECORD + 5} bytes.*{300 * RECORD}") as raised:
        cifar_binary._fill(place, io.BytesIO(records(300, 1)[: 299 * RECORD + 5]), Path("data_batch_1.bin"))
    assert raised.value.code == Exit.DATA


def test_an_unreadable_file_is_named(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, files)

    def no_access(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", no_access)
    text = refused(tmp_path)
    assert f"{tmp_path / CLASSES_FILE}: could not be read (Permission denied)" in text


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "planted",
    [
        member("../x"),
        member(f"{FOLDER}/../../x"),
        member("/etc/x"),
        member(f"{FOLDER}/data_batch_1.bin", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, f"{FOLDER}/{TEST_FILE}"),
        member("pipe", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
        member("block", tarfile.BLKTYPE),
        member("sparse", tarfile.GNUTYPE_SPARSE),
        member("../folder", tarfile.DIRTYPE),
    ],
    ids=lambda planted: planted.name,
)
def test_planted_members_are_refused_by_name(tmp_path: Path, files: Files, planted: tarfile.TarInfo) -> None:
    path = write_archive(tmp_path / "own.tar.gz", files, planted=[planted])
    before = sorted(tmp_path.rglob("*"))
    assert f"{path}: {planted.name}: " in refused(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_and_other_files_in_an_archive_are_ignored_and_a_file_given_twice_is_not(tmp_path: Path, files: Files) -> None:
    harmless = [
        member(FOLDER, tarfile.DIRTYPE),
        member(f"elsewhere/{TEST_FILE}"),
        member("notes.txt"),
        member("data_batch_3.bin", tarfile.DIRTYPE),
    ]
    read(write_archive(tmp_path / "own.tar.gz", files, planted=harmless))
    assert f"{TEST_FILE}: there twice" in refused(write_archive(tmp_path / "two.tar.gz", files, planted=[member(TEST_FILE)]))


@pytest.mark.parametrize("kept", [0, 5, 0.3, 0.9, -9, -1], ids=str)
def test_a_cut_archive_is_refused(tmp_path: Path, files: Files, kept: float) -> None:
    path = write_archive(tmp_path / "own.tar.gz", files)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    assert str(path) in refused(path)


def test_damage_after_the_last_file_of_an_archive_is_refused(tmp_path: Path, files: Files) -> None:
    path = write_archive(tmp_path / "own.tar.gz", files)
    path.write_bytes(path.read_bytes() + gzip.compress(b"")[:10] + b"\x07")  # a second gzip member, with a block type that does not exist
    assert "invalid block type" in refused(path)


def test_an_archive_cut_before_it_was_packed_is_refused(tmp_path: Path, files: Files) -> None:
    path = write_archive(tmp_path / "own.tar.gz", files)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:500_000], 1))
    assert "not a whole .tar.gz archive" in refused(path)


def test_a_header_that_tarfile_itself_stumbles_over_is_refused(tmp_path: Path, files: Files) -> None:
    broken = member("sparse")
    broken.size = 512
    broken.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}  # promises a map that is not there: a ValueError in tarfile
    path = tmp_path / "own.tar.gz"
    write_archive(path, files, planted=[broken])
    assert f"{path}: not a whole .tar.gz archive" in refused(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_in_an_archive_changes_nothing_or_is_refused(tmp_path: Path, place: float, bit: int) -> None:
    path = write_archive(tmp_path / "own.tar.gz", {"data_batch_1.bin": records(5, 1), TEST_FILE: records(5, 2)})
    intact = read(path).fingerprint
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        same = read(path).fingerprint == intact  # the header has a time stamp and the like
    except JobError as error:
        same = error.code == Exit.DATA and str(path) in str(error)
    assert same


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=64), copies=st.integers(0, 200), tail=st.binary(max_size=3))
def test_any_bytes_are_either_whole_records_with_valid_labels_or_refused(tmp_path: Path, content: bytes, copies: int, tail: bytes) -> None:
    batch = content * copies + tail
    write_folder(tmp_path, {"data_batch_1.bin": batch, TEST_FILE: records(1, 1)})
    if batch and len(batch) % RECORD == 0 and max(batch[::RECORD]) <= 9:
        assert read(tmp_path).train.labels.tolist() == list(batch[::RECORD])
    else:
        assert "data_batch_1.bin" in refused(tmp_path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(0, 255) | st.integers(0, 9), min_size=1, max_size=6), extra=st.sampled_from([0, 0, 0, 1, RECORD - 1]))
def test_records_are_accepted_exactly_when_whole_and_labelled_0_to_9(tmp_path: Path, labels: list[int], extra: int) -> None:
    batch = b"".join(bytes([label]) + bytes(RECORD - 1) for label in labels) + bytes(extra)
    write_folder(tmp_path, {"data_batch_1.bin": batch, TEST_FILE: records(1, 1)})
    if extra == 0 and max(labels) <= 9:
        assert read(tmp_path).train.labels.tolist() == labels
    else:
        assert "data_batch_1.bin" in refused(tmp_path)


@pytest.mark.parametrize("source", ["cifar-10", "", "CIFAR10", "/no/such/place", "~nobody-here/x", "x" * 5000, "a\0b"], ids=lambda s: s[:9])
def test_an_unknown_source_is_answered_with_what_is_allowed(source: str) -> None:
    text = refused(source, Exit.USAGE)
    for word in ("cifar10", "digits", ".tar.gz", "s3://"):
        assert word in text


def test_a_web_address_as_source_points_to_mirror_and_is_not_repeated() -> None:
    text = refused("https://user:5ecret@host/cifar-10-binary.tar.gz?sig=5ecret", Exit.USAGE)
    assert "--mirror URL" in text
    assert "5ecret" not in text


def test_s3_sources_are_recorded_without_secrets(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, calls = write_archive(tmp_path / "fetched", files), []

    def fetch(url: str, cache: Path, progress: None) -> Path:
        calls.append((url, cache))
        return archive

    monkeypatch.setattr(sources, "open_store", str)
    monkeypatch.setattr(sources, "fetch_dataset", fetch)
    dataset = load("s3://key:secret@bucket/mine.tar.gz", cache=tmp_path)
    assert calls == [("s3://key:secret@bucket/mine.tar.gz", tmp_path)]
    assert (dataset.name, dataset.source) == ("mine", "s3://bucket/mine.tar.gz")
    assert dataset.fingerprint == read(archive).fingerprint


@pytest.mark.parametrize(
    ("mirror", "url"),
    [
        (None, "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),
        ("", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),  # an environment variable that is set to nothing
        ("https://host/c.tar.gz?sig=5ecret", "https://host/c.tar.gz?sig=5ecret"),
        ("https://host/data/", "https://host/data/cifar-10-binary.tar.gz"),
    ],
)
def test_cifar10_is_downloaded_into_the_cache_and_verified(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch, mirror: str | None, url: str
) -> None:
    calls = {}

    def download(url: str, target: Path, **options: object) -> Path:
        calls.update(options, url=url, target=target)
        return write_archive(target, files)

    monkeypatch.setattr(sources, "download", download)
    dataset = load("cifar10", cache=tmp_path, mirror=mirror)
    assert calls["url"] == url
    assert calls["target"] == tmp_path / "cifar-10-binary.tar.gz"
    assert calls["sha256"] == dataset.checksums["cifar-10-binary.tar.gz"] == sources.SHA256
    assert calls["md5"] == "c32a1d4ab5d03f1284b67883e8d87530"
    assert (dataset.name, dataset.source) == ("cifar10", url.partition("?")[0])
    assert TEST_FILE in dataset.checksums


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", cache=Path("/never/used"))


def test_digits_never_change(digits: Dataset) -> None:
    assert digits.fingerprint == DIGITS
    assert (digits.name, digits.classes) == ("digits", tuple("0123456789"))


def test_digits_are_split_once_and_evenly(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.test)) == (1442, 355)
    in_train, in_test = np.bincount(digits.train.labels), np.bincount(digits.test.labels)
    assert len(in_train) == len(in_test) == 10
    assert ((in_train + in_test) // 5 == in_test).all()
    original = np.load(Path(sources.__file__).parent / "digits" / "digits.npz")
    expected = Counter((label, image.tobytes()) for label, image in zip(original["labels"], original["images"], strict=True))
    shrunk = [
        (label, ((image[::4, ::4, 0].astype(int) * 16 + 254) // 255).astype(np.uint8).tobytes())
        for split in (digits.train, digits.test)
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    assert Counter(shrunk) == expected  # every original once, in one of the two


def test_digits_are_enlarged_without_inventing_pixels(digits: Dataset) -> None:
    images = digits.train.images
    assert (images.min(), images.max()) == (0, 255)
    blocks = images.reshape(-1, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()


def test_a_subset_is_the_first_images_under_its_own_name(digits: Dataset) -> None:
    small = subset(digits, 200)
    assert small.name == "digits[:200]"
    assert (len(small.train), len(small.test)) == (200, 40)
    assert (small.train.images == digits.train.images[:200]).all()
    assert (small.test.labels == digits.test.labels[:40]).all()
    assert small.fingerprint != digits.fingerprint
    assert small.train.images.base is None  # the large arrays can be freed
    assert len(subset(digits, 3).test) == 1


@pytest.mark.parametrize(("n", "word"), [(0, "training"), (-5, "training"), (1443, "training")])
def test_a_subset_of_more_than_there_is_is_wrong_usage(digits: Dataset, n: int, word: str) -> None:
    with pytest.raises(JobError, match=rf"{n} .*{word} images: digits has 1442") as raised:
        subset(digits, n)
    assert raised.value.code == Exit.USAGE


def test_a_subset_needs_its_test_images_too(tmp_path: Path, files: Files) -> None:
    with pytest.raises(JobError, match="takes 60 test images: own has 20"):
        subset(read(write_folder(tmp_path / "own", files)), 300)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 32, 32, 3), np.float32), np.zeros(2, np.uint8)),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 32, 32, 3), np.uint8)[:, ::-1], np.zeros(2, np.uint8)),
    ],
    ids=["count", "channels-first", "float", "labels", "view"],
)
def test_a_split_of_other_arrays_is_a_value_error(images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be contiguous uint8 of shape"):
        Split(images=images, labels=labels)
