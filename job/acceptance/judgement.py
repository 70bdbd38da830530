"""From what was measured to evidence, and from that to a verdict.

`fail`: it computed, kept or moved something wrongly, or it broke.  `suspect`: it may be sound, but a person should look.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict

from job.core.acceptance_records import Bandwidth, Deviation, Evidence, Level, LoadFigures, MemoryTest, ModeResult
from job.core.resource_records import Ecc, Health
from job.doctor.page import Line

LEVELS: tuple[Level, ...] = ("fail", "suspect", "pass")
"""the worst first"""
SLOWED = {
    "hardware_slowdown": "the board held the clock back",
    "hardware_thermal": "it became too hot",
    "power_brake": "the node's power supply asked for less",
    "thermal": "it became too hot",
}
"""throttle reasons that a sound GPU in a sound node does not have, in words; a limit of power is common"""
COUNTERS: tuple[tuple[Literal["uncorrected", "remapped_uncorrected", "corrected", "remapped_corrected"], str, Level], ...] = (
    ("uncorrected", "errors of memory that could not be corrected", "fail"),
    ("remapped_uncorrected", "rows of memory replaced because of uncorrected errors", "fail"),
    ("corrected", "corrected errors of memory", "suspect"),
    ("remapped_corrected", "rows of memory replaced because of corrected errors", "suspect"),
)


class Facts(TypedDict):
    """What of a worker's measurements is judged."""

    modes: list[ModeResult]
    nondeterministic: list[str]
    before: Health
    after: Health
    load: LoadFigures
    bandwidth: Bandwidth
    memory: MemoryTest | None


def verdict(evidence: Sequence[Evidence]) -> Level:
    """The worst."""
    return min((one["level"] for one in evidence), key=LEVELS.index, default="pass")


def sorted_evidence(evidence: Sequence[Evidence]) -> list[Evidence]:
    return sorted(evidence, key=lambda one: LEVELS.index(one["level"]))


def of_doctor(lines: Sequence[Line]) -> list[Evidence]:
    """Of the node: a check that fails makes its GPUs suspect, since it is seldom theirs."""
    levels: dict[str, Level] = {"fail": "suspect", "warn": "pass", "pass": "pass"}
    return [{"check": f"doctor: {line.check}", "level": levels[line.level], "what": line.reason} for line in lines]


def of_measurements(facts: Facts) -> Iterator[Evidence]:
    """Of one GPU."""
    for mode in facts["modes"]:
        yield from of_rounds(mode)
    if facts["nondeterministic"]:
        operations = ", ".join(facts["nondeterministic"])
        yield evidence("determinism", "suspect", f"no deterministic kernel for {operations}: its digests prove nothing")
    memory = facts["memory"]
    if memory:
        wrong, size = memory["wrong_words"], f"{memory['bytes'] / 1e9:.2f} GB, {memory['patterns']} patterns"
        yield evidence("memory", "fail" if wrong else "pass", f"{wrong} words came back wrong of {size}")
    yield from of_counters(facts["before"].get("ecc"), facts["after"].get("ecc"))
    yield from of_links(facts["before"], facts["after"], facts["load"])
    yield from of_load(facts["load"])


def of_rounds(mode: ModeResult) -> Iterator[Evidence]:
    check, rounds = f"rounds in {mode['mode']}", mode["rounds"]
    if mode["deviant_rounds"]:
        places = "; ".join(map(placed, mode["deviations"]))
        yield evidence(check, "fail", f"{mode['deviant_rounds']} of {rounds} rounds parted from the others: {places}")
    elif rounds > 1:
        yield evidence(check, "pass", f"{rounds} rounds of {mode['steps']} steps, each with the same bits after every step")
    if mode["last_loss"] is None:
        yield evidence(check, "suspect", "the loss is not finite in the end, so later steps prove little")


def placed(deviation: Deviation) -> str:
    again = "; the same place gave other numbers again" if deviation["again"] else ""
    return f"round {deviation['round']}, step {deviation['step']}, {deviation['place']}, at {deviation['tensor']}{again}"


def of_counters(before: Ecc | None, after: Ecc | None) -> Iterator[Evidence]:
    if before is None or after is None:
        return
    found = [(counter, what, level, after.get(counter, 0) - before.get(counter, 0)) for counter, what, level in COUNTERS]
    for _, what, level, count in found:
        if count > 0:
            yield evidence("ECC", level, f"{count} {what} during the test")
    if after.get("remapping_failed"):
        yield evidence("ECC", "fail", "a row of memory could not be replaced: none is left")
    if after.get("remapping_pending"):
        yield evidence("ECC", "suspect", "a row of memory waits for a reset of the GPU to be replaced")
    if not any(count > 0 for *_, count in found):
        yield evidence("ECC", "pass", "no error was counted during the test")


def of_links(before: Health, after: Health, load: LoadFigures) -> Iterator[Evidence]:
    link = load.get("pcie", {})
    for name, unit in (("width", "lanes"), ("generation", "")):
        now, most = link.get(name), link.get(f"{name}_max")
        if isinstance(now, int) and isinstance(most, int):
            level: Level = "suspect" if now < most else "pass"
            yield evidence("PCIe", level, f"{name} {now} of {most} {unit}".rstrip() + " under load")
    replays = (after.get("pcie", {}).get("replays", 0), before.get("pcie", {}).get("replays", 0))
    if replays[0] > replays[1]:
        yield evidence("PCIe", "suspect", f"{replays[0] - replays[1]} packets had to be sent again")
    if (was := before.get("nvlink")) and (now_up := after.get("nvlink")):
        errors = now_up["errors"] - was["errors"]
        level = "suspect" if errors > 0 or now_up["active"] < now_up["links"] else "pass"
        yield evidence("NVLink", level, f"{now_up['active']} of {now_up['links']} links are up, {errors} errors during the test")


def of_load(load: LoadFigures) -> Iterator[Evidence]:
    if load.get("lost"):
        yield evidence("GPU", "fail", "it stopped answering the driver")
    for reason, share in load.get("throttled", {}).items():
        if reason in SLOWED and share > 0:
            yield evidence("clocks", "suspect", f"{SLOWED[reason]}: {reason} in {share:.0%} of the samples")


def untested(facts: Facts, refused: str, *, gpu: bool) -> list[str]:
    """What the verdict says nothing about."""
    found = []
    done = {mode["mode"]: mode["rounds"] for mode in facts["modes"]}
    if "tf32" not in done:
        found.append("TF32: this device has none.")
    found += [f"Repetition in {mode}: there was one round." for mode, rounds in done.items() if rounds < 2]
    if refused:
        found.append(f"Device memory beside that of the training: {refused}.")
    if not gpu:
        found.append("GPU: the work was done by a CPU. Copies and memory patterns were those of host memory.")
    else:
        said: Mapping[str, Any] = facts["after"]
        names = {"ecc": "ECC counters and remapped rows", "pcie": "PCIe link", "nvlink": "NVLink"}
        found += [f"{what}: the driver does not tell." for key, what in names.items() if key not in said]
    return [*found, "Links between GPUs under load, and collectives: each GPU worked alone.", "Video, graphics and FP64 units: not used."]


def evidence(check: str, level: Level, what: str) -> Evidence:
    return {"check": check, "level": level, "what": what}
