"""What is asked for against what a run is: its recipe, seed, data, initial weights and engine.

run.json decides.  Of two attempts that begin a run at the same moment one puts it, and both use what it says.
"""

import time
from collections.abc import Callable, Mapping

from job.core.exits import Exit, JobError
from job.core.identity_records import ARITHMETIC
from job.core.recipe import Recipe, completed, differences
from job.core.records import FORMAT, CheckpointState, DataFacts, Manifest, RunRecord, Summary
from job.core.sharding import check_shards
from job.data import dataset, sources
from job.data.dataset import Dataset
from job.engines import Engine
from job.engines.exchange import JOIN_SECONDS
from job.runs.run import Run
from job.storage.manifest import MANIFEST
from job.telemetry.cgroup import usable_cpus
from job.training.initial_state import InitialState
from job.training.options import Options

PAUSE = 0.5
"""seconds between two looks for run.json"""
Say = Callable[[str], None]
Facts = dict[str, object]


def settle(run: Run, engine: Engine, recipe: Recipe, data: Dataset, initial: InitialState, options: Options, say: Say) -> RunRecord:
    """run.json, which this attempt puts where there is none.  Raises JobError (78) where it is of another configuration.

    `recipe.precision` may be "auto": a stored run goes on as it began.  `--init-from` is fetched where the run needs it only.  Workers
    other than 0 wait for run.json."""
    place = options.place
    stored = run.record() if place.leads else awaited_record(run)
    compared = place.leads and (stored is None or initial.at_hand or not run.checkpoint_names())
    if stored is None:
        shards = options.shards or place.workers
        check_shards(recipe.batch_size, shards, place.workers)
        stored = run.begin(
            {
                "format": FORMAT,
                "arithmetic": ARITHMETIC,
                "threads": options.threads or max(usable_cpus() // place.local_workers, 1),
                "shards": shards,
                "recipe": recipe.with_values({"precision": engine.resolve(recipe.precision)}).as_dict(),
                "seed": options.seed,
                "data": data_facts(data),
                "init_from_sha256": initial.sha256,
            }
        )
    asked = _asked(recipe, options, stored) | {"data fingerprint": data.fingerprint}
    _compare(run, "already there", asked, stored, initial if compared else None)
    check_arithmetic(run, stored)
    check_shards(recipe.batch_size, stored.get("shards", 1), place.workers)
    if place.leads and not compared:
        say("--init-from is not fetched, as the run goes on from a checkpoint; run.json tells which weights it began with")
    if options.threads not in (None, stored["threads"]):
        say(f"--threads {options.threads} is ignored: the run began with {stored['threads']}, and another number would change its results")
    if options.shards not in (None, stored.get("shards", 1)):
        began = stored.get("shards", 1)
        say(f"--shards {options.shards} is ignored: the run began with {began}, and another number would change its results")
    return stored


def awaited_record(run: Run) -> RunRecord:
    """run.json, which worker 0 puts.  Raises JobError (78) where it does not come."""
    end = time.monotonic() + JOIN_SECONDS
    while (stored := run.record()) is None:
        if time.monotonic() > end:
            raise JobError(
                Exit.CONFIGURATION,
                f"{run.url}/run.json did not come within {JOIN_SECONDS:.0f} s, which worker 0 puts. Expected one --output for all workers: "
                "s3://… or a volume that all of them see.",
            )
        time.sleep(PAUSE)
    return stored


def check_finished(run: Run, stored: RunRecord, summary: Summary, recipe: Recipe, options: Options, initial: InitialState) -> str:
    """Raises JobError (78) where a finished run is not the one that is asked for; returns what was not compared, for the log.

    Nothing is downloaded: data that are not on the disk count by their name, and weights that are not are not compared."""
    asked, omitted = _asked(recipe, options, stored), []
    data = _data_at_hand(options)
    if data is None:
        asked["data"] = sources.name_of(options.data) + (f"[:{options.subset}]" if options.subset else "")
        omitted.append("the data by their name only")
    else:
        asked["data fingerprint"] = data.fingerprint
    if not initial.at_hand:
        omitted.append("--init-from not at all")
    if not options.continue_in_other_engine:
        asked["engine"] = options.engine
    _compare(run, "finished", asked, stored, initial if initial.at_hand else None, engine=summary["engine"])
    return f" (compared with what is asked for: {', '.join(omitted)})" if omitted else ""


def check_arithmetic(run: Run, stored: RunRecord) -> None:
    """Raises JobError (78) where the run began under a version that adds the numbers of a step in another order."""
    number = stored.get("arithmetic", 1)
    if number != ARITHMETIC:
        raise JobError(
            Exit.CONFIGURATION,
            f"run {run.id} began under arithmetic {number}, and this version of alexnet-job has arithmetic {ARITHMETIC}: it adds the "
            "numbers of a step in another order, and the run would not end with the same bytes (CHANGELOG.md says what changed). Go on "
            f"with the {'older' if number < ARITHMETIC else 'newer'} version that began it, or give another --run-id to begin a new run.",
        )


def check_engine(run: Run, engine: str, *, allowed: bool) -> None:
    """Raises JobError (78) where the run would go on in another engine and that is not `allowed`."""
    last = last_engine(run)
    if last not in (None, engine) and not allowed:
        raise other_engine(run, str(last), engine)


def other_engine(run: Run, last: str, engine: str) -> JobError:
    return JobError(
        Exit.CONFIGURATION,
        f"run {run.id} was last trained by {last}, and --engine {engine} would go on with it: its result would be of both engines, and no "
        f"side of a comparison. Give --engine {last}, or another --run-id; --continue-in-other-engine allows it.",
    )


def last_engine(run: Run) -> str | None:
    """Of the newest checkpoint, before the first of the newest attempt; None where nobody has worked on the run."""
    for name in run.checkpoint_names():
        state = run.read_sound(CheckpointState, "checkpoints", str(name), "state.json")
        if state is not None and run.read_sound(Manifest, "checkpoints", str(name), MANIFEST) is not None:
            return state["engine"]
    claim = run.newest_claim()
    return claim["engine"] if claim else None


def data_facts(data: Dataset) -> DataFacts:
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "train_images": len(data.train),
        "test_images": len(data.test),
    }


