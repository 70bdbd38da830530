"""A run's metrics as a pandas frame: one row per epoch.    python examples/pandas_frame.py RUN [RUN…]

A RUN is FOLDER/ID or s3://bucket/prefix/ID, finished.  `read_results` gives the rest as well: summary, logits, attempts, resource samples
(docs/formats.md).
"""

import sys

import pandas as pd

from job.runs.results import read_results


def epochs(url: str) -> pd.DataFrame:
    """Loss, accuracies, speed and, as `seconds.PURPOSE`, where the time went."""
    run = read_results(url)
    frame = pd.json_normalize([line for line in run.lines if line["kind"] == "epoch"])
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True).dt.floor("s")
    frame.insert(0, "run", run.id)
    return frame.set_index(["run", "epoch"])


if __name__ == "__main__":
    shown = ["time", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "images_per_second"]
    print(pd.concat(map(epochs, sys.argv[1:]))[shown].to_string())
