"""What `make reproduce` prints, over results made in memory; the command itself runs in tests/e2e/test_report.py."""

from pathlib import Path

from tests.support.made_up import results
from tools import reproduce

CONSTANT = {"batch_size": 64, "schedule": "constant"}
TORCH = results("t", accuracy=0.68, recipe_name="report-torch", epochs=30, **CONSTANT)
KERAS = results("k", "tensorflow", accuracy=0.70, noise=2, recipe_name="report-keras", epochs=30, conv1_padding="same", **CONSTANT)
BOTH = results("b", accuracy=0.69, noise=3, recipe_name="report-keras", epochs=30, conv1_padding="same", **CONSTANT)
SETTINGS = reproduce.Settings(data="digits", epochs=30, subset=None, image_size=None, width=None, output=Path("runs"))


def line(text: str, start: str) -> list[str]:
    return next(row for row in text.splitlines() if row.startswith(start)).split()


def test_the_published_mistakes_are_made_on_purpose_in_the_first_table_only():
    told = reproduce.retold(TORCH, KERAS, SETTINGS)
    assert line(told, "accuracy") == ["accuracy", "67", "%", "81", "%", "78", "%"]
    # made_up: test accuracy 0.9 - 0.5 / epoch, training accuracy 1 - 0.5 / epoch
    assert "accuracy         87.5 %   98.3 %" in told
    assert "50,000 training and 10,000 test images, 224 pixels, width 1, cpu" in told
    right = reproduce.as_it_should_be([TORCH, KERAS], 20)
    rows = [row.split() for row in right.splitlines() if row.startswith("report-")]
    assert [(row[0], row[2], row[3], row[-1] == "GB") for row in rows] == [
        ("report-torch", "20", "87.5", False),
        ("report-keras", "20", "87.5", False),
        ("report-torch", "30", "88.3", True),
        ("report-keras", "30", "88.3", True),
    ]
    assert "No verdict: the runs are not comparable, they differ in recipe: conv1_padding." in right
    assert "Unfair comparison" in right
    falling = results("p", recipe_name="pretrained", epochs=30)
    rows = [row.split()[2] for row in reproduce.as_it_should_be([TORCH, KERAS, falling], 20).splitlines() if row.startswith("pretrained")]
    assert rows == ["30"]


def test_the_steps_add_up_to_the_gap():
    way = reproduce.way(TORCH, BOTH, KERAS, 20)
    changes = [float(row.split()[-1].replace("−", "-")) for row in way.splitlines()[2:]]
    assert len(changes) == 6
    assert abs(sum(changes[:-1]) - changes[-1]) < 0.3  # each is rounded to 0.1
    assert changes[-1] == 10.8  # 98.3 - 87.5


def test_each_difference_alone_is_tested_on_the_same_images():
    table = reproduce.alone(TORCH, {"same": TORCH, "padding": BOTH})
    assert "same" in table
    assert line(table, "same ")[1:] == ["68.0", "%", "0.0", "−0.04", "to", "+0.04", "p", "=", "1.00", "99.0", "%"]
    assert line(table, "padding")[1:4] == ["69.0", "%", "+1.0"]
