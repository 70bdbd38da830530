"""Finished runs into MLflow, every metric with its own time.    python examples/mlflow_import.py RUN [RUN…]

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where to, as for every MLflow program.  `pip install mlflow` (or `mlflow-skinny`).
"""

import sys

import mlflow
from mlflow.entities import Metric

from job.runs.results import read_results

BATCH = 1000
"""metrics that a request may have"""


def send(url: str) -> str:
    """The id of the new run."""
    run = read_results(url)
    metrics = [
        Metric(f"interval.{key}" if line["kind"] == "interval" else key, float(value), int(1000 * line.get("time", 0)), line["step"])
        for line in run.lines
        for key, value in line.items()
        if isinstance(value, int | float) and key not in ("time", "step")
    ]
    with mlflow.start_run(run_name=run.id) as new:
        mlflow.log_params({**run.record["recipe"], "seed": run.record["seed"]})
        mlflow.set_tags({"alexnet.run": run.url, "engine": run.summary["engine"], "data": run.record["data"]["name"]})
        for start in range(0, len(metrics), BATCH):
            mlflow.MlflowClient().log_batch(new.info.run_id, metrics=metrics[start : start + BATCH])
    return str(new.info.run_id)


if __name__ == "__main__":
    for url in sys.argv[1:]:
        print(f"{url} is MLflow's run {send(url)}")
