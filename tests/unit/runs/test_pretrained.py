"""`--init-from`: files of both formats, the digits in a name, damage, and pickles that try to run something."""

import io
import json
import pickle
import sys
import threading
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.exits import Exit, JobError
from job.core.pickles import Refused
from job.runs.pretrained import fetch_weights
from job.runs.tensorfile import read_tensors, write_tensors
from job.runs.torchfile import STORAGES, described
from job.storage.files import encoded, sha256
from tests.support.records import run_record, summary

SHAPES = {"features.0.weight": (2, 3, 1, 1), "features.0.bias": (2,), "classifier.6.weight": (1000, 2)}


class Tensor:
    """Stands for a torch.Tensor in a pickle."""

    def __init__(self, array: np.ndarray, storage: str = "FloatStorage", **changes: Any) -> None:
        self.array, self.storage = array, storage
        strides = tuple(s // array.itemsize for s in array.strides)
        self.facts = {"offset": 0, "shape": array.shape, "strides": strides} | changes


def torch_file(path: Path, value: Any, *, compression: int = zipfile.ZIP_STORED, order: bytes = b"little") -> Path:
    """As torch.save writes it."""
    named = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    saved = {name: sys.modules.get(name) for name in named}
    for owner, name in [("torch", n) for n in ("FloatStorage", "HalfStorage", "DoubleStorage", "BFloat16Storage", "LongStorage")] + [
        ("torch._utils", "_rebuild_tensor_v2")
    ]:
        setattr(named[owner], name, type(name, (), {"__module__": owner, "__qualname__": name}))
    arrays: list[bytes] = []

    class Identity:
        def __init__(self, tensor: Tensor) -> None:
            arrays.append(tensor.array.tobytes(order="A"))
            self.value = ("storage", getattr(named["torch"], tensor.storage), str(len(arrays) - 1), "cpu", tensor.array.size)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.value if isinstance(obj, Identity) else None

        def reducer_override(self, obj: Any) -> Any:
            if not isinstance(obj, Tensor):
                return NotImplemented
            facts = obj.facts
            arguments = (Identity(obj), facts["offset"], facts["shape"], facts["strides"], False, OrderedDict())
            return named["torch._utils"]._rebuild_tensor_v2, arguments

    sys.modules.update(named)
    try:
        Pickler(stream := io.BytesIO(), 2).dump(value)
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", order)
        for key, data in enumerate(arrays):
            archive.writestr(f"archive/data/{key}", data)
    return path


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def same(path: Path, arrays: dict[str, np.ndarray]) -> None:
    found = dict(read_tensors(path))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)


def refused(source: str | Path, code: Exit, *texts: str, cache: Path) -> None:
    with pytest.raises(JobError) as caught:
        fetch_weights(str(source), cache)
    assert caught.value.code is code
    for text in texts:
        assert text in str(caught.value)


def test_a_safetensors_file_is_used_as_it_is(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, SHAPES, "float32", arrays.items())
    assert fetch_weights(str(path), tmp_path / "cache") == path
    same(path, arrays)


@pytest.mark.parametrize(("kind", "number"), [("F64", "<f8"), ("F16", "<f2"), ("BF16", None)])
def test_other_precisions_become_float32(kind: str, number: str | None, tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    header, body, expected = {}, b"", {}
    for name, array in arrays.items():
        stored = (array.view("<u4") >> 16).astype("<u2") if number is None else array.astype(number)
        expected[name] = (stored.astype("<u4") << 16).view("<f4") if number is None else stored.astype(np.float32)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(body), len(body) + stored.nbytes]}
        body += stored.tobytes()
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    made = fetch_weights(str(path), tmp_path / "cache")
    assert made.is_relative_to(tmp_path / "cache")
    same(made, expected)


