"""What the first step does not wait for."""

import subprocess
import sys


def test_figures_and_statistics_are_imported_when_a_run_ends() -> None:
    """They take seconds, and their memory."""
    script = "import sys, job.training.start; print({'scipy', 'matplotlib', 'tensorboard', 'jinja2', 'boto3'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
