"""`alexnet runs` over many runs: shared among processes, and no more requests than promised."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from job.core.exits import Exit, JobError
from job.runs import listing
from job.runs.listing import list_runs
from job.storage.files import encoded
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.proxy import Error, Proxy, Request
from tests.support.records import claim, run_record, status, summary
from tests.support.servers import Server

FINISHED, AT_WORK = [f"done-{n}" for n in range(9)], [f"works-{n}" for n in range(3)]


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(server) as between:
        for name, value in between.environment.items():
            monkeypatch.setenv(name, value)
        yield between


@pytest.fixture
def store(proxy: Proxy) -> Store:
    made = open_store("s3://results/sweep")
    for run in FINISHED:
        made.put(f"{run}/summary.json", encoded(summary(run=run)))
    for run in [*FINISHED, *AT_WORK]:
        made.put(f"{run}/run.json", encoded(run_record()))
        made.put(f"{run}/attempts/0001-abcdef/claim.json", encoded(claim()))
        made.put(f"{run}/attempts/0001-abcdef/status.json", encoded(status(run=run)))
    proxy.requests.clear()
    return made


def split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, whatever this machine has, for shares of one run."""
    monkeypatch.setattr(listing, "WORTH_A_PROCESS", 2)
    monkeypatch.setattr(listing, "SHARE", 1)
    monkeypatch.setattr(listing.os, "sched_getaffinity", lambda _: {0, 1})


def objects_read(requests: list[Request]) -> Counter[str]:
    paths = [request.path.partition("?")[0] for request in requests if request.method == "GET" and "list-type" not in request.path]
    return Counter("/".join(path.split("/")[3:]) for path in paths)


@pytest.mark.parametrize("processes", [1, 2])
def test_requests(processes: int, store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    if processes == 2:
        split(monkeypatch)
    rows = {row.run: row for row in list_runs(store)}
    assert [*rows] == [*FINISHED, *AT_WORK]
    assert [rows[run].state for run in [*FINISHED, *AT_WORK]] == ["finished"] * 9 + ["running"] * 3
    assert {row.age is not None and row.age < 60 for row in rows.values() if row.state == "running"} == {True}
    summaries = {f"{run}/summary.json": 1 for run in [*FINISHED, *AT_WORK]}
    assert objects_read(proxy.requests) == summaries | {f"{run}/attempts/0001-abcdef/status.json": 1 for run in AT_WORK}
    assert len(proxy.requests) <= 3 + len(rows) + 2 * len(AT_WORK)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_refusal_in_any_process_is_told(processes: int, store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    if processes == 2:
        split(monkeypatch)

    def decide(request: Request) -> Error | None:
        return Error(status=403, code="AccessDenied") if "done-0/summary.json" in request.path else None

    proxy.decide = decide
    with pytest.raises(JobError, match="access denied") as caught:
        list_runs(store)
    assert caught.value.code is Exit.CONFIGURATION


def test_ages_follow_the_stores_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher whose clock is a day ahead, or behind, sees the same."""
    for ahead in (-86_400, 86_400):
        real = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda real=real, ahead=ahead: real() + ahead)
            rows = [row for row in list_runs(store) if row.run in AT_WORK]
        assert {row.state for row in rows} == {"running"}
