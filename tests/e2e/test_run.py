"""The protocol of two attempts stepped through by hand, and checkpoints damaged in every place: in a folder and in a bucket."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.exits import Exit, JobError
from job.runs.checkpoint import CHECKPOINT_FILES, CheckpointName
from job.runs.leftovers import SpoolFolders
from job.runs.run import Run
from job.runs.spool import Spool
from job.storage.files import encoded
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.records import checkpoint_state, claim, interval_line, run_record, summary

FILES = (*CHECKPOINT_FILES, "MANIFEST.json")


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty one."""
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    for name, value in request.getfixturevalue("server").environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://results/{uuid4().hex}")


@pytest.fixture
def go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until it is set, no file of a checkpoint gets into the store."""
    event, way = threading.Event(), "move" if isinstance(store, FolderStore) else "put"
    real = getattr(store, way)

    def held_up(*words: Path | str) -> None:
        assert not any("checkpoints" in str(word) for word in words) or event.wait(20)
        real(*words)

    monkeypatch.setattr(store, way, held_up)
    return event


def attempt(store: Store, run: str = "r") -> Run:
    made = Run(store, run)
    made.store.put_if_absent(made.key("run.json"), encoded(run_record()))
    made.claim(claim())
    return made


def checkpoint(run: Run, spool: Spool, step: int, content: str, best: str | None = None) -> str:
    """Hand one over, as the training loop does."""
    name = str(CheckpointName(step=step, attempt=run.attempt))
    folder = spool.path("checkpoints", name, "state.json").parent
    for file in CHECKPOINT_FILES:
        (folder / file).write_text(json.dumps({"step": step, "file": file, "by": content}))
    (folder / "state.json").write_bytes(encoded(checkpoint_state(step, best)))
    (folder / "metrics.jsonl").write_text(json.dumps(interval_line(step)) + "\n")
    spool.add_checkpoint(folder, step, best)
    return name


def spool_of(run: Run, tmp_path: Path) -> Spool:
    return Spool(run, SpoolFolders(run, run_record(), tmp_path / "spool"), limit=1 << 30, patience=20.0, say=lambda _: None)


def flushed(spool: Spool) -> None:
    assert spool.flush(lambda: time.monotonic() + 20)


def store_all(run: Run, spool: Spool, steps: tuple[int, ...], content: str) -> None:
    """A checkpoint of each step, one after the other."""
    for step in steps:
        checkpoint(run, spool, step, content)
        flushed(spool)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A run with two checkpoints, of steps 10 and 20: key → content."""
    folder = tmp_path_factory.mktemp("stored")
    store = FolderStore(folder / "store")
    run = attempt(store)
    spool = spool_of(run, folder)
    store_all(run, spool, (10, 20), "a")
    spool.close()
    return {entry.key: store.get(entry.key) for entry in store.list()}


def restored(stored: dict[str, bytes], store: Store) -> Store:
    for key, content in stored.items():
        store.put(key, content)
    return store


