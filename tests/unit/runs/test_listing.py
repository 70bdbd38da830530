"""`alexnet runs`: what a listing and one object tell of a run, in each state, and how many objects that takes."""

import json
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from job.cli.runs import runs
from job.core.exits import Exit, JobError
from job.core.validation import STEERING
from job.runs.listing import Row, list_runs, sorted_rows
from job.storage.files import encoded
from job.storage.folder import FolderStore
from job.storage.store import Entry
from tests.support.records import claim, end, run_record, status, summary

NOW = 2_000_000_000.0


class Counting(FolderStore):
    """A store whose clock is its own, and that counts what is read of which run."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()

    def now(self) -> float:
        return NOW

    def get(self, key: str, limit: int | None = None) -> bytes:
        found = super().get(key, limit)
        self.reads[key.split("/")[0]] += 1
        return found


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "results")


def put(store: FolderStore, key: str, value: Any, age: float = 0.0) -> None:
    """`age` seconds ago by the store's clock, which is far from the local one."""
    store.put(key, value if isinstance(value, bytes) else encoded(value))
    os.utime(store.root / key, (NOW - age, NOW - age))


def only(store: Counting) -> Row:
    (row,) = list_runs(store)
    assert store.reads == {row.run: 1}, "one object of each run at most is read"
    return row


def begun(store: FolderStore, run: str = "r", attempt: str = "0001-abcdef", age: float = 0.0) -> str:
    put(store, f"{run}/run.json", run_record(), age)
    put(store, f"{run}/attempts/{attempt}/claim.json", claim(), age)
    return f"{run}/attempts/{attempt}"


def test_a_finished_run(store: Counting) -> None:
    attempt = begun(store)
    put(store, f"{attempt}/status.json", status())
    put(store, f"{attempt}/end.json", end(0, "finished"))
    put(store, "r/summary.json", summary())
    assert only(store) == Row(
        run="r",
        state="finished",
        engine="torch",
        recipe="default",
        epoch=20,
        epochs=20,
        test_accuracy=0.9,
        images_per_second=900.0,
        speeds=[],
        seconds=summary()["wall_seconds"],
    )


def test_a_run_of_two_engines(store: Counting) -> None:
    speeds = [{"engine": name, "device": "cpu", "images_per_second": speed} for name, speed in (("torch", 120.0), ("tensorflow", 98.0))]
    steps = {"attempt": "0001-abcdef", "first_step": 1, "last_step": 2}
    contributions = [claim(engine=engine, **steps) for engine in ("torch", "torch", "tensorflow")]
    put(store, "r/summary.json", summary(contributions=contributions, speeds=speeds))
    row = only(store)
    assert (row.engine, row.speeds) == ("torch → tensorflow", speeds)
    shown = CliRunner().invoke(runs, [str(store.root)])
    assert re.search(r"torch → tensorflow +default +20/20 +90\.0 % +120 → 98 +1970-01-01 00:00 +\d.* finished", shown.output), shown.output


@pytest.mark.parametrize(("age", "state", "reason"), [(5, "running", None), (119, "running", None), (121, "interrupted", "killed")])
def test_a_run_at_work_and_one_that_fell_silent(age: float, state: str, reason: str | None, store: Counting) -> None:
    attempt = begun(store, age=5000)
    put(store, f"{attempt}/status.json", status(), age)
    row = only(store)
    assert (row.state, row.reason, row.epoch, row.epochs, row.engine, row.age) == (state, reason, 7, 20, "torch", age)
    assert (row.begun, row.seconds) == (NOW - 5000, 5000 - age)


def test_a_run_that_lives_and_takes_no_step(store: Counting) -> None:
    """Its heart beats every 30 s, whatever its device does."""
    attempt = begun(store, age=5000)
    for seconds, state in ((590, "running"), (720, "stalled")):
        put(store, f"{attempt}/status.json", status(last_step=NOW - seconds), 1)
        assert [row.state for row in list_runs(store)] == [state]
    FolderStore(store.root).put(f"{attempt}/status.json", encoded(status(last_step=time.time() - 725)))
    shown = CliRunner().invoke(runs, [str(store.root)])
    assert "stalled: no step for 12 min" in shown.output
    put(store, f"{attempt}/status.json", status(last_step=NOW - 720, step=7800), 1)
    assert [row.state for row in list_runs(store)] == ["running"], "all steps are taken: it publishes"


@pytest.mark.parametrize(("age", "state"), [(5, "running"), (500, "interrupted")])
def test_before_the_first_status(age: float, state: str, store: Counting) -> None:
    begun(store, age=age)
    row = only(store)
    assert (row.state, row.engine, row.epoch) == (state, "torch", None)


@pytest.mark.parametrize(
    ("code", "state"),
    [(c, "interrupted") for c in (143, 130, 74, 77, 69)] + [(c, "failed") for c in (76, 65, 78, 70, 71, 2)] + [(0, "finished")],
)
def test_an_attempt_that_ended(code: int, state: str, store: Counting) -> None:
    attempt = begun(store, age=900)
    put(store, f"{attempt}/status.json", status(), 600)
    put(store, f"{attempt}/end.json", end(code), 590)
    row = only(store)
    assert (row.state, row.reason, row.epoch, row.age) == (state, "so it was", 7, 590)


def test_every_exit_code_has_a_state(store: Counting) -> None:
    for code in Exit:
        put(store, f"{begun(store, f'run-{int(code)}')}/end.json", end(int(code)))
    assert {row.state for row in list_runs(store)} == {"finished", "interrupted", "failed"}


