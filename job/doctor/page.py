"""The lines of the page, and the setup that is checked."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from job.core.recipe import Recipe
from job.runs.statefile import state_bytes

Level = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """The result of one check."""

    check: str
    """name of the check"""
    level: Level
    reason: str
    """what was found, with its figures"""
    remedy: str = ""
    """what to do about it; "" for a pass"""

    @property
    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def failed(check: str, error: Exception) -> Line:
    """A failed check, from one of the project's errors: its first sentence is the reason, the rest the remedy."""
    reason, _, remedy = str(error).partition(". ")
    return Line(check=check, level="fail", reason=reason.removesuffix("."), remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is to run here, and where its results go.  None: not given, so not checked."""

    recipe: Recipe
    engines: tuple[str, ...]
    device: str
    output: str | None
    data: str | None
    mirror: str | None
    cache: Path
    spool: Path | None
    grace: float
    """seconds between SIGTERM and SIGKILL"""
    networks: int = 1
    """that are in memory at once"""

    @property
    def checkpoint_bytes(self) -> int:
        return state_bytes(self.recipe, self.recipe.architecture())
