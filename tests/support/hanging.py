"""`python -m tests.support.hanging FOLDER STEP GRACE LEAST`: a run `r` in FOLDER whose step STEP never returns, in C, where no Python code
runs: the handler of a signal does not either.  LEAST: seconds without a step that count as a stall."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from job.runs.run import Run
from job.storage.folder import FolderStore
from job.training import publish, start
from job.training.options import Options
from job.training.stopping import StopSignal
from job.training.watchdog import Limits
from tests.support.numpy_engine import NumpyEngine, NumpyNetwork
from tests.support.trainer import DATA, RECIPE, Log


def hang(_: object = None) -> None:
    """Lock a mutex twice."""
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    print("hangs", flush=True)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


class Loud(Log):
    def say(self, line: str, /, **facts: Any) -> None:
        print(line, file=sys.stderr, flush=True)


def main(folder: Path, step: int, grace: float, least: float) -> int:
    for name in ("draw_all", "draw_resources", "write_report", "_as_results"):
        setattr(publish, name, lambda *_, **__: None)

    def before_step(network: NumpyNetwork) -> None:
        if network.number == step:
            hang()

    options = Options(engine="numpy", threads=1, seed=5, log_steps=2, checkpoint_steps=4, spool=folder / "spools", flush_timeout=5.0)
    stop, engine = StopSignal(grace), NumpyEngine(before_step=before_step)
    run, limits = Run(FolderStore(folder / "runs"), "r"), Limits(least=least, pause=0.05)
    initial, display = start.initial_state(RECIPE, len(DATA.classes), options, Loud()), Loud()
    return start.attempt(run, engine, RECIPE, DATA, options, initial=initial, stop=stop, display=display, limits=limits)


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
