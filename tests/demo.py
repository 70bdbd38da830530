"""`make demo`: both engines on scikit-learn's handwritten digits, then a table."""

import json
import subprocess
import sys
import time
from pathlib import Path

ENGINES = ("torch", "tensorflow")


def main() -> int:
    output, stamp = Path("runs"), time.strftime("%Y%m%d-%H%M%S")
    rows = []
    for engine in ENGINES:
        run = f"demo-{engine}-{stamp}"
        command = [sys.executable, "-m", "job", "train", "--engine", engine, "--recipe", "digits", "--data", "digits"]
        code = subprocess.run([*command, "--output", str(output), "--run-id", run], check=False).returncode
        if code:
            return code
        summary = json.loads((output / run / "summary.json").read_text())
        low, high = summary["test_accuracy_interval_95"]
        rows.append(
            f"{engine:<12}{summary['epochs']:>6}{summary['train_accuracy']:>10.1%}{summary['test_accuracy']:>8.1%}  "
            f"{f'{low:.1%} – {high:.1%}':<16}{summary['images_per_second']:>9.0f}"
            f"{summary['peak_host_memory_bytes'] / 1e9:>9.2f} GB  {output / run}"
        )
    print(f"\n{'engine':<12}{'epochs':>6}{'training':>10}{'test':>8}  {'95 % interval':<16}{'images/s':>9}{'memory':>12}  files")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
