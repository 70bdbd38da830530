"""What all tests share, and what one set of predictions says about itself.

N images, K classes.  Predictions and labels are (N,); accuracies, differences and margins are shares from 0 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from job.core.metrics import Labels, Logits, softmax

LEVEL = 0.05
"""below this p a difference counts as seen; intervals hold the truth in 95 of 100 cases"""
POWER = 0.8
"""with which a difference shall be seen, where one is planned for"""
BINS = 15
"""of the calibration error"""


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests of whether a difference lies within ±`margin`: D. J. Schuirmann, Journal of Pharmacokinetics and
    Biopharmaceutics 15 (1987), 657-680."""

    margin: float
    low: float
    """90 % interval of the difference: the tests succeed exactly where it lies within ±margin"""
    high: float
    p: float
    """the greater one of the two"""
    equal: bool
    """whether it is below 0.05"""


def holm(tests: Mapping[str, float]) -> list[str]:
    """Names of the tests that succeed, given their p, smallest first, with the correction for many tests of S. Holm, Scandinavian
    Journal of Statistics 6 (1979), 65-70."""
    seen = []
    for rank, (name, p) in enumerate(sorted(tests.items(), key=lambda item: item[1])):
        if p >= LEVEL / (len(tests) - rank):
            break
        seen.append(name)
    return seen


def calibration_error(logits: Logits, labels: Labels) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over 15 bins of equal width, weighted by their images.

    Source: C. Guo et al., "On calibration of modern neural networks", ICML 2017, section 2.
    """
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float(confidence[which == b].sum() - right[which == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(labels)


def per_class(predictions: Labels, labels: Labels, classes: int) -> list[float | None]:
    """Accuracy on the images of each class; None where there are none."""
    return [float((predictions[labels == c] == c).mean()) if (labels == c).any() else None for c in range(classes)]
