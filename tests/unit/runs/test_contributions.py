"""Whose steps a result rests on, as its readers see it."""

from typing import Any

from job.runs.contributions import Contribution, contributions, engine_label
from tests.support.made_up import results

CLAIM: dict[str, Any] = {
    "engine": "torch",
    "device": "cpu",
    "torch": "2.14.1",
    "numpy": "2.3",
    "cuda": None,
    "version": "0.1.0",
    "source": "3f2a9c1d0b7e" + "0" * 52,
}


def record(attempt: str, first: int, last: int, **changed: Any) -> dict[str, Any]:
    return {**CLAIM, "attempt": attempt, "first_step": first, "last_step": last, **changed}


def found(*records: dict[str, Any]) -> list[Contribution]:
    return contributions({"contributions": list(records)}, threads=2)  # type: ignore[typeddict-item]


def test_what_is_told_of_an_attempt() -> None:
    (first, second) = found(record("0001-aaaaaa", 1, 30), record("0002-bbbbbb", 31, 90, device="NVIDIA H100", cuda="13.0", cudnn=91002))
    assert first == Contribution(
        attempt="0001-aaaaaa",
        engine="torch",
        device="cpu",
        versions=(("torch", "2.14.1"), ("numpy", "2.3")),
        threads=2,
        code="0.1.0 3f2a9c1d0b7e",
        first_step=1,
        last_step=30,
    )
    assert (first.device_kind, second.device_kind) == ("cpu", "gpu")
    assert second.versions == (("torch", "2.14.1"), ("cuda", "13.0"), ("cudnn", "91002"), ("numpy", "2.3"))
    assert hash(first) != hash(second)


def test_the_label_of_a_run_of_several_engines() -> None:
    runs = {
        "torch": ["torch"],
        "torch ": ["torch", "torch"],
        "torch → tensorflow": ["torch", "torch", "tensorflow"],
        "torch → tensorflow → torch": ["torch", "tensorflow", "torch"],
    }
    for label, engines in runs.items():
        records = [record(f"{n:04d}-aaaaaa", n, n, engine=engine) for n, engine in enumerate(engines, 1)]
        assert engine_label(found(*records)) == label.strip()


def test_a_run_of_an_older_version_is_its_last_attempts() -> None:
    run = results(engine="tensorflow", epochs=3)
    (only,) = run.contributions
    assert (only.attempt, only.engine, only.first_step, only.last_step) == ("0001-abcdef", "tensorflow", 1, 3 * 390)
    assert (only.code, only.threads, only.versions) == ("", 2, (("tensorflow", "1.0"),))
