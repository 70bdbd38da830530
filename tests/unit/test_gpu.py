"""Every path of the GPU reader against scripted devices; and the real NVML here, which has no driver."""

import threading
import time

import pytest

from job.io.gpu import Gpus, NoDriver, devices
from tests.fake_nvml import device, make

FULL = {
    "utilization": (87, 41),
    "memory": (5_000_000_000, 80_000_000_000),
    "power": 312_500,
    "energy": 9_000_000,
    "temperature": 61,
    "clock": 1980,
    "reasons": 0x4,
    "pcie": 1000,
}


@pytest.fixture
def watch():
    """Starts a reader of scripted devices; its lines go to `said`."""
    started = []

    def begin(cards, said=None, **options):
        gpus = Gpus(say=(said if said is not None else []).append, nvml=make(cards), interval=0.02, patience=0.2, visible=None, **options)
        gpus.start()
        started.append(gpus)
        return gpus

    yield begin
    for gpus in started:
        gpus.stop()


def wait(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return answer


def test_units_and_fields(watch):
    gpus = watch([device("GPU-a", **FULL)], pcie_seconds=0.0)
    assert wait(gpus.rows)[0] == {
        "index": 0,
        "memory_used_bytes": 5_000_000_000,
        "memory_total_bytes": 80_000_000_000,
        "temperature_celsius": 61,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 1980,
        "throttle_reasons": ["power_cap"],
        "utilization_percent": 87,
        "memory_utilization_percent": 41,
        "power_watts": 312.5,
        "energy_joules": 0.0,
        "pcie_sent_bytes_per_second": 1_024_000,
        "pcie_received_bytes_per_second": 1_024_000,
    }


def test_pcie_is_read_seldom(watch):
    gpus, seen = watch([device("GPU-a", **FULL)], pcie_seconds=30.0), []
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        seen += [row for row in gpus.rows() if "pcie_sent_bytes_per_second" not in row]
        time.sleep(0.01)
    assert len(seen) > 10


def test_energy_is_a_difference_of_all_cards(watch):
    cards = [device("GPU-a", **FULL), device("GPU-b", **FULL)]
    gpus = watch(cards)
    wait(gpus.rows)
    cards[0].energy += 70_000
    cards[1].energy += 30_000
    wait(lambda: gpus.energy_joules() == 100.0)
    cards[0].energy = 5_000  # the driver was loaded anew
    wait(lambda: gpus.energy_joules() == 105.0)


def test_what_a_card_does_not_tell_is_missing_and_never_zero(watch):
    gpus = watch([device("GPU-a", memory=(1, 2))])
    assert wait(gpus.rows) == [{"index": 0, "memory_used_bytes": 1, "memory_total_bytes": 2}]
    assert gpus.energy_joules() is None


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["a", "b"]), ("1", ["b"]), ("1,0", ["b", "a"]), ("GPU-b", ["b"]), ("0,7,1", ["a"]), ("-1", []), ("", [])],
)
def test_visible_devices(visible, names):
    nvml = make([device("GPU-a1", name="a"), device("GPU-b1", name="b")])
    if not names:
        with pytest.raises(NoDriver, match="no device is visible"):
            devices(nvml, visible)
        return
    assert [entry["name"] for entry in devices(nvml, visible)] == names


def test_a_slice_tells_nothing_of_the_card_that_others_share(watch):
    slices = [device("MIG-1", **{**FULL, "memory": (1, 10)}), device("MIG-2", **{**FULL, "memory": (2, 10)})]
    nvml = make([device("GPU-a", **FULL, slices=slices)])
    (found,) = devices(nvml, "MIG-2")
    assert found["memory_used_bytes"] == 2
    assert found["mig"] is True
    assert not {"utilization_percent", "power_watts", "energy_joules"} & set(found)
    gpus = watch([device("GPU-a", **FULL, slices=slices)])
    wait(gpus.rows)
    assert gpus.energy_joules() is None


def test_a_lost_card_gives_one_line_and_the_other_goes_on(watch):
    said = []
    cards = [device("GPU-a", **FULL), device("GPU-b", **FULL)]
    gpus = watch(cards, said)
    wait(lambda: len(gpus.rows()) == 2)
    cards[0].lost = True
    wait(lambda: len(gpus.rows()) == 1)
    time.sleep(0.1)
    assert [row["index"] for row in gpus.rows()] == [1]
    assert said == ["GPU 0 (A card) is lost: GPU is lost. Its log ends here; another node may do"]


def test_a_call_that_hangs_holds_nobody_up(watch):
    said = []
    card = device("GPU-a", **FULL)
    gpus = watch([card], said)
    wait(gpus.rows)
    card.hangs = 60.0
    begun = time.monotonic()
    wait(lambda: gpus.rows() == [])
    gpus.stop()
    assert time.monotonic() - begun < 3
    assert len(said) == 1
    assert "no answer from the driver" in said[0]
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "gpu")


def test_without_a_driver_one_line():
    said = []
    gpus = Gpus(say=said.append, nvml=make(None, driver=False), interval=0.02)
    gpus.start()
    wait(lambda: said)
    assert said == ["GPU: nothing to measure (NVML Shared Library Not Found); the resource log holds CPU, memory and I/O"]
    assert gpus.rows() == []


def test_the_real_library_here():
    try:
        found = devices()
    except NoDriver as error:
        reason = str(error)
    else:
        reason = found[0]["driver"]
    assert reason