def _asked(recipe: Recipe, options: Options, stored: RunRecord) -> Facts:
    """By the names that messages use.  What is left to the machine is as stored."""
    given = recipe.as_dict()
    if recipe.precision == "auto":
        given["precision"] = stored["recipe"]["precision"]
    return {**given, "seed": options.seed}


def _compare(run: Run, state: str, asked: Mapping[str, object], stored: RunRecord, initial: InitialState | None, **more: object) -> None:
    """Raises JobError (78) naming what differs.  What `asked` leaves out is not compared, and what an older version did not record."""
    recorded: Facts = {
        **completed(stored["recipe"]),
        "seed": stored["seed"],
        "data": stored["data"]["name"],
        "data fingerprint": stored["data"]["fingerprint"],
        **more,
    }
    different = differences(asked, {key: value for key, value in recorded.items() if key in asked or key in stored["recipe"]})
    if not different and initial is not None and "init_from_sha256" in stored:  # those of another network could not even be read
        different = differences({"--init-from weights": initial.sha256}, {"--init-from weights": stored["init_from_sha256"]})
    if different:
        raise JobError(
            Exit.CONFIGURATION,
            f"run {run.id} is {state} with another configuration ({'; '.join(different)}). "
            "Give the stored values to continue it, or another --run-id to begin a new run.",
        )


def _data_at_hand(options: Options) -> Dataset | None:
    """None: they would have to be downloaded, or they are not as they should be."""
    if not sources.at_hand(options.data, options.cache):
        return None
    try:
        data = sources.load(options.data, cache=options.cache, mirror=options.mirror)
        return dataset.subset(data, options.subset) if options.subset else data
    except JobError:
        return None
