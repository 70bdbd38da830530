"""Trainings that the tools run, each in a process of its own, as a user would."""

import os
import subprocess
import sys
from collections.abc import Callable

from job.core.exits import JobError
from job.runs.results import Results, read_results


def trained(engine: str, recipe: str, run: str, *words: str, data: str, output: str) -> Results:
    """Run it or go on with it; one that is finished is only read.  Raises CalledProcessError with the exit code of the run."""
    command = [sys.executable, "-m", "job", "train", "--engine", engine, "--recipe", recipe, "--data", data, "--output", output]
    subprocess.run([*command, "--run-id", run, *words], check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    return read_results(f"{output}/{run}")


def exit_code(action: Callable[[], None]) -> int:
    """Of a tool that does `action`: that of the training that failed in it, where one did."""
    try:
        action()
    except subprocess.CalledProcessError as error:
        return error.returncode
    except JobError as error:
        print(error, file=sys.stderr)
        return int(error.code)
    return 0
