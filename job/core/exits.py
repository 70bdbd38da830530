"""The one table of exit codes, and the exception that carries one.

The `podFailurePolicy` of a Kubernetes Job matches these numbers, so they are part of the interface.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Why the process ended.  The codes are those of sysexits.h where one fits, and 128 + the signal's number after a signal."""

    DONE = 0
    USAGE = 2
    DATA = 65
    """a dataset or a checkpoint file is damaged"""
    UNREACHABLE = 69
    """the object store could not be reached at the start"""
    INTERNAL = 70
    DEVICE = 71
    """a GPU is there but does not work, or the node's clock is wrong; another node may do"""
    NOT_STORED = 74
    """results not fully stored, or stopped without progress"""
    WORKER_GONE = 75
    """another worker of the run is gone; this one is well"""
    DIVERGED = 76
    """the training diverged; a deterministic job would diverge again"""
    SUPERSEDED = 77
    """a newer attempt took over the run"""
    CONFIGURATION = 78
    """the configuration cannot work here"""
    INTERRUPTED = 130
    """stopped by Ctrl-C; the same command continues"""
    TERMINATED = 143
    """stopped by SIGTERM or SIGHUP after storing progress; the same command continues"""


class JobError(Exception):
    """An error for the user, which ends the process: an exit code, and one paragraph that names the thing, the value received,
    what was expected and the next step."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