@pytest.mark.parametrize("container", [dict, OrderedDict])
def test_a_torch_file(container: Any, tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = torch_file(tmp_path / "model.pth", container((name, Tensor(array)) for name, array in arrays.items()))
    made = fetch_weights(str(path), tmp_path / "cache")
    same(made, arrays)
    assert fetch_weights(str(path), tmp_path / "cache") == made


def test_a_torch_file_of_strange_tensors(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Half precision, another order of the axes, and a counter, which is left out."""
    first = arrays["features.0.weight"]
    value = {
        "features.0.weight": Tensor(np.asfortranarray(first)),
        "features.0.bias": Tensor((arrays["features.0.bias"].view("<u4") >> 16).astype("<u2"), "BFloat16Storage"),
        "classifier.6.weight": Tensor(arrays["classifier.6.weight"].astype("<f2"), "HalfStorage"),
        "steps": Tensor(np.array(7, np.int64), "LongStorage"),
    }
    found = dict(read_tensors(fetch_weights(str(torch_file(tmp_path / "m.pth", value)), tmp_path / "cache")))
    assert sorted(found) == sorted(SHAPES)
    np.testing.assert_array_equal(found["features.0.weight"], first)
    np.testing.assert_array_equal(found["classifier.6.weight"], arrays["classifier.6.weight"].astype("<f2"))
    np.testing.assert_allclose(found["features.0.bias"], arrays["features.0.bias"], rtol=2**-7)


def test_big_endian_numbers(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    value = {name: Tensor(array.astype(">f4")) for name, array in arrays.items()}
    same(fetch_weights(str(torch_file(tmp_path / "m.pth", value, order=b"big")), tmp_path / "cache"), arrays)


class Evil:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path, protocol: int) -> None:
        self.path, self.protocol = path, protocol

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "as a value", "as a name"])
def test_a_malicious_pickle_is_refused_and_not_run(protocol: int, place: str, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    evil = Evil(mark, protocol)
    value = evil if place == "alone" else {"features.0.weight": evil} if place == "as a value" else {(evil,): 1}
    data = pickle.dumps(value, protocol)
    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    refused(path, Exit.DATA, "evil.pth", "Nothing in it was executed", cache=tmp_path / "cache")
    assert not mark.exists()
    if place != "as a name":  # what the test relies on: this pickle does run
        pickle.loads(data)  # noqa: S301
        assert mark.exists()


@pytest.mark.parametrize("name", ["builtins eval", "os system", "torch load", "torch._utils _rebuild_qtensor", "torch.hub load"])
def test_only_names_of_tensors_are_known(name: str) -> None:
    module, function = name.split()
    with pytest.raises(Refused, match="not allowed"):
        described(b"\x80\x02c" + f"{module}\n{function}\n".encode() + b".")
    with pytest.raises(Refused, match="not allowed"):
        described(b"\x80\x04" + b"".join(b"\x8c" + bytes([len(w)]) + w.encode() for w in (module, function)) + b"\x93.")


@pytest.mark.parametrize(
    "changes",
    [
        *({"offset": 1}, {"shape": (3, 3, 1, 1)}, {"strides": (4, 1, 1, 1)}, {"offset": -1}, {"strides": (-3, 1, 1, 1)}, {"shape": (2, 3)}),
        {"shape": (1 << 30, 1 << 30, 1, 1), "strides": (0, 0, 0, 0)},
    ],
    ids=str,
)
def test_a_tensor_beyond_its_storage(changes: dict[str, Any], tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Nothing outside the file's own numbers is ever read."""
    path = torch_file(tmp_path / "m.pth", {"features.0.weight": Tensor(arrays["features.0.weight"], **changes)})
    refused(path, Exit.DATA, "m.pth", cache=tmp_path / "cache")


def test_damaged_and_unsuitable_files(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    cache, value = tmp_path / "cache", {name: Tensor(array) for name, array in arrays.items()}
    whole = torch_file(tmp_path / "whole.pth", value).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:-100])
    refused(tmp_path / "cut.pth", Exit.DATA, "cut.pth", cache=cache)
    flipped = bytearray(whole)
    flipped[whole.index(arrays["features.0.weight"].tobytes())] ^= 1
    (tmp_path / "flipped.pth").write_bytes(flipped)
    refused(tmp_path / "flipped.pth", Exit.DATA, "flipped.pth", cache=cache)
    refused(torch_file(tmp_path / "packed.pth", value, compression=zipfile.ZIP_DEFLATED), Exit.DATA, "compressed", cache=cache)
    refused(torch_file(tmp_path / "list.pth", {"model": 3}), Exit.DATA, "something else", cache=cache)
    refused(torch_file(tmp_path / "vgg.pth", {"conv1.weight": Tensor(np.zeros(3, "<f4"))}), Exit.DATA, "conv1.weight", cache=cache)
    (tmp_path / "old.pth").write_bytes(pickle.dumps({}, 2))
    refused(tmp_path / "old.pth", Exit.DATA, "before version 1.6", cache=cache)
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    refused(tmp_path / "text.safetensors", Exit.DATA, "text.safetensors", cache=cache)
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", Exit.DATA, "empty", cache=cache)
    write_tensors(tmp_path / "cut.safetensors", SHAPES, "float32", arrays.items())
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-1])
    refused(tmp_path / "cut.safetensors", Exit.DATA, "does not fit", cache=cache)
    assert not list(cache.rglob("*.safetensors")), "half a conversion was left"


