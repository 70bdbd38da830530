"""Bad inputs: one paragraph, the designed exit code, no traceback, and no framework needed to say so."""

from pathlib import Path

import pytest

from tests.support.commands import alexnet

FLAGS = [
    (["--epochs", "0"], "epochs must be"),
    (["--epochs", "many"], "epochs must be a whole number"),
    (["--epochs", "1.5"], "epochs must be a whole number"),
    (["--batch-size", "0"], "batch_size must be"),
    (["--batch-size", "100000"], "only 1442 training images"),
    (["--image-size", "32"], "image_size must be"),
    (["--image-size", "9999"], "image_size must be"),
    (["--set", "progressive_resizing=160:1"], "progressive_resizing must be none, or PIXELS:SHARE"),
    (["--width", "0"], "width must be"),
    (["--width", "nan"], "finite"),
    (["--precision", "fp8"], "precision must be one of"),
    (["--validation", "-1"], "validation must be"),
    (["--validation", "5000"], "validation = 5000"),
    (["--set", "learning_rate"], "KEY=VALUE"),
    (["--set", "learning_rat=1"], "Did you mean learning_rate"),
    (["--set", "learning_rate=-1"], "learning_rate must be"),
    (["--set", "flip=maybe"], "flip must be true or false"),
    (["--set", "optimizer=adamw"], "optimizer must be one of"),
    (["--set", "dropout=1"], "dropout must be"),
    (["--set", "epochs=3", "--epochs", "4"], "given twice"),
    (["--recipe", "best"], "neither a file nor a recipe"),
    (["--engine", "jax"], "jax"),
    (["--device", "tpu"], "tpu"),
    (["--seed", "-1"], "-1"),
    (["--data", "mnist"], "mnist"),
    (["--data", "/nonexistent/data"], "/nonexistent/data"),
    (["--subset", "1000000"], "1442"),
    (["--output", "http://host/bucket"], "names no store"),
    (["--run-id", "a/b"], "a/b"),
    (["--run-id", ""], "--run-id"),
    (["--init-from", "model.pt"], "pretrained"),
    (["--recipe", "pretrained"], "--init-from"),
    (["--frobnicate"], "frobnicate"),
]


@pytest.mark.parametrize(("words", "text"), FLAGS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_wrong_flag(words: list[str], text: str, tmp_path: Path) -> None:
    base = ["--engine", "torch", "--data", "digits", "--output", str(tmp_path)]
    check(alexnet("train", *base, *words), 2, text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("epochs = ", "recipe"),
        ("epochs = 'three'", "epochs must be a whole number"),
        ("learningrate = 1", "Did you mean learning_rate"),
        ("flip = 2", "flip must be true or false"),
        ("[optimizer]\nname = 'sgd'", "optimizer must be one of"),
    ],
)
def test_a_wrong_recipe(content: str, text: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(content)
    check(alexnet("train", "--dry-run", "--recipe", str(recipe)), 2, text)


def test_a_wrong_variable() -> None:
    check(alexnet("train", "--dry-run", ALEXNET_EPOCHS="x"), 2, "epochs must be a whole number")
    check(alexnet("train", "--dry-run", ALEXNET_EPOCH="3"), 0, "ALEXNET_EPOCH is not one of ours")


def test_precedence(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("epochs = 5\nbatch_size = 16\nseed_free = 1\n".replace("seed_free = 1\n", ""))
    result = alexnet("train", "--dry-run", "--recipe", str(recipe), "--epochs", "7", ALEXNET_EPOCHS="6", ALEXNET_BATCH_SIZE="8")
    assert "epochs = 7\n" in result.stdout
    assert "batch_size = 8\n" in result.stdout


def test_damaged_data(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"\x01" * 100)
    (tmp_path / "test_batch.bin").write_bytes(b"\x01" * 3073)
    check(alexnet("train", "--engine", "torch", "--data", str(tmp_path), "--output", str(tmp_path / "runs")), 65, "data_batch_1.bin")


@pytest.mark.parametrize("engine", ["torch", "tensorflow"])
def test_no_gpu(engine: str, tmp_path: Path) -> None:
    words = ("--engine", engine, "--data", "digits", "--output", str(tmp_path), "--device", "cuda")
    check(alexnet("train", *words, CUDA_VISIBLE_DEVICES=""), 78, "sees no usable GPU")


def check(result: object, code: int, text: str) -> None:
    assert result.returncode == code, result.stderr  # type: ignore[attr-defined]
    assert text in result.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in result.stderr  # type: ignore[attr-defined]
