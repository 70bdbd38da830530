"""The verdicts below one place of a store, and those that should be there and are not.

One listing tells which GPUs there are and how often each was begun; then one object of each is read.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from job.core.acceptance_records import Started, Steps, Verdict
from job.core.exits import Exit, JobError
from job.runs.reading import read_record
from job.runs.run import ATTEMPT, RUN_ID
from job.storage.errors import StoreError
from job.storage.opening import split
from job.storage.store import Store

READERS = 16
"""objects that are read in parallel"""
OBJECT = re.compile(rf"(?P<name>{RUN_ID.pattern})/(?P<attempt>{ATTEMPT.pattern})/(?P<kind>started|verdict)\.json")


@dataclass(frozen=True, kw_only=True)
class Report:
    """One attempt to test a GPU."""

    store: Store
    name: str
    """of the GPU's folder"""
    attempt: str
    verdict: Verdict | None
    """None: there is none, or none that can be read"""
    started: Started | None
    """where there is no verdict"""
    trouble: str = ""
    """why there is no verdict"""
    earlier: "tuple[Report, ...]" = ()
    """attempts under the same name before, the newest of which counts"""


def read_reports(store: Store) -> list[Report]:
    """Of every GPU below the store's place, by name.  Raises StoreError; what is damaged is told in `trouble`."""
    with ThreadPoolExecutor(READERS) as pool:
        return [*pool.map(lambda item: _newest(store, *item), sorted(_listed(store, "").items()))]


def read_reference(where: str) -> Report:
    """A GPU that is known to be good: s3://…/NAME or FOLDER/NAME.  Raises JobError: 2 where there is none, 65 where it is damaged."""
    store, name = split(where.rstrip("/"))
    found = _listed(store, f"{name}/")
    report = _newest(store, name, found[name]) if name in found else None
    if report is not None and report.verdict is not None and report.verdict["verdict"] != "fail":
        return report
    code = Exit.DATA if report and "verdict" in found[name][report.attempt] and not report.verdict else Exit.USAGE
    why = "there is no such GPU" if report is None else report.trouble or "its own verdict is fail"
    raise JobError(code, f"--reference {where}: {why}. Expected FOLDER/NAME or s3://…/NAME of a GPU that passed.")


def read_steps(report: Report) -> Steps | None:
    """The checksums of its steps; None where they are not to be had."""
    try:
        return read_record(report.store, f"{report.name}/{report.attempt}/steps.json", Steps)
    except JobError:
        return None


def _listed(store: Store, prefix: str) -> dict[str, dict[str, set[str]]]:
    """Name of the GPU → attempt → which of `started` and `verdict` there are."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in store.list(prefix):
        if match := OBJECT.fullmatch(entry.key):
            found[match["name"]][match["attempt"]].add(match["kind"])
    return found


def _newest(store: Store, name: str, attempts: Mapping[str, set[str]]) -> Report:
    *earlier, newest = (_report(store, name, attempt, attempts[attempt]) for attempt in sorted(attempts))
    return replace(newest, earlier=tuple(earlier))


def _report(store: Store, name: str, attempt: str, there: set[str]) -> Report:
    """What one attempt left."""
    verdict: Verdict | None = None
    started: Started | None = None
    trouble = "it was begun, and there is no verdict"
    try:
        if "verdict" in there:
            verdict, trouble = read_record(store, f"{name}/{attempt}/verdict.json", Verdict), ""
        else:
            started = read_record(store, f"{name}/{attempt}/started.json", Started)
    except StoreError:
        raise
    except JobError as error:  # one bad object must not hide the other GPUs
        trouble = str(error)
    return Report(store=store, name=name, attempt=attempt, verdict=verdict, started=started, trouble=trouble)
