"""`python -m tools.picture PICTURE.png [WORD…]`: the report of six runs, three seeds in each framework, as Chromium shows it.

Every WORD goes to `alexnet train`; without any, the handwritten digits are trained on.  Runs that are in .work/picture are not repeated;
remove that folder before other WORDs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RUNS = Path(".work/picture")
DIGITS = ("--data", "digits", "--recipe", "digits", "--epochs", "8")
SEEDS = 3
WIDTH, HEIGHT = 1100, 2195
"""pixels of the window: up to the end of the first curves"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(picture: Path, words: Sequence[str]) -> int:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"None of {', '.join(BROWSERS)} is here: install one, for example with `apt-get install chromium`.", file=sys.stderr)
        return 2
    runs = [train(engine, seed, words or DIGITS) for engine in ("torch", "tensorflow") for seed in range(SEEDS)]
    page = RUNS / "report.html"
    alexnet("report", *map(str, runs), "--margin", "5", "--output", str(page))
    photograph(browser, page, picture)
    return 0


def train(engine: str, seed: int, words: Sequence[str]) -> Path:
    run = f"{engine}-{seed}"
    alexnet("train", "--engine", engine, "--seed", str(seed), *words, "--output", str(RUNS), "--run-id", run)
    return RUNS / run


def photograph(browser: str, page: Path, picture: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        shot = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
        subprocess.run([browser, *words, *shot], check=True, capture_output=True, timeout=120)


def alexnet(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "job", *words], check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
