"""`make reproduce`: the report that this project starts from, its table as published and as it should have been.

It runs `report-torch` in PyTorch and `report-keras` in TensorFlow, both for the longer time of the two.  Their learning rate is
constant, so the first epochs of the long run are the short run.  With `--ablation`, one difference is switched at a time, all in
PyTorch.  A second call continues what is unfinished and repeats nothing.  docs/the-81-percent.md tells the story.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from job.analysis.comparison import accuracy, compare
from job.analysis.formatting import columns, p_text, percent, points
from job.analysis.paired import paired
from job.analysis.text import interval
from job.core.metrics import wilson
from job.runs.results import Results
from tools.trained import exit_code, trained

LONG, SHORT = 30, 20
"""epochs of the original Keras program and of the original PyTorch program"""
PUBLISHED = [
    ["", "PyTorch", "Keras", "pretrained"],
    ["accuracy", "67 %", "81 %", "78 %"],
    ["of which images", "test", "TRAINING (test: 70 %)", "not retold here"],
    ["epochs", "20", "30", ""],
    ["host memory", "", "31 GB", ""],
]
SWITCHES = {
    "conv 1 padded as `same`": ("conv1_padding=same",),
    "each image standardised": ("normalization=per-image",),
    "dropout after the dense layers": ("dropout_position=after",),
    "Keras' initial weights": ("initial_weights=keras",),
    "Keras' Adam, epsilon 1e-7": ("optimizer=adam-keras", "epsilon=1e-7"),
}
SEEDS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Settings:
    data: str
    epochs: int
    subset: int | None
    image_size: int | None
    width: str | None
    output: Path

    @property
    def short(self) -> int:
        """Epochs of the PyTorch program, in the published proportion."""
        return max(1, round(self.epochs * SHORT / LONG))

    @property
    def flags(self) -> list[str]:
        values = {"--subset": self.subset, "--image-size": self.image_size, "--width": self.width}
        return [word for flag, value in values.items() if value is not None for word in (flag, str(value))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make reproduce", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=int, default=LONG)
    parser.add_argument("--subset", type=int)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--width")
    parser.add_argument("--init-from", help="an ImageNet AlexNet: adds the pretrained column")
    parser.add_argument("--output", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--ablation", action="store_true")
    words = parser.parse_args()
    settings = Settings(**{key: value for key, value in vars(words).items() if key not in ("init_from", "ablation")})

    def run() -> None:
        torch = train(settings, "report-torch", "torch", "report-torch")
        keras = train(settings, "report-keras", "tensorflow", "report-keras")
        more = pretrained(settings, words.init_from) if words.init_from else []
        print(f"\n{retold(torch, keras, settings)}\n\n{as_it_should_be([torch, keras, *more], settings.short)}")
        if words.ablation:
            print(f"\n{ablation(settings, torch, keras)}")

    return exit_code(run)


def train(settings: Settings, name: str, engine: str, recipe: str, *words: str) -> Results:
    """Run it or go on with it, under a name that tells its size.  Raises CalledProcessError with the exit code of the run."""
    size = "-".join(str(v) for v in (settings.epochs, settings.subset, settings.image_size, settings.width) if v is not None)
    flags = ("--epochs", str(settings.epochs), *settings.flags, *words)
    return trained(engine, recipe, f"{name}-{size}", *flags, data=settings.data, output=str(settings.output))


def pretrained(settings: Settings, weights: str) -> list[Results]:
    words = ("pretrained", "--init-from", weights)
    return [train(settings, f"pretrained-{engine}", engine, *words) for engine in ("torch", "tensorflow")]


def retold(torch: Results, keras: Results, settings: Settings) -> str:
    """The published table, and the one that the same mistakes make of our runs."""
    ours = [
        ["", "PyTorch", "Keras"],
        ["accuracy", percent(after(torch, settings.short, "test")), percent(after(keras, settings.epochs, "train"))],
        ["of which images", "test", "TRAINING"],
        ["epochs", str(settings.short), str(settings.epochs)],
        ["host memory", memory(torch), memory(keras)],
    ]
    return f"As published\n\n{columns(PUBLISHED)}\n\nOur runs, told in the same way ({described(torch)})\n\n{columns(ours)}"


def as_it_should_be(runs: Sequence[Results], short: int) -> str:
    """Equal epochs, training and test apart, the whole test set, intervals; then the verdict of `alexnet compare`."""
    rows = [["program", "in", "epochs", "test", "95 % interval", "images", "(training)", "time", "memory"]]
    for epoch in sorted({short, *(run.summary["epochs"] for run in runs)}):
        for run in runs:
            if epoch < run.summary["epochs"] and run.record["recipe"]["schedule"] != "constant":
                continue  # on the way of a falling learning rate, not the end of a shorter run
            share, images = after(run, epoch, "test"), len(run.labels)
            low, high = wilson(round(share * images), images)
            whole = epoch == run.summary["epochs"]
            cost = [seconds(run), memory(run)] if whole else ["", ""]
            figures = [percent(share), f"{100 * low:.1f} – {100 * high:.1f}", str(images), percent(after(run, epoch, "train"))]
            rows.append([run.summary["recipe"], run.summary["engine"], str(epoch), *figures, *cost])
    return f"As it should have been\n\n{columns(rows, right=2)}\n\n{compare(runs[:2]).verdict}\n{compare(runs[:2], anyway=True).verdict}"


def ablation(settings: Settings, torch: Results, keras: Results) -> str:
    """The way from one published figure to the other, each difference alone, and the one fair comparison."""
    switched = {
        label: train(settings, f"ablation-{n}", "torch", "report-torch", *(word for pair in pairs for word in ("--set", pair)))
        for n, (label, pairs) in enumerate(SWITCHES.items(), 1)
    }
    switched["all five: the Keras program"] = everything = train(settings, "report-keras-in-torch", "torch", "report-keras")
    for seed in SEEDS:
        switched[f"nothing but the seed ({seed})"] = train(settings, f"report-torch-{seed}", "torch", "report-torch", "--seed", str(seed))
    fair = f"The Keras program in both frameworks, all else equal:\n{compare([everything, keras]).verdict}"
    return f"{way(torch, everything, keras, settings.short)}\n\n{alone(torch, switched)}\n\n{fair}"


def way(torch: Results, everything: Results, keras: Results, short: int) -> str:
    """From the first published figure to the second, one change after the other.  `everything`: the Keras program in PyTorch."""
    epochs, batch = keras.summary["epochs"], keras.record["recipe"]["batch_size"]
    kept = len(keras.labels) // batch * batch
    steps = [
        (f"PyTorch program, test accuracy after {short} epochs", after(torch, short, "test")),
        (f"… after {epochs} epochs", accuracy(torch)),
        ("… with the Keras program's padding, normalisation, dropout, weights and Adam", accuracy(everything)),
        ("… in TensorFlow", accuracy(keras)),
        (f"… on the first {kept} of {len(keras.labels)} test images", float((keras.logits[:kept].argmax(1) == keras.labels[:kept]).mean())),
        ("… on the training images instead", after(keras, epochs, "train")),
    ]
    rows = [["step by step", "accuracy", "change in points"]]
    for number, (label, share) in enumerate(steps):
        rows.append([label, percent(share), points(share - steps[number - 1][1]) if number else ""])
    rows.append(["in all", "", points(steps[-1][1] - steps[0][1])])
    return columns(rows, right=1)


def alone(torch: Results, switched: dict[str, Results]) -> str:
    """Each change alone, against the PyTorch program at equal epochs, on the same test images."""
    rows = [[f"one at a time, after {torch.summary['epochs']} epochs", "test", "change", "95 % interval", "McNemar", "(training)"]]
    rows.append(["the PyTorch program", percent(accuracy(torch)), "", "", "", percent(torch.summary["train_accuracy"])])
    for label, run in switched.items():
        pair = paired(torch.logits.argmax(1), run.logits.argmax(1), torch.labels)
        figures = [percent(accuracy(run)), points(pair.difference), interval(pair), p_text(pair.p)]
        rows.append([label, *figures, percent(run.summary["train_accuracy"])])
    return columns(rows, right=1)


def after(run: Results, epoch: int, part: str) -> float:
    """Accuracy on the "test" or the "train" images after that many epochs."""
    return next(float(line[f"{part}_accuracy"]) for line in run.lines if line["kind"] == "epoch" and line["epoch"] == epoch)


def described(run: Results) -> str:
    recipe, data = run.record["recipe"], run.record["data"]
    size = f"{recipe['image_size']} pixels, width {recipe['width']:g}"
    return f"{data['train_images']:,} training and {data['test_images']:,} test images, {size}, {run.summary['device']}"


def seconds(run: Results) -> str:
    return f"{sum(run.summary['time'].values()):,.0f} s" if run.summary.get("time") else "—"


def memory(run: Results) -> str:
    return f"{run.summary['peak_host_memory_bytes'] / 1e9:.2f} GB"


if __name__ == "__main__":
    sys.exit(main())
