"""`make demo`: both engines on real handwritten digits, their results in an S3 bucket; then a table, a verdict and a report."""

import os
import subprocess
import sys
import time

from job.analysis import comparison
from job.runs.results import Results, read_results

ENGINES = ("torch", "tensorflow")


def main() -> int:
    where = "s3://runs" if "AWS_ENDPOINT_URL_S3" in os.environ else "runs"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [f"demo-{engine}-{stamp}" for engine in ENGINES]
    for engine, run in zip(ENGINES, names, strict=True):
        if code := alexnet("train", "--engine", engine, "--recipe", "digits", "--data", "digits", "--output", where, "--run-id", run):
            return code
    runs = [read_results(f"{where}/{run}") for run in names]
    print(f"\n{'engine':<12}{'epochs':>6}{'training':>10}{'test':>8}  {'95 % interval':<16}{'images/s':>9}{'memory':>12}  files")
    print("\n".join(row(run) for run in runs))
    print(f"\n{comparison.compare(runs).verdict}")
    if where.startswith("s3://"):
        print("The bucket is served from .work/s3 while `make s3` runs; copies of both runs, and the report, are in runs/:")
        for run in names:
            alexnet("pull", f"{where}/{run}", "runs")
    return alexnet("report", *(f"{where}/{run}" for run in names), "--output", f"runs/report-{stamp}")


def alexnet(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "job", *words], check=False).returncode


def row(run: Results) -> str:
    summary = run.summary
    low, high = summary["test_accuracy_interval_95"]
    return (
        f"{summary['engine']:<12}{summary['epochs']:>6}{summary['train_accuracy']:>10.1%}{summary['test_accuracy']:>8.1%}  "
        f"{f'{low:.1%} – {high:.1%}':<16}{summary['images_per_second']:>9.0f}{summary['peak_host_memory_bytes'] / 1e9:>9.2f} GB  {run.url}"
    )


if __name__ == "__main__":
    sys.exit(main())
