"""Metrics of a classifier on a test set: loss, accuracy with its interval, top-5 accuracy, and the confusion matrix."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """(N, K) logarithms of the class probabilities, in nats and float64; no finite logit overflows."""
    exact = np.asarray(logits, dtype=np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def softmax(logits: Logits) -> NDArray[np.float64]:
    """(N, K) class probabilities, in float64; each row sums to 1."""
    return np.exp(log_softmax(logits))


def cross_entropy(logits: Logits, labels: Labels) -> float:
    """Mean over the images of -ln p(true class), in nats, without label smoothing.

    `logits` is (N, K), `labels` (N,).  Raises ValueError for other shapes and for labels outside 0 … K - 1."""
    _check(logits, labels)
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def accuracy(logits: Logits, labels: Labels) -> float:
    """Share of the images, 0 to 1, whose largest logit is that of the true class; among equal logits the first counts.

    `logits` is (N, K), `labels` (N,).  Raises ValueError for other shapes and for labels outside 0 … K - 1."""
    _check(logits, labels)
    return float((logits.argmax(axis=1) == labels).mean())


def top5_accuracy(logits: Logits, labels: Labels) -> float:
    """Share of the images, 0 to 1, where the true class is among the five with the largest logits; among equal ones the first count.

    `logits` is (N, K), `labels` (N,).  Raises ValueError as `accuracy`."""
    _check(logits, labels)
    own = logits[np.arange(len(labels)), labels][:, None]
    first = np.arange(logits.shape[1]) < labels[:, None]
    before = (logits > own) | ((logits == own) & first)
    return float((before.sum(axis=1) < 5).mean())


def wilson(hits: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a proportion, given `hits` of `total`; (0, 1) if `total` is 0.

    `z` is the normal quantile: 1.959964 for a 95 % interval.  Source: E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association 22 (1927), 209-212, without continuity correction.
    """
    if not 0 <= hits <= total:
        raise ValueError(f"hits must lie between 0 and total. Received: hits = {hits}, total = {total}")
    if total == 0:
        return 0.0, 1.0
    share, shrink = hits / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At 0 and at `total` the formula gives exactly 0 and 1, but its rounding does not.
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == total else centre + half)


def confusion(labels: Labels, predictions: Labels, classes: int) -> NDArray[np.int64]:
    """(K, K) counts; row = true class, column = predicted class.  Raises ValueError for a class outside 0 … `classes` - 1."""
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(f"labels and predictions must be (N,) alike. Received: {labels.shape} and {predictions.shape}")
    for name, values in (("labels", labels), ("predictions", predictions)):
        _check_classes(name, values, classes)
    cells = labels.astype(np.int64) * classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def _check(logits: Logits, labels: Labels) -> None:
    """A label array of the wrong shape would broadcast, a negative label would count from the end."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(f"logits must be (N, K) and labels (N,), N > 0. Received: {logits.shape} and {labels.shape}")
    _check_classes("labels", labels, logits.shape[1])


def _check_classes(name: str, values: Labels, classes: int) -> None:
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(f"{name} must lie in 0 … {classes - 1}. Received: {low} … {high}")
