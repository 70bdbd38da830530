"""The figures of a test set, against SciPy and by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import binomtest

from job.core.metrics import accuracy, confusion, cross_entropy, softmax, top5_accuracy, wilson

LOGITS = np.random.Generator(np.random.PCG64(5)).normal(scale=20, size=(200, 10)).astype(np.float32)
LABELS = (np.arange(200) * 7 % 10).astype(np.uint8)


def test_softmax_and_cross_entropy_agree_with_scipy():
    expected = log_softmax(LOGITS.astype(np.float64), axis=1)
    np.testing.assert_allclose(softmax(LOGITS), np.exp(expected), rtol=1e-13, atol=0)
    assert cross_entropy(LOGITS, LABELS) == pytest.approx(-expected[np.arange(200), LABELS].mean(), rel=1e-13)


def test_softmax_works_in_float64_and_leaves_its_input_alone():
    logits = np.array([[1.0, 2.0, 3.0]])
    result = softmax(logits)
    assert result.dtype == softmax(LOGITS).dtype == np.float64
    assert result.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(logits, [[1.0, 2.0, 3.0]])


def test_large_logits_do_not_overflow():
    logits = np.array([[1e30, 0, -1e30], [2000, 2001, 0]], dtype=np.float32)
    np.testing.assert_allclose(softmax(logits), [[1, 0, 0], [1 / (1 + np.e), np.e / (1 + np.e), 0]], rtol=1e-12)
    assert cross_entropy(logits[1:], np.array([2])) == pytest.approx(2001 + np.log1p(np.exp(-1)), rel=1e-12)


def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes():
    assert cross_entropy(np.zeros((3, 10), np.float32), np.array([0, 4, 9])) == pytest.approx(np.log(10), rel=1e-15)


def test_accuracy_counts_greatest_logits_and_of_equal_ones_the_first():
    logits = np.array([[2, 1, 0], [0, 2, 1], [1, 1, 0], [0, 3, 3]], dtype=np.float32)
    assert accuracy(logits, np.array([0, 2, 0, 2])) == 0.5
    assert accuracy(logits, np.array([0, 1, 0, 1])) == 1.0


def test_top5_accuracy_counts_five_and_of_equal_ones_the_first():
    logits = np.array([[9, 8, 7, 6, 5, 4, 3], [0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
    assert [top5_accuracy(logits, np.array([label, label])) for label in range(7)] == [1, 1, 1, 1, 1, 0, 0]
    among = [label in row for label, row in zip(LABELS, np.argsort(-LOGITS, axis=1, kind="stable")[:, :5], strict=True)]
    assert top5_accuracy(LOGITS, LABELS) == np.mean(among)
    assert top5_accuracy(LOGITS[:, :5], LABELS % 5) == 1


@pytest.mark.parametrize("function", [accuracy, top5_accuracy, cross_entropy])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((4, 3)), np.zeros((4, 1), int), r"\(4, 1\)"),
        (np.zeros((4, 3)), np.zeros(1, int), r"\(1,\)"),
        (np.zeros((0, 3)), np.zeros(0, int), "N > 0"),
        (np.zeros(3), np.zeros(3, int), r"logits must be \(N, K\)"),
        (np.zeros((2, 3)), np.array([0, -1]), "-1 … 0"),
        (np.zeros((2, 3)), np.array([0, 3]), "0 … 3"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(function, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        function(logits, labels)


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (1, 1), (0, 1), (1, 2), (3, 7), (81, 100), (7012, 10000), (10000, 10000)])
def test_wilson_agrees_with_scipy(hits, total):
    expected = binomtest(hits, total).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-7)
    expected = binomtest(hits, total).proportion_ci(confidence_level=0.99, method="wilson")
    assert wilson(hits, total, z=2.5758293035489) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_at_its_borders():
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 9)[0] == 0
    assert wilson(9, 9)[1] == 1
    for hits, total in [(-1, 5), (6, 5)]:
        with pytest.raises(ValueError, match=f"hits = {hits}, total = 5"):
            wilson(hits, total)


def test_confusion_has_true_classes_in_rows():
    labels, predictions = np.array([0, 0, 0, 1, 2], np.uint8), np.array([0, 2, 2, 1, 1], np.int64)
    matrix = confusion(labels, predictions, 4)
    np.testing.assert_array_equal(matrix, [[1, 0, 2, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert matrix.dtype == np.int64


def test_confusion_of_many_classes_does_not_wrap_bytes():
    labels = np.full(3, 200, np.uint8)
    assert confusion(labels, labels, 201)[200, 200] == 3


def test_confusion_of_nothing_is_zero():
    np.testing.assert_array_equal(confusion(np.zeros(0, int), np.zeros(0, int), 2), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [([0, 3], [0, 1], "labels must lie in 0 … 2"), ([0, 1], [-1, 1], "predictions must lie in 0 … 2"), ([0], [0, 1], "alike")],
)
def test_confusion_refuses_unknown_classes_and_unequal_lengths(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        confusion(np.array(labels), np.array(predictions), 3)


def test_confusion_and_accuracy_count_the_same_hits():
    matrix = confusion(LABELS, LOGITS.argmax(axis=1), 10)
    assert matrix.sum() == len(LABELS)
    assert np.trace(matrix) / matrix.sum() == accuracy(LOGITS, LABELS)
