"""Finished runs into Weights & Biases.    python examples/wandb_import.py RUN [RUN…]

WANDB_PROJECT, WANDB_API_KEY and WANDB_MODE (offline: into ./wandb, for `wandb sync`) mean what they mean to every W&B program.
"""

import sys

import wandb

from job.runs.results import read_results


def send(url: str) -> str:
    """The id of the new run.  The curves' axes are `step`, and `time` for who wants it."""
    run = read_results(url)
    config = {**run.record["recipe"], "seed": run.record["seed"], "engine": run.summary["engine"], "data": run.record["data"]["name"]}
    with wandb.init(name=run.id, config=config) as new:
        new.define_metric("*", step_metric="step")
        for line in run.lines:
            prefix = "interval/" if line["kind"] == "interval" else ""
            figures = {
                f"{prefix}{key}": value for key, value in line.items() if isinstance(value, int | float) and key not in ("time", "step")
            }
            new.log({**figures, "step": line["step"], "time": line.get("time", 0)})
        new.summary.update({key: value for key, value in run.summary.items() if isinstance(value, int | float)})
        return str(new.id)


if __name__ == "__main__":
    for url in sys.argv[1:]:
        print(f"{url} is W&B's run {send(url)}")
