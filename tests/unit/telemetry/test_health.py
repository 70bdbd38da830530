"""What a card says of its memory, its links and itself."""

from job.telemetry.gpu import opened
from tests.support.fake_nvml import Card, Nvml

SOUND = Card(
    uuid="GPU-a",
    memory=(1 << 30, 80 << 30),
    ecc=(3, 0),
    remapped=(1, 0, 0, 0),
    link=(1, 16, 5, 16),
    replays=4,
    nvlinks=[1, 1, 0],
    nvlink_errors=2,
    power=90_000,
    power_limit=700_000,
    temperature=33,
    clock_max=1980,
    board=("1650", "96.00", "00000000:19:00.0"),
)


def test_everything_that_a_card_tells():
    (device,) = opened(Nvml([SOUND]), {})
    assert device.health() == {
        "ecc": {
            "corrected": 3,
            "uncorrected": 0,
            "remapped_corrected": 1,
            "remapped_uncorrected": 0,
            "remapping_pending": False,
            "remapping_failed": False,
        },
        "pcie": {"generation": 1, "width": 16, "generation_max": 5, "width_max": 16, "replays": 4},
        "nvlink": {"links": 3, "active": 2, "errors": 3 * 5 * 2},
        "temperature_celsius": 33,
        "power_watts": 90.0,
        "power_limit_watts": 700.0,
        "sm_clock_max_mhz": 1980,
    }
    assert device.link() == device.health()["pcie"]
    assert device.identity(2) == {
        "name": "NVIDIA Example",
        "uuid": "GPU-a",
        "position": 2,
        "mig": False,
        "memory_total_bytes": 80 << 30,
        "driver": "580.65.06",
        "serial": "1650",
        "vbios": "96.00",
        "pci_bus_id": "00000000:19:00.0",
    }


def test_what_it_does_not_tell_is_left_out():
    (device,) = opened(Nvml([Card(uuid="GPU-b")]), {})
    assert device.health() == {}
    assert device.identity(0) == {"name": "NVIDIA Example", "uuid": "GPU-b", "position": 0, "mig": False, "driver": "580.65.06"}


def test_without_a_driver_there_is_none():
    assert opened(Nvml([], failure=9), {}) == []
