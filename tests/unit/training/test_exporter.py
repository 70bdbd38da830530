"""`--metrics-port`, scraped as Prometheus does it, while an attempt is at work."""

import socket
import time
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from job.core.exits import Exit
from job.training.exporter import GAUGES
from tests.support.numpy_engine import NumpyNetwork
from tests.support.trainer import RECIPE, STEPS, Trainer


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def scrape(port: int, host: str = "127.0.0.1") -> dict[str, float]:
    """Name → value, of OpenMetrics; every sample names run and engine."""
    request = urllib.request.Request(f"http://{host}:{port}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels == {"run": "r", "engine": "numpy"} for sample in samples)
    return {sample.name.removeprefix("alexnet_"): sample.value for sample in samples}


def test_what_prometheus_sees(trainer: Trainer) -> None:
    port, seen = free_port(), {}

    def look(network: NumpyNetwork) -> None:
        if network.number in (1, 2 * STEPS):
            until = time.monotonic() + 30
            while True:  # the first epoch's checkpoint is on its way
                seen[network.number] = scrape(port)
                if network.number == 1 or "checkpoint_age_seconds" in seen[network.number] or time.monotonic() > until:
                    break

    assert trainer.attempt(options={"metrics_port": port}, before_step=look) is Exit.DONE
    first, later = seen[1], seen[2 * STEPS]
    assert (first["attempt"], first["step"], first["steps"], first["epochs"]) == (1, 0, RECIPE.epochs * STEPS, RECIPE.epochs)
    assert not {"loss", "last_step_age_seconds", "checkpoint_age_seconds"} & set(first), "what is not known yet is left out"
    assert set(later) == set(GAUGES), "all that the page and the dashboard name"
    assert (later["epoch"], later["step"]) == (1, 2 * STEPS - 1)
    assert 0 < later["loss"] < 10
    assert 0 <= later["last_step_age_seconds"] < 60
    assert later["images_per_second"] > 0
    with pytest.raises(OSError, match="refused"):
        scrape(port)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_by_ipv6(trainer: Trainer) -> None:
    port, seen = free_port(), []
    assert trainer.attempt(options={"metrics_port": port}, before_step=lambda _: seen or seen.append(scrape(port, "[::1]"))) is Exit.DONE
    assert seen[0]["attempt"] == 1


def test_a_port_that_is_taken_costs_the_metrics_only(trainer: Trainer) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert trainer.attempt(options={"metrics_port": port}) is Exit.DONE
    assert f"--metrics-port {port}: Address already in use, so no metrics are served" in trainer.log.text
