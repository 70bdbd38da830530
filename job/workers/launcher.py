"""`alexnet train --workers N`: N processes of the same command on this machine, and one exit code."""

import ctypes
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType

import psutil

from job.core.exits import Exit
from job.workers.crew import SHARED

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PDEATHSIG = 1
"""of Linux's prctl.h"""
ENDING_SECONDS = 10.0
"""that a worker has for ending, once it must have noticed that another one is gone"""
PAUSE = 0.05


class Launcher:
    """`.run()` ends when all workers have ended, and returns the exit code: worker 0's, or that of the worker that failed.

    `silence`: seconds after which a worker counts as gone; `flush`: that worker 0 may take to store what it has."""

    def __init__(self, command: Sequence[str], environments: Sequence[dict[str, str]], *, silence: float, flush: float) -> None:
        self._silence, self._flush = silence, flush
        self._ended: list[int] = []
        """ranks, in that order"""
        self._killed: set[int] = set()
        """ranks of those that did not end by themselves"""
        self._first_end = 0.0
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._forward)
        self._processes = [
            subprocess.Popen(command, env=environment, process_group=0, preexec_fn=_end_with_parent) for environment in environments
        ]

    def run(self) -> int:
        while len(self._ended) < len(self._processes):
            time.sleep(PAUSE)
            for rank, process in enumerate(self._processes):
                if process.poll() is not None and rank not in self._ended:
                    self._ended.append(rank)
                    self._first_end = self._first_end or time.monotonic()
            self._end_the_frozen()
        return self._code()

    def _end_the_frozen(self) -> None:
        """Where one has ended, the others end as well, or are frozen: those get a signal that they cannot ignore."""
        waited = time.monotonic() - self._first_end if self._ended else 0.0
        for rank, process in enumerate(self._processes):
            if process.returncode is None and waited > ENDING_SECONDS and waited > self._patience(rank, process.pid):
                self._killed.add(rank)
                process.kill()

    def _patience(self, rank: int, pid: int) -> float:
        """Seconds that a worker may take to end after the first one."""
        try:
            if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                return 0.0
        except psutil.Error:
            return 0.0
        return self._silence + ENDING_SECONDS + (self._flush if rank == 0 else 0.0)

    def _code(self) -> int:
        codes = {rank: self._processes[rank].returncode for rank in self._ended}
        failed = [code for rank, code in codes.items() if rank not in self._killed and code not in (*SHARED, Exit.WORKER_GONE)]
        if codes[0] in SHARED:
            return codes[0]
        if failed:
            return failed[0] if failed[0] >= 0 else 128 - failed[0]
        return Exit.DEVICE if self._killed else codes[0]

    def _forward(self, number: int, _: FrameType | None) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)


def environments(engine: str, workers: int, variables: Mapping[str, str]) -> list[dict[str, str]]:
    """`variables` and, for each worker, its place, as torchrun or a TF_CONFIG would tell it, on free ports of the loopback device."""
    ports = _free_ports(workers)
    found = []
    for rank in range(workers):
        place = {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(workers)}
        if engine == "tensorflow":
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            place["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
        else:
            place |= {"RANK": str(rank), "WORLD_SIZE": str(workers), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0])}
        found.append({**variables, **place})
    return found


def same_command() -> list[str]:
    """The one that this process was started with."""
    return [sys.executable, "-m", "job", *sys.argv[1:]]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end_with_parent() -> None:
    """In a child that is about to run the command: SIGTERM where the parent is killed."""
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGTERM)
