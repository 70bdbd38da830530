"""The very step, and the part of it, in which a GPU parted: from the checksums of every step, which are read for deviants only."""

from collections.abc import Mapping

from job.acceptance.locate import Place, first_difference
from job.core.acceptance_records import Mode, StepSums
from job.fleet.reading import Report, read_steps

MOST = 32
"""GPUs whose steps are read; of more, which are hardly all broken, the interval is named"""


class Locator:
    """Steps of the GPUs that it was asked about, by name."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        """`reports`: of the fleet, and of the reference."""
        self._reports = reports
        self._steps: dict[str, dict[Mode, StepSums]] = {}

    def __call__(self, gpu: str, right: str, mode: Mode) -> Place | None:
        """Where `gpu` parted from `right`; None where that cannot be told."""
        mine, known = (self._sums(name).get(mode) for name in (gpu, right))
        return first_difference(mine, known) if mine and known and mine["names"] == known["names"] else None

    def _sums(self, name: str) -> dict[Mode, StepSums]:
        if name not in self._steps and len(self._steps) <= MOST:
            steps = read_steps(self._reports[name])
            self._steps[name] = {each["mode"]: each for each in steps["modes"]} if steps else {}
        return self._steps.get(name, {})
