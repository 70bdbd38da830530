"""The first step, part and tensor at which two rounds part."""

import pytest

from job.acceptance.locate import first_difference, first_operation

NAMES = ["weights/a.weight", "weights/b.weight", "slots/momentum/a.weight", "slots/momentum/b.weight"]
SOUND = {"mode": "fp32", "losses": ["0x1p+0"] * 3, "names": NAMES, "sums": [["1", "2", "3", "4"]] * 3}


def changed(losses=None, sums=None):
    """With other losses, step → loss, and other sums, (step, name) → sum; steps from 0."""
    rows = [[*row] for row in SOUND["sums"]]
    for (step, name), word in (sums or {}).items():
        rows[step][NAMES.index(name)] = word
    return {**SOUND, "losses": [(losses or {}).get(step, loss) for step, loss in enumerate(SOUND["losses"])], "sums": rows}


def test_equal_rounds_part_nowhere():
    assert first_difference(SOUND, changed()) is None


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed({1: "0x1.8p+0"}), (2, "forward", "loss", 0)),
        (changed({1: "0x1.8p+0"}, {(1, "weights/a.weight"): "f"}), (2, "forward", "loss", 1)),
        (changed({2: "0x1.8p+0"}, {(1, "weights/b.weight"): "f"}), (2, "update", "weights/b.weight", 1)),
        (changed(sums={(0, name): "f" for name in NAMES}), (1, "forward", "logits", 4)),
        (changed(sums={(0, "slots/momentum/b.weight"): "f", (0, "weights/b.weight"): "f"}), (1, "backward", "gradients/b.weight", 2)),
        (changed(sums={(2, "weights/a.weight"): "f", (2, "slots/momentum/a.weight"): "f"}), (3, "backward", "gradients/a.weight", 2)),
        (changed(sums={(2, "slots/momentum/a.weight"): "f"}), (3, "backward", "gradients/a.weight", 1)),
    ],
)
def test_the_first_part_of_the_first_step(other, expected):
    assert first_difference(other, SOUND) == expected
    assert first_difference(SOUND, other) == expected


def test_operations_in_the_order_of_computation():
    known = [{"name": name, "digest": "0" * 16} for name in ("inputs", "activations/a", "logits")]
    assert first_operation(known, known) == ""
    assert first_operation([known[0], {**known[1], "digest": "f" * 16}, {**known[2], "digest": "f" * 16}], known) == "activations/a"