def test_the_digits_in_a_name(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = torch_file(tmp_path / "m.pth", {name: Tensor(array) for name, array in arrays.items()})
    right = path.rename(tmp_path / f"alexnet-owt-{sha256(path)[:8]}.pth")
    same(fetch_weights(str(right), tmp_path / "cache"), arrays)
    refused(right.rename(tmp_path / "alexnet-owt-7be5be79.pth"), Exit.DATA, "7be5be79", cache=tmp_path / "cache")


@pytest.mark.parametrize("source", ["", "nowhere.safetensors", "ftp://host/m.pth", "http:/host/m.pth"])
def test_what_is_not_there(source: str, tmp_path: Path) -> None:
    refused(source, Exit.USAGE, "--init-from", cache=tmp_path)


def make_run(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A finished run, as far as `--init-from` looks."""
    checkpoint = folder / "run" / "checkpoints" / "step-00000001-0001-abcdef"
    checkpoint.mkdir(parents=True)
    model = checkpoint / "model.safetensors"
    write_tensors(model, SHAPES, "float32", arrays.items())
    listed = {"model.safetensors": {"size": model.stat().st_size, "sha256": sha256(model)}}
    (checkpoint / "MANIFEST.json").write_bytes(encoded({"files": listed}))
    (folder / "run" / "run.json").write_bytes(encoded(run_record()))
    (folder / "run" / "summary.json").write_bytes(encoded(summary(model=f"checkpoints/{checkpoint.name}/model.safetensors")))
    return model


def test_the_model_of_a_run(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    model = make_run(tmp_path, arrays)
    same(fetch_weights(str(tmp_path / "run"), tmp_path / "cache"), arrays)
    model.write_bytes(model.read_bytes()[:-4] + b"\0\0\0\0")
    same(fetch_weights(str(tmp_path / "run"), tmp_path / "cache"), arrays)  # from the cache
    refused(tmp_path / "run", Exit.DATA, "its manifest says", cache=tmp_path / "another")
    model.unlink()
    refused(tmp_path / "run", Exit.DATA, "is missing", cache=tmp_path / "another")
    (tmp_path / "run" / "summary.json").unlink()
    refused(tmp_path / "run", Exit.USAGE, "has not ended", cache=tmp_path / "another")
    (tmp_path / "no-run").mkdir()
    refused(tmp_path / "no-run", Exit.USAGE, "there is no run", cache=tmp_path / "another")


def test_a_manifest_that_would_lead_elsewhere(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What is outside of the cache stays, whatever a bucket says."""
    model, mine = make_run(tmp_path, arrays), tmp_path / "mine.safetensors"
    mine.write_text("precious")
    listed = {"model.safetensors": {"size": model.stat().st_size, "sha256": f"{tmp_path}/mine"}}
    model.with_name("MANIFEST.json").write_bytes(encoded({"files": listed}))
    refused(tmp_path / "run", Exit.DATA, "sha256: expected a text of the form", cache=tmp_path / "cache")
    (tmp_path / "run" / "summary.json").write_bytes(encoded({**summary(), "model": "checkpoints/../../mine.safetensors"}))
    refused(tmp_path / "run", Exit.DATA, "model: expected a text of the form", cache=tmp_path / "cache")
    assert mine.read_text() == "precious"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = torch_file(tmp_path_factory.mktemp("torch") / "m.pth", {"a": Tensor(np.zeros(2, "<f4")), "b": Tensor(np.zeros((2, 2), "<f4"))})
    with zipfile.ZipFile(path) as archive:
        return archive.read("archive/data.pkl")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which it is served."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_from_the_web(tmp_path: Path, arrays: dict[str, np.ndarray], web: tuple[Path, str]) -> None:
    folder, url = web
    path = torch_file(folder / "m.pth", {name: Tensor(array) for name, array in arrays.items()})
    right = path.rename(folder / f"alexnet-owt-{sha256(path)[:8]}.pth")
    cache = tmp_path / "cache"
    same(fetch_weights(f"{url}/{right.name}", cache), arrays)
    right.unlink()
    same(fetch_weights(f"{url}/{right.name}", cache), arrays)  # from the cache, which its name vouches for
    (folder / "alexnet-owt-00000000.pth").write_bytes(b"PK")
    for _ in range(2):
        refused(f"{url}/alexnet-owt-00000000.pth", Exit.DATA, "00000000", cache=cache)
    assert not list(cache.rglob("*00000000*.pth")), "what is wrong stayed in the cache"
    refused(f"{url}/nowhere.pth", Exit.CONFIGURATION, "--init-from", "no such file", cache=cache)


def test_a_file_without_a_digest_is_fetched_anew(tmp_path: Path, arrays: dict[str, np.ndarray], web: tuple[Path, str]) -> None:
    folder, url = web
    for factor in (1, 2):
        changed = {name: array * np.float32(factor) for name, array in arrays.items()}
        write_tensors(folder / "m.safetensors", SHAPES, "float32", changed.items())
        same(fetch_weights(f"{url}/m.safetensors?token=5ecret", tmp_path / "cache"), changed)
    assert not [path for path in (tmp_path / "cache").rglob("*") if "5ecret" in path.name]


@settings(max_examples=400)
@given(data=st.data())
def test_any_damage_of_the_pickle_is_refused_or_harmless(data: st.DataObject, program: bytes) -> None:
    changed = bytearray(program)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["change", "delete", "insert"])):
            case "change":
                changed[place] = data.draw(st.integers(0, 255))
            case "delete":
                del changed[place]
            case _:
                changed.insert(place, data.draw(st.integers(0, 255)))
    try:
        found = described(bytes(changed))
    except Refused:
        return
    assert all(stored.kind in STORAGES for stored in found.values())
