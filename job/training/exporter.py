"""`--metrics-port`: where an attempt stands, for Prometheus, in its own text format or as OpenMetrics, whichever the scraper asks for.

Nothing is counted twice: the values are read from the attempt when somebody asks.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from job.training.attempt import Attempt
from job.training.progress import Progress

GAUGES = {
    "attempt": "number of the attempt on the run, from 1",
    "epoch": "epochs that are done",
    "epochs": "epochs of the whole run",
    "step": "optimiser steps that are done",
    "steps": "optimiser steps of the whole run",
    "loss": "mean training loss of the last logging interval",
    "train_accuracy_ratio": "on the training images of the last logging interval, 0 to 1",
    "test_accuracy_ratio": "after the last epoch, 0 to 1",
    "images_per_second": "training images per second in the last logging interval",
    "last_step_age_seconds": "since the last step of this attempt",
    "checkpoint_age_seconds": "since this attempt brought a checkpoint to the store last",
    "spool_bytes": "bytes that wait for upload",
    "remaining_seconds": "that the training will still take, at its present pace",
}
"""name without `alexnet_` → what it is; a value that is not known yet is left out"""


def standing(attempt: Attempt, progress: Progress, now: float) -> dict[str, float | None]:
    """Each of the GAUGES.  `now`: time.monotonic()."""
    status, intervals, stored_at = attempt.status(), progress.intervals, attempt.spool.stored_at
    return {
        "attempt": int(attempt.run.attempt.partition("-")[0]),
        "epoch": status["epoch"],
        "epochs": status["epochs"],
        "step": status["step"],
        "steps": status["steps"],
        "loss": status["loss"],
        "train_accuracy_ratio": intervals[-1]["accuracy"] if intervals else None,
        "test_accuracy_ratio": status["test_accuracy"],
        "images_per_second": status["images_per_second"],
        "last_step_age_seconds": None if progress.stepped_at is None else now - progress.stepped_at,
        "checkpoint_age_seconds": None if stored_at is None else now - stored_at,
        "spool_bytes": attempt.spool.waiting_bytes,
        "remaining_seconds": progress.seconds_left,
    }


class Collector:
    """What prometheus_client asks at each scrape.  Every metric has the labels `run` and `engine`."""

    def __init__(self, attempt: Attempt, progress: Progress) -> None:
        self._attempt, self._progress = attempt, progress

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        labels = {"run": self._attempt.run.id, "engine": self._attempt.engine}
        for name, value in standing(self._attempt, self._progress, time.monotonic()).items():
            if value is not None:
                family = GaugeMetricFamily(f"alexnet_{name}", GAUGES[name], labels=[*labels])
                family.add_metric([*labels.values()], value)
                yield family


@contextmanager
def exported(attempt: Attempt, progress: Progress, port: int, say: Callable[[str], None]) -> Iterator[None]:
    """Answer on the port until the end of the `with`; 0: nowhere.  A port that cannot be had costs the metrics, not the training."""
    server = None
    if port:
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        registry.register(Collector(attempt, progress))
        try:
            everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  who scrapes is on another machine
            server, _ = start_http_server(port, addr=everywhere, registry=registry)
        except OSError as error:
            say(f"--metrics-port {port}: {error.strerror or error}, so no metrics are served. Expected a port that is free; 0 serves none.")
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
