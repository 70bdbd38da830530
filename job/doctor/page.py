"""What the page is made of, and what it is asked."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from job.core.recipe import Recipe
from job.training.checkpointer import state_bytes

Level = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One finding."""

    check: str
    """what was looked at"""
    level: Level
    reason: str
    """what was seen, with its figures"""
    remedy: str = ""
    """what to do about it"""

    @property
    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def failed(check: str, error: Exception) -> Line:
    """The project's errors are one paragraph: first what happened, then what to do."""
    reason, _, remedy = str(error).partition(". ")
    return Line(check=check, level="fail", reason=reason.removesuffix("."), remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to run here, and where its results go.  None: not asked for."""

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

    @property
    def checkpoint_bytes(self) -> int:
        return state_bytes(self.recipe, self.recipe.architecture())