def newest(store: Store, folder: Path) -> tuple[int, list[str]]:
    said: list[str] = []
    found = Run(store, "r").newest_checkpoint(folder / "resume", said.append)
    return (found.state["progress"]["step"] if found else -1), said


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(FILES),
    how=st.sampled_from(["flip", "cut", "delete"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_damage_to_the_newest_leads_to_the_one_before(
    stored: dict[str, bytes], store: Store, tmp_path: Path, file: str, how: str, place: float, bit: int
) -> None:
    restored(stored, store)
    key = next(k for k in stored if k.startswith("r/checkpoints/step-00000020") and k.endswith(f"/{file}"))
    content = bytearray(stored[key])
    at = int(place * len(content))
    if how == "delete":
        store.delete(key)
    else:
        store.put(key, bytes(content[:at]) if how == "cut" else bytes([*content[:at], content[at] ^ (1 << bit), *content[at + 1 :]]))
    step, said = newest(store, tmp_path)
    if step == 20:  # the damage left the manifest's meaning as it was: a blank, say, or its last line break
        assert file == "MANIFEST.json"
        assert how != "delete"
        assert json.loads(store.get(key))["files"].keys() == json.loads(content)["files"].keys()
        return
    assert step == 10
    assert len(said) == 1
    assert "step-00000020" in said[0]
    assert "is left out" in said[0]


def test_undamaged_the_newest_is_taken(stored: dict[str, bytes], store: Store, tmp_path: Path) -> None:
    assert newest(restored(stored, store), tmp_path) == (20, [])


def test_a_manifest_cannot_lead_out_of_the_folder(stored: dict[str, bytes], store: Store, tmp_path: Path) -> None:
    restored(stored, store)
    key = next(k for k in stored if k.startswith("r/checkpoints/step-00000020") and k.endswith("MANIFEST.json"))
    manifest = json.loads(stored[key])
    manifest["files"]["../../../evil"] = manifest["files"].pop("state.json")
    store.put(key, json.dumps(manifest).encode())
    step, said = newest(store, tmp_path)
    assert step == 10
    assert "../../../evil" in said[0]


def refusal(action) -> Exit:
    with pytest.raises(JobError) as caught:
        action()
    return caught.value.code


def test_the_older_attempt_leaves_at_its_next_look(store: Store) -> None:
    first = attempt(store)
    second = attempt(store)
    assert first.attempt[:4] == "0001"
    assert second.attempt[:4] == "0002"
    second.raise_if_superseded()
    assert refusal(first.raise_if_superseded) is Exit.SUPERSEDED


def test_two_claims_with_one_number_leave_one_attempt(store: Store) -> None:
    """Both list before either claims; the greater nonce stays, whoever looks first."""
    first, second = (Run(store, "r") for _ in range(2))
    first.attempt, second.attempt = "0001-aaaaaa", "0001-bbbbbb"
    for run in (first, second):
        run.store.put(run.key("attempts", run.attempt, "claim.json"), b"{}")
    second.raise_if_superseded()
    assert refusal(first.raise_if_superseded) is Exit.SUPERSEDED


def test_what_the_older_one_had_begun_is_neither_mixed_nor_taken(store: Store, tmp_path: Path) -> None:
    """It has put half of a checkpoint when the newer one takes over, and the rest afterwards: a greater step, by an older attempt."""
    first = attempt(store)
    name = f"step-00000030-{first.attempt}"
    first.store.put(first.key("checkpoints", name, "model.safetensors"), b"half")
    second = attempt(store)
    spool = spool_of(second, tmp_path)
    checkpoint(second, spool, 20, "second")
    flushed(spool)
    found = second.newest_checkpoint(tmp_path / "resume", lambda _: None)
    assert found is not None
    assert found.name == CheckpointName(step=20, attempt=second.attempt)
    assert b"second" in second.store.get(second.key("checkpoints", str(found.name), "model.safetensors"))
    spool.close()


def test_the_older_one_publishes_nothing_after_the_take_over(store: Store, tmp_path: Path) -> None:
    first = attempt(store)
    spool = spool_of(first, tmp_path)
    second = attempt(store)
    checkpoint(first, spool, 40, "first")
    end = time.monotonic() + 10
    while spool.failure is None and time.monotonic() < end:
        time.sleep(0.01)
    assert refusal(spool.check) is Exit.SUPERSEDED
    assert second.checkpoint_names() == []
    spool.close()


def test_a_take_over_in_the_middle_of_a_delivery(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer one clears away what has arrived so far; what comes later must not be vouched for."""
    first = attempt(store)
    spool = spool_of(first, tmp_path)
    deliver = spool._deliver_file

    def deliver_and_hang(file: Path) -> None:
        deliver(file)
        if file.name == CHECKPOINT_FILES[0]:
            attempt(store)
            store.delete(file.relative_to(spool.folder).as_posix())

    monkeypatch.setattr(spool, "_deliver_file", deliver_and_hang)
    name = checkpoint(first, spool, 40, "first")
    with pytest.raises(JobError) as caught:
        flushed(spool)
    assert caught.value.code is Exit.SUPERSEDED
    assert not store.list(first.key("checkpoints", name, "MANIFEST.json"))
    spool.close()


def test_the_older_one_prunes_nothing(store: Store, tmp_path: Path) -> None:
    first = attempt(store)
    spool = spool_of(first, tmp_path)
    store_all(first, spool, (10, 20), "first")
    second = attempt(store)
    assert refusal(lambda: first.prune(None)) is Exit.SUPERSEDED
    assert len(second.checkpoint_names()) == 2
    spool.close()


def test_one_summary_whoever_is_quicker(store: Store) -> None:
    """Both looked before either put: the second finds the first's, and ends with 0."""
    first, second = attempt(store), Run(store, "r")
    second.attempt = first.attempt
    first.raise_if_superseded()
    second.raise_if_superseded()
    first.commit(summary(steps=1))
    assert refusal(lambda: second.commit(summary(steps=2))) is Exit.DONE
    stored = second.summary()
    assert stored is not None
    assert stored["steps"] == 1


def test_a_finished_run_ends_everybody(store: Store) -> None:
    first = attempt(store)
    first.commit(summary(attempt=first.attempt))
    late = Run(store, "r")
    assert refusal(lambda: late.claim(claim())) is Exit.DONE


def test_two_stay_and_the_best(store: Store, tmp_path: Path) -> None:
    run = attempt(store)
    spool = spool_of(run, tmp_path)
    best = None
    for step in (10, 20, 30, 40):
        name = checkpoint(run, spool, step, "a", best)
        best = best or name
        flushed(spool)
    assert steps_in(store) == [10, 30, 40]
    spool.close()


def test_what_a_kept_one_calls_the_best_stays(store: Store, tmp_path: Path) -> None:
    """The newest may turn out damaged: then the one before is continued from, and may end with its best."""
    run = attempt(store)
    spool = spool_of(run, tmp_path)
    first = f"step-00000010-{run.attempt}"
    for step, best in ((10, first), (20, first), (30, first), (40, f"step-00000040-{run.attempt}")):
        checkpoint(run, spool, step, "a", best)
        flushed(spool)
    assert steps_in(store) == [10, 30, 40]
    spool.close()


def test_damaged_ones_do_not_drive_out_good_ones(store: Store, tmp_path: Path) -> None:
    first = attempt(store)
    spool = spool_of(first, tmp_path)
    store_all(first, spool, (10, 20), "first")
    spool.close()
    checkpoints = {step: CheckpointName(step=step, attempt=first.attempt) for step in (10, 20)}
    store.put(first.key("checkpoints", str(checkpoints[20]), "model.safetensors"), b"damaged")
    second = attempt(store)
    found = second.newest_checkpoint(tmp_path / "resume", lambda _: None)
    assert found is not None
    assert found.name == checkpoints[10]
    spool = spool_of(second, tmp_path)
    checkpoint(second, spool, 15, "second")
    flushed(spool)
    assert steps_in(store) == [10, 15, 20]
    store_all(second, spool, (25, 30), "second")
    assert steps_in(store) == [25, 30]
    spool.close()


def test_a_take_over_in_the_middle_of_a_prune(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older attempt has looked, and then hangs; what the newer one stores meanwhile, and commits, is not the older one's to delete."""
    first = attempt(store)
    spool = spool_of(first, tmp_path)
    store_all(first, spool, (10, 20), "first")
    real_look = first.raise_if_superseded
    best = []

    def look_and_hang() -> None:
        real_look()
        second = attempt(store)
        newer = spool_of(second, tmp_path)
        for step in (30, 40, 50):
            name = checkpoint(second, newer, step, "second", best[0] if best else f"step-00000030-{second.attempt}")
            best.append(name)
            flushed(newer)
        newer.close()
        second.commit(summary(model=f"checkpoints/{best[0]}/model.safetensors"))

    monkeypatch.setattr(first, "raise_if_superseded", look_and_hang)
    first.prune(None)
    assert steps_in(store) == [30, 40, 50]
    spool.close()


def test_when_time_is_short_only_the_newest_and_its_best_are_delivered(store: Store, go_on: threading.Event, tmp_path: Path) -> None:
    run = attempt(store)
    spool = spool_of(run, tmp_path)
    try:
        best = f"step-00000020-{run.attempt}"
        for step in (10, 20, 30, 40, 50):
            checkpoint(run, spool, step, "a", best if step >= 20 else None)
            while step == 10 and spool.begun_checkpoint_age() is None:
                time.sleep(0.01)
        spool.drop_stale_checkpoints()
        go_on.set()
        flushed(spool)
        assert spool.stored_step == 50
        assert steps_in(store) in ([20, 50], [10, 20, 50])
    finally:
        go_on.set()
        spool.close()


def steps_in(store: Store) -> list[int]:
    """Of the checkpoints that have objects."""
    return sorted({int(entry.key.split("/")[2].split("-")[1]) for entry in store.list("r/checkpoints/")})


def test_a_checkpoint_that_vanishes_is_looked_for_again(store: Store, stored: dict[str, bytes], tmp_path: Path) -> None:
    """While it reads, a living attempt publishes a newer one and clears the old ones away."""
    restored(stored, store)
    reader = Run(store, "r")
    names = reader.checkpoint_names()
    listed = iter([names, [replace(names[0], step=30)], []])
    for key, content in stored.items():
        if "step-00000020" in key:
            store.put(key.replace("step-00000020", "step-00000030"), content)
            store.delete(key)
    reader.checkpoint_names = lambda: next(listed)  # type: ignore[method-assign]
    found = reader.newest_checkpoint(tmp_path / "resume", lambda _: None)
    assert found is not None
    assert found.name.step == 30


def test_small_objects_do_not_wait_behind_a_checkpoint(store: Store, go_on: threading.Event, tmp_path: Path) -> None:
    run = attempt(store)
    spool = spool_of(run, tmp_path)
    try:
        name = checkpoint(run, spool, 10, "a")
        key = run.key("attempts", run.attempt, "resources-0001.jsonl")
        segment = spool.path("attempts", run.attempt, "resources-0001.jsonl")
        segment.write_text("{}\n")
        spool.add(segment)
        end = time.monotonic() + 20
        while key in spool.missing() and time.monotonic() < end:
            time.sleep(0.01)
        assert store.get(key) == b"{}\n"
        assert spool.missing() == [run.key("checkpoints", name, file) for file in sorted(CHECKPOINT_FILES)] + [
            run.key("checkpoints", name, "MANIFEST.json")
        ]
        assert not spool.flush(lambda: 0.0)
        go_on.set()
        flushed(spool)
        assert spool.stored_step == 10
    finally:
        go_on.set()
        spool.close()