def test_the_newest_attempt_counts(store: Counting) -> None:
    put(store, f"{begun(store, attempt='0009-ffffff')}/end.json", end(76))
    put(store, f"{begun(store, attempt='0010-000000')}/status.json", status(epoch=9), 10)
    row = only(store)
    assert (row.state, row.epoch, row.age) == ("running", 9, 0)


def test_a_run_that_nobody_began(store: Counting) -> None:
    put(store, "r/run.json", run_record(recipe={"name": "mine", "epochs": 3}))
    row = only(store)
    assert (row.state, row.recipe, row.epochs, row.age) == ("interrupted", "mine", 3, None)


@pytest.mark.parametrize("key", ["summary.json", "attempts/0001-abcdef/end.json", "attempts/0001-abcdef/status.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"epochs": "\x1b[31m"}', b"[" + b" " * 2_000_000 + b"]"])
def test_one_damaged_run_does_not_hide_the_others(key: str, content: bytes, store: Counting) -> None:
    begun(store, "bad")
    put(store, f"bad/{key}", content)
    put(store, "good/summary.json", summary())
    bad, good = list_runs(store)
    assert (bad.run, bad.state) == ("bad", "damaged")
    assert key in (bad.reason or "")
    assert (good.run, good.state) == ("good", "finished")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(), v, max_size=2),
)


@given(st.sampled_from(["summary", "end", "status", "claim", "run"]), st.data())
def test_no_object_takes_down_the_listing_or_reaches_the_terminal(name: str, data: st.DataObject) -> None:
    """A sound record with some fields replaced by anything."""
    record: Any = {"summary": summary(), "end": end(70), "status": status(), "claim": claim(), "run": run_record()}[name]
    changed = {**record, **data.draw(st.dictionaries(st.sampled_from(sorted(record)), VALUES, max_size=3))}
    with tempfile.TemporaryDirectory() as folder:
        place = "bad/" if name in ("summary", "run") else "bad/attempts/0001-abcdef/"
        FolderStore(Path(folder)).put(f"{place}{name}.json", json.dumps(changed).encode())
        done = CliRunner().invoke(runs, [folder], catch_exceptions=False)
    assert done.exit_code == 0
    assert "bad" in done.output
    assert not STEERING.search(done.output.replace("\n", ""))


def test_a_run_of_a_newer_version(store: Counting) -> None:
    put(store, "r/summary.json", {"format": 2, "everything": "else"})
    row = only(store)
    assert (row.state, "its format is 2, this one reads 1" in str(row.reason)) == ("newer version", True)


def test_what_is_no_run(store: Counting) -> None:
    put(store, "data/data_batch_1.bin", b"x")
    put(store, "report.html", b"x")
    put(store, "-odd/summary.json", summary())
    assert list_runs(store) == []


def test_nothing_at_all(tmp_path: Path) -> None:
    assert list_runs(FolderStore(tmp_path / "nowhere")) == []


def test_a_run_whose_objects_vanish_meanwhile(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(store)
    gone = Entry(key="r/attempts/0001-abcdef/end.json", size=1, modified=NOW)
    monkeypatch.setattr(store, "list", lambda prefix: [gone])
    assert list_runs(store) == []


def shown(store: FolderStore, *words: str) -> list[str]:
    """Names of the runs in the table."""
    done = CliRunner().invoke(runs, [str(store.root), *words])
    assert done.exit_code == 0, done.output
    return [line.split()[0] for line in done.output.splitlines()[1:]]


def test_only_some_runs(store: Counting) -> None:
    for run, recipe, began in (("a", "default", 0.0), ("b", "digits", time.time() - 7200), ("c", "digits", time.time() - 60)):
        steps = {"attempt": "0001-abcdef", "first_step": 1, "last_step": 2}
        put(store, f"{run}/summary.json", summary(recipe=recipe, contributions=[claim(started=began, **steps)]))
    put(store, f"{begun(store, 'd')}/end.json", end(76))
    assert shown(store, "--sort", "begun") == ["d", "c", "b", "a"]
    assert shown(store, "--state", "failed") == ["d"]
    assert shown(store, "--state", "failed", "--state", "finished", "--recipe", "default") == ["a", "d"]
    assert shown(store, "--recipe", "digits", "--since", "1h") == ["c"]
    assert shown(store, "--recipe", "digits", "--since", "2001-01-01") == ["b", "c"]
    assert "None of the 4 runs" in CliRunner().invoke(runs, [str(store.root), "--recipe", "mine"]).output
    for wrong in ("yesterday", "7", "-1h"):
        done = CliRunner().invoke(runs, [str(store.root), "--since", wrong])
        assert (done.exit_code, "neither a date" in done.output) == (2, True), done.output


def test_no_runs_where_they_were_looked_for(store: Counting) -> None:
    with pytest.raises(JobError, match="no such folder") as caught:
        CliRunner().invoke(runs, [str(store.root)], catch_exceptions=False)
    assert caught.value.code == Exit.USAGE
    put(store, "sweep/r/run.json", run_record())
    put(store, "data/x/data_batch_1.bin", b"x")
    done = CliRunner().invoke(runs, [str(store.root)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"one level down, in {store.root}/sweep.\n" in done.stderr
    with pytest.raises(JobError, match="one level up"):
        CliRunner().invoke(runs, [f"{store.root}/sweep/r"], catch_exceptions=False)


def test_sorting() -> None:
    rows = [Row(run=name, state=s, test_accuracy=a) for name, s, a in (("a", "x", 0.1), ("b", "y", None), ("c", "w", 0.9))]
    assert [row.run for row in sorted_rows(rows, "run")] == ["a", "b", "c"]
    assert [row.run for row in sorted_rows(rows, "state")] == ["c", "a", "b"]
    assert [row.run for row in sorted_rows(rows, "test_accuracy")] == ["c", "a", "b"]
