"""`alexnet pull`: whole, verified, and again without fetching what is there."""

from pathlib import Path

import pytest

from job.core.exits import Exit, JobError
from job.runs.pull import Pull
from job.runs.run import Run
from job.storage.errors import NotFound
from job.storage.files import encoded, sha256_of
from job.storage.folder import FolderStore

CHECKPOINT = "checkpoints/step-00000010-0001-abcdef"
FINAL = "final/0001-abcdef"
PAYLOAD = {
    f"{CHECKPOINT}/model.safetensors": b"m" * 1000,
    f"{CHECKPOINT}/state.json": b"{}",
    f"{FINAL}/predictions.npz": b"p" * 500,
    f"{FINAL}/plots/loss.png": b"l" * 300,
}


class Counting(FolderStore):
    """Remembers what was downloaded, in order."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: list[str] = []

    def download(self, key: str, path: Path) -> None:
        super().download(key, path)
        self.fetched.append(key.removeprefix("r/"))


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    """A finished run."""
    made = Counting(tmp_path / "store")
    for key, data in PAYLOAD.items():
        made.put(f"r/{key}", data)

    def facts(prefix: str) -> dict[str, dict[str, object]]:
        names = [key.removeprefix(f"{prefix}/") for key in PAYLOAD if key.startswith(prefix)]
        return {name: {"size": len(PAYLOAD[f"{prefix}/{name}"]), "sha256": sha256_of(PAYLOAD[f"{prefix}/{name}"])} for name in names}

    made.put("r/run.json", encoded({"seed": 0}))
    made.put("r/attempts/0001-abcdef/resources-0001.jsonl", b"{}\n")
    made.put(f"r/{CHECKPOINT}/MANIFEST.json", encoded({"files": facts(CHECKPOINT)}))
    made.put("r/summary.json", encoded({"attempt": "0001-abcdef", "final": facts(FINAL), "model": f"{CHECKPOINT}/model.safetensors"}))
    return made


def pull(store: FolderStore, folder: Path) -> str:
    said: list[str] = []
    Pull(Run(store, "r"), folder, said.append).run()
    return said[-1]


def refused(store: FolderStore, folder: Path, *texts: str, code: Exit = Exit.DATA) -> None:
    with pytest.raises(JobError) as caught:
        pull(store, folder)
    assert caught.value.code is code
    for text in texts:
        assert text in str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_comes_promises_last(store: Counting, tmp_path: Path) -> None:
    assert "8 of 8 objects fetched" in pull(store, tmp_path / "here")
    assert contents(tmp_path / "here") == contents(store.root)
    assert {*store.fetched[-2:]} == {f"{CHECKPOINT}/MANIFEST.json", "summary.json"}


def test_again(store: Counting, tmp_path: Path) -> None:
    pull(store, tmp_path / "here")
    store.fetched.clear()
    assert "4 verified" in pull(store, tmp_path / "here")
    assert not {key for key in store.fetched if not key.endswith(".json")}, "payload was fetched again"
    assert contents(tmp_path / "here") == contents(store.root)


def test_what_is_damaged_or_missing_here_is_mended(store: Counting, tmp_path: Path) -> None:
    pull(store, tmp_path / "here")
    (tmp_path / "here" / "r" / CHECKPOINT / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "here" / "r" / FINAL / "predictions.npz").unlink()
    pull(store, tmp_path / "here")
    assert contents(tmp_path / "here") == contents(store.root)


def test_damage_in_the_store_is_named_and_the_rest_comes(store: Counting, tmp_path: Path) -> None:
    store.put(f"r/{CHECKPOINT}/model.safetensors", b"x" * 1000)
    store.delete(f"r/{FINAL}/plots/loss.png")
    refused(store, tmp_path / "here", f"{CHECKPOINT}/model.safetensors has SHA-256", f"{FINAL}/plots/loss.png is missing")
    expected = contents(store.root)
    del expected[f"r/{CHECKPOINT}/model.safetensors"]
    assert contents(tmp_path / "here") == expected


@pytest.mark.parametrize("key", ["summary.json", f"{CHECKPOINT}/MANIFEST.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b'{"files": 1, "final": {"a": {}}}'])
def test_a_damaged_promise(key: str, content: bytes, store: Counting, tmp_path: Path) -> None:
    store.put(f"r/{key}", content)
    refused(store, tmp_path / "here", key)


def test_a_checkpoint_that_the_run_clears_away_meanwhile(store: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Counting.download

    def download(self: Counting, key: str, path: Path) -> None:
        if CHECKPOINT in key:
            raise NotFound(key)
        whole(self, key, path)

    monkeypatch.setattr(Counting, "download", download)
    assert "5 of 8 objects fetched" in pull(store, tmp_path / "here")
    assert not (tmp_path / "here" / "r" / CHECKPOINT).exists()
    assert (tmp_path / "here" / "r" / "summary.json").exists()


def test_into_itself(store: Counting) -> None:
    refused(store, store.root, "already", code=Exit.USAGE)
