"""Every path of the GPU reader against scripted cards, and against the real NVML of the machine, which may be absent."""

import threading
import time
from typing import Any

import pytest

from job.telemetry.gpu import Gpus, NoDriver, devices
from job.telemetry.nvml import visible_devices
from tests.support.fake_nvml import Card, Nvml

GB = 1_000_000_000
FULL: dict[str, Any] = {
    "memory": (5 * GB, 80 * GB),
    "utilization": (87, 41),
    "power": 312_500,
    "energy": 9_000_000,
    "temperature": 61,
    "clocks": (1980, 2619),
    "reasons": 0x4 | 0x20,
    "pcie": (1000, 2000),
}
FAST = {"interval": 0.02, "timeout": 60.0, "environment": {}}


def wait(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def watched():
    """Starts a reader and stops it at the end."""
    started = []

    def start(cards, **options):
        said: list[str] = []
        nvml = options.pop("nvml", None) or Nvml(cards)
        gpus = Gpus(say=said.append, nvml=nvml, **FAST | options)
        gpus.start()
        started.append(gpus)
        return gpus, said

    yield start
    for gpus in started:
        gpus.stop()


def test_fields_carry_their_units(watched):
    gpus, said = watched([Card(uuid="GPU-a", **FULL)], interval=1000.0)  # the first row, with PCIe
    wait(gpus.rows)
    assert gpus.rows() == [
        {
            "index": 0,
            "memory_used_bytes": 5 * GB,
            "memory_total_bytes": 80 * GB,
            "temperature_celsius": 61,
            "sm_clock_mhz": 1980,
            "memory_clock_mhz": 2619,
            "throttle_reasons": ["power_cap", "thermal"],
            "utilization_percent": 87,
            "memory_utilization_percent": 41,
            "power_watts": 312.5,
            "energy_joules": 0.0,
            "pcie_sent_bytes_per_second": 1_024_000,
            "pcie_received_bytes_per_second": 2_048_000,
        }
    ]
    assert not said


def test_pcie_is_asked_seldom(watched):
    nvml = Nvml([Card(uuid="GPU-a", **FULL)])
    gpus, _ = watched([], nvml=nvml, pcie_seconds=1000.0)
    wait(lambda: nvml.asked.count("memory") > 10)
    assert nvml.asked.count("pcie") == 2  # sent and received, once
    assert "pcie_sent_bytes_per_second" not in gpus.rows()[0]


def test_what_is_not_supported_is_missing_and_asked_once(watched):
    nvml = Nvml([Card(uuid="GPU-a", memory=(1, 2), temperature=40)])
    gpus, said = watched([], nvml=nvml)
    wait(lambda: nvml.asked.count("memory") > 3)
    assert gpus.rows() == [{"index": 0, "memory_used_bytes": 1, "memory_total_bytes": 2, "temperature_celsius": 40}]
    assert [nvml.asked.count(name) for name in ("power", "energy", "utilization", "reasons", "pcie")] == [1] * 5
    assert gpus.energy_joules() is None
    assert not said


def test_an_error_that_passes_leaves_a_gap(watched):
    card = Card(uuid="GPU-a", **FULL)
    gpus, said = watched([card])
    wait(gpus.rows)
    card.error = 999
    wait(lambda: gpus.rows() == [{"index": 0}])
    card.error = None
    wait(lambda: "power_watts" in gpus.rows()[0])
    assert not said


def test_energy_is_what_was_used_since_the_start(watched):
    cards = [Card(uuid="GPU-a", **FULL), Card(uuid="GPU-b", **FULL)]
    gpus, _ = watched(cards)
    wait(lambda: len(gpus.rows()) == 2)
    assert gpus.energy_joules() == 0
    cards[0].energy, cards[1].energy = 9_050_000, 9_020_000
    wait(lambda: gpus.energy_joules() == 70)
    cards[0].energy = 4_000  # the driver was loaded anew
    wait(lambda: gpus.energy_joules() == 74)
    assert [facts["energy_joules"] for facts in gpus.facts()] == [54, 20]


def test_energy_is_unknown_where_one_card_has_no_counter(watched):
    gpus, _ = watched([Card(uuid="GPU-a", **FULL), Card(uuid="GPU-b", **{**FULL, "energy": None})])
    wait(lambda: len(gpus.rows()) == 2)
    assert gpus.energy_joules() is None


@pytest.mark.parametrize("error", [15, 16])
def test_of_two_cards_one_is_lost_and_the_other_goes_on(watched, error):
    cards = [Card(uuid="GPU-a", **FULL), Card(uuid="GPU-b", **FULL)]
    gpus, said = watched(cards)
    wait(lambda: len(gpus.rows()) == 2)
    cards[0].error = error
    wait(lambda: len(gpus.rows()) == 1)
    assert gpus.rows()[0]["index"] == 1
    nvml_before = gpus.rows()
    wait(lambda: gpus.rows() is not nvml_before)
    assert len(said) == 1
    assert said[0].startswith("GPU 0 (NVIDIA Example) is lost: GPU ")
    assert [facts["lost"] for facts in gpus.facts()] == [True, False]
    assert gpus.energy_joules() is None, "what the lost one used is not known"


def test_a_call_that_hangs_holds_nobody_up(watched):
    card = Card(uuid="GPU-a", **FULL)
    gpus, said = watched([card], timeout=0.3)
    wait(gpus.rows)
    card.hangs = 60.0
    begun = time.monotonic()
    wait(lambda: gpus.rows() == [])
    gpus.rows()
    gpus.stop()
    assert time.monotonic() - begun < 50
    assert len(said) == 1
    assert "no answer from the driver" in said[0]
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "gpu")


