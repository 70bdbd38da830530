"""The pattern test: all blocks are written before the first is read, and none of a pattern is left when the next one begins."""

import weakref
from typing import Any

import pytest

from job.acceptance import memory


class Block:
    def __init__(self, words: int, factor: int, value: int) -> None:
        self.words, self.key = words, (factor, value)


class Probe:
    """Memory in which one block forgets."""

    def __init__(self, wrong: tuple[int, int] | None = None) -> None:
        self.alive: Any = weakref.WeakSet()
        self.most, self.wrong = 0, wrong

    def pattern(self, words: int, factor: int, value: int) -> Block:
        block = Block(words, factor, value)
        self.alive.add(block)
        self.most = max(self.most, len(self.alive))
        return block

    def wrong_words(self, found: Block, factor: int, value: int) -> int:
        assert found.key == (factor, value)
        assert len(self.alive) == 4
        return 3 if found.key == self.wrong else 0


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 1 << 10)


def test_no_more_than_was_asked_for_is_held_at_once() -> None:
    said: list[str] = []
    probe: Any = Probe()
    assert memory.patterns(probe, 4100, said.append, float("inf")) == {"bytes": 4096, "patterns": 5, "wrong_words": 0}
    assert probe.most == 4
    assert said[-1] == "memory, pattern 5 of 5"


def test_words_that_come_back_otherwise_are_counted() -> None:
    probe: Any = Probe(wrong=(0, 0x55555555 ^ 2))
    assert memory.patterns(probe, 4096, lambda _: None, float("inf"))["wrong_words"] == 3


def test_it_ends_when_its_time_is_over() -> None:
    probe: Any = Probe()
    assert memory.patterns(probe, 4096, lambda _: None, 0.0)["patterns"] == 0
