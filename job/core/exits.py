"""The one table of exit codes, and the exception that carries one.

The `podFailurePolicy` of a Kubernetes Job matches these numbers, so they are part of the interface.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Why the process ended.  The codes are those of sysexits.h where one fits, and 128 + the signal's number after a signal."""

    DONE = 0
    USAGE = 2
    DATA = 65
    UNREACHABLE = 69
    INTERNAL = 70
    DEVICE = 71
    NOT_STORED = 74
    DIVERGED = 76
    SUPERSEDED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.USAGE: "wrong usage",
    Exit.DATA: "a dataset or a checkpoint file is damaged",
    Exit.UNREACHABLE: "the object store could not be reached at the start",
    Exit.INTERNAL: "internal error",
    Exit.DEVICE: "a GPU is there but does not work; another node may do",
    Exit.NOT_STORED: "results not fully stored, or stopped without progress",
    Exit.DIVERGED: "the training diverged; a deterministic job would diverge again",
    Exit.SUPERSEDED: "a newer attempt took over the run",
    Exit.CONFIGURATION: "the configuration cannot work here",
    Exit.INTERRUPTED: "stopped by Ctrl-C; the same command continues",
    Exit.TERMINATED: "stopped by SIGTERM after storing progress; the same command continues",
}


class JobError(Exception):
    """An error for the user, which ends the process: an exit code, and one paragraph that names the thing, the value received,
    what was expected and the next step."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