def test_a_driver_that_answers_again_is_heard_again(watched):
    card = Card(uuid="GPU-a", **FULL)
    gpus, said = watched([card], timeout=0.3)
    wait(gpus.rows)
    card.hangs = 0.6
    wait(lambda: gpus.rows() == [])
    card.hangs = 0.0
    wait(gpus.rows)
    assert said[1] == "GPU: the driver answers again"


def test_scripts_play_in_time(watched):
    gpus, _ = watched([Card(uuid="GPU-a", **FULL, later={0.1: {"utilization": (3, 1)}})])
    wait(gpus.rows)
    wait(lambda: gpus.rows()[0]["utilization_percent"] == 3)


def mig_card(uuid: str = "GPU-a") -> Card:
    """Its instances are asked about their memory only; all else that they would tell is the whole card's."""
    instances = [Card(uuid=f"MIG-{uuid[4:]}{n}", name="NVIDIA Example MIG 1g.10gb", **{**FULL, "memory": (n, 10)}) for n in (1, 2)]
    return Card(uuid=uuid, **FULL, instances=instances)


def test_an_instance_has_no_utilisation_power_or_energy_and_the_card_s_temperature(watched):
    nvml = Nvml([mig_card()])
    gpus, said = watched([], nvml=nvml)
    wait(gpus.rows)
    (row,) = gpus.rows()
    assert set(row) == {
        *("index", "mig", "memory_used_bytes", "memory_total_bytes"),
        *("temperature_celsius", "sm_clock_mhz", "memory_clock_mhz", "throttle_reasons"),
    }
    assert row["memory_used_bytes"] == 1
    assert gpus.energy_joules() is None
    assert not {"utilization", "power", "energy", "pcie"} & set(nvml.asked)
    assert not said


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-aa", "GPU-ab", "GPU-b"]),
        ("1", ["GPU-ab"]),
        ("2,0", ["GPU-b", "GPU-aa"]),
        ("GPU-b", ["GPU-b"]),
        ("GPU-ab, 0", ["GPU-ab", "GPU-aa"]),
        ("0,7,1", ["GPU-aa"]),  # as CUDA does: what follows a wrong entry is invisible
        ("0,-1,1", ["GPU-aa"]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices(visible, uuids):
    nvml = Nvml([Card(uuid="GPU-aa"), Card(uuid="GPU-ab"), Card(uuid="GPU-b")])
    assert [device.uuid for device in visible_devices(nvml, visible)] == uuids


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [(None, ["MIG-b1"]), ("0", ["GPU-a"]), ("1", ["MIG-b1"]), ("MIG-b2", ["MIG-b2"]), ("MIG-b2,MIG-b1", ["MIG-b2"]), ("0,1", ["MIG-b1"])],
)
def test_cuda_shows_one_mig_instance_and_nothing_beside_it(visible, uuids):
    nvml = Nvml([Card(uuid="GPU-a"), mig_card("GPU-b")])
    assert [device.uuid for device in visible_devices(nvml, visible)] == uuids


def test_a_process_that_uses_the_second_of_the_visible_devices(watched):
    cards = [Card(uuid=f"GPU-{n}", memory=(n, 9)) for n in range(3)]
    gpus, _ = watched(cards, only=[1], environment={"CUDA_VISIBLE_DEVICES": "2,0"})
    wait(gpus.rows)
    assert [facts["uuid"] for facts in gpus.facts()] == ["GPU-0"]


@pytest.mark.parametrize(("failure", "said_of_it"), [(12, "NVML Shared Library Not Found"), (9, "Driver Not Loaded")])
def test_without_a_driver_one_line(watched, failure, said_of_it):
    gpus, said = watched([], nvml=Nvml([], failure=failure))
    wait(lambda: said)
    time.sleep(0.1)
    assert said == [f"GPU: nothing to measure ({said_of_it}); the resource log holds CPU, memory and I/O"]
    assert (gpus.rows(), gpus.facts(), gpus.energy_joules()) == ([], [], None)


def test_devices_for_the_doctor():
    (found,) = devices(Nvml([Card(uuid="GPU-a", **FULL)]), environment={})
    assert (found["driver"], found["cuda"], found["name"], found["mig"]) == ("580.65.06", "13.0", "NVIDIA Example", False)
    assert found["uuid"] == "GPU-a"
    assert found["memory_total_bytes"] == 80 * GB
    with pytest.raises(NoDriver, match="no device is visible with CUDA_VISIBLE_DEVICES='-1'"):
        devices(Nvml([Card(uuid="GPU-a")]), environment={"CUDA_VISIBLE_DEVICES": "-1"})
    with pytest.raises(NoDriver, match="does not answer within"):
        devices(Nvml([Card(uuid="GPU-a", hangs=2.0)]), environment={}, timeout=0.2)


def test_the_real_library():
    """With a driver: rows.  Without: one line that says why."""
    said: list[str] = []
    gpus = Gpus(say=said.append, interval=0.05)
    gpus.start()
    wait(lambda: said or gpus.rows())
    gpus.stop()
    assert bool(said) != bool(gpus.rows())
    assert len(said) <= 1


def test_the_stand_in_has_names_of_the_real_module():
    import pynvml

    names = {name for name in dir(Nvml) if name.startswith(("nvml", "NVML"))}
    assert names
    assert {name for name in names if not hasattr(pynvml, name)} == set()
    constants = {name for name in names if name.startswith("NVML_")}
    assert {name: getattr(Nvml, name) for name in constants} == {name: getattr(pynvml, name) for name in constants}
