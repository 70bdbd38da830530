"""What a checkpoint is called, and which files it has."""

import re
from dataclasses import dataclass

CHECKPOINT_FILES = ("metrics.jsonl", "model.safetensors", "optimizer.safetensors", "state.json")
"""beside the manifest"""
_NAME = re.compile(r"step-([0-9]{8})-([0-9]{4}-[0-9a-f]{6})")


@dataclass(frozen=True, kw_only=True, order=True)
class CheckpointName:
    """`step-00003900-0003-7f3a9c`: ordered by step, then by the attempt's number and nonce, as the texts are."""

    step: int
    """that it was made after, at most 99,999,999"""
    attempt: str
    """that made it"""

    @classmethod
    def parse(cls, text: str) -> "CheckpointName | None":
        """None: it is no such name."""
        match = _NAME.fullmatch(text)
        return match and cls(step=int(match[1]), attempt=match[2])

    def __str__(self) -> str:
        return f"step-{self.step:08d}-{self.attempt}"
