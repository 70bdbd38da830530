"""`python -m tools.picture docs/report.png`: the report of six short runs, as a browser shows it.

Three seeds in each framework, on the handwritten digits, with a quarter of the channels.  About four minutes on two cores.  Runs that
are there (in .work/picture) are not repeated.  Needed: Chromium.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = Path(".work/picture")
SEEDS = 3
WIDTH, HEIGHT = 1100, 3200
"""pixels of the window; the picture ends before whatever section it would cut in two"""


def main(picture: Path) -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("No Chromium was found: install one, for example with `apt-get install chromium`.", file=sys.stderr)
        return 2
    runs = [train(engine, seed) for engine in ("torch", "tensorflow") for seed in range(SEEDS)]
    page = RUNS / "report.html"
    alexnet("report", *map(str, runs), "--margin", "1", "--output", str(page))
    with tempfile.TemporaryDirectory() as profile:
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        shot = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
        subprocess.run([chromium, *words, *shot], check=True, capture_output=True, timeout=120)
    return 0


def train(engine: str, seed: int) -> Path:
    run = f"{engine}-{seed}"
    where = ["--data", "digits", "--recipe", "digits", "--width", "0.25", "--output", str(RUNS), "--run-id", run]
    alexnet("train", "--engine", engine, "--seed", str(seed), *where)
    return RUNS / run


def alexnet(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "job", *words], check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
