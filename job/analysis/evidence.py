"""Everything on which the verdict over several runs rests."""

from dataclasses import dataclass

from job.analysis.comparability import Difference
from job.analysis.over_seeds import Seeds
from job.analysis.paired import Paired

Matrix = list[list[float]]
"""(K, K): row = true class, column = predicted class"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run in the table."""

    id: str
    side: str
    """label of its side"""
    engine: str
    """`torch → tensorflow` where it went on in another"""
    recipe: str
    seed: int
    epochs: int
    train_accuracy: float
    test_accuracy: float
    low: float
    """of Wilson's 95 % interval"""
    high: float
    test_images: int
    calibration_error: float
    per_class: list[float | None]
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """An accuracy with its 95 % interval: Wilson's with one seed, over seeds and images with several."""

    mean: float
    """over the seeds"""
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Side:
    """Runs that differ in nothing that a comparison is about: their seeds are repetitions."""

    label: str
    runs: list[str]
    """ids, as in Figures"""
    seeds: list[int]
    """each once, in ascending order; runs with the same seed count as one, with their mean"""
    seed_accuracies: list[float]
    """of each seed"""
    accuracy: Share
    deviation: float | None
    """of the accuracy between seeds; None with one seed"""
    per_class: list[Share | None]
    """of each class; None where there are no images of it"""
    confusion: Matrix
    """shares of the images of each true class, mean over the seeds; empty with more than LARGEST_MATRIX classes"""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    figures: list[Figures]
    differences: list[Difference]
    """the unfair ones first"""
    sides: dict[str, Side]
    """label → side, in the order of first appearance"""
    seeds: dict[str, Seeds]
    """ "first | second" → the test over seeds and images of two sides; none where no side has several seeds"""
    pairs: dict[str, Paired]
    """ "first | second" → the paired test of two runs; none where the test images differ"""
    agreement: list[list[float | None]]
    """share of the images with the same prediction, run by run"""
    confusion_differences: dict[str, Matrix]
    """ "first | second" → the second side's confusion matrix minus the first's"""
    irreproducible: dict[str, str]
    """ "first | second" → how two runs differ in their results that are equal in all that is recorded, which should not happen"""
    classes: list[str]
    """none where the runs do not have the same"""
    margin: float | None
    """largest difference, as a share, that counts as equal; None: not asked"""
