"""The programs in examples/, run as their first lines say."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import environment, summary, train

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run called `r`."""
    folder = tmp_path_factory.mktemp("runs")
    assert train("torch", folder, "r").returncode == 0
    return folder


def run(name: str, output: Path, folder: Path, **variables: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), str(output / "r")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment(PYTHONPATH=str(EXAMPLES.parent), **variables)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"pandas_frame.py", "mlflow_import.py", "wandb_import.py"}


def test_pandas(output: Path, tmp_path: Path) -> None:
    printed = run("pandas_frame.py", output, tmp_path)
    assert f"{summary(output, 'r')['test_accuracy']:.6f}" in printed
    assert len(printed.splitlines()) == 4, "two lines of titles, two epochs"


def test_mlflow(output: Path, tmp_path: Path) -> None:
    where = f"file://{tmp_path}/mlruns"
    printed = run("mlflow_import.py", output, tmp_path, MLFLOW_TRACKING_URI=where, MLFLOW_ALLOW_FILE_STORE="true")
    (folder,) = (tmp_path / "mlruns").glob(f"*/{printed.split()[-1]}")
    lines = (folder / "metrics" / "test_accuracy").read_text().splitlines()
    assert float(lines[-1].split()[1]) == pytest.approx(summary(output, "r")["test_accuracy"])
    assert [int(line.split()[2]) for line in lines] == [45, 90]
    assert (folder / "params" / "learning_rate").read_text() == "0.01"


def test_wandb(output: Path, tmp_path: Path) -> None:
    printed = run("wandb_import.py", output, tmp_path, WANDB_MODE="offline", WANDB_SILENT="true")
    assert [*(tmp_path / "wandb").glob(f"offline-run-*-{printed.split()[-1]}/*.wandb")]
