"""The hash behind the dropout masks."""

import hashlib

import numpy as np
import pytest

from job.core.dropout import keep_mask, mix, threshold
from job.core.sampling import row_keys


def test_mix_is_lowbias32():
    """By Python's own integers, after the published listing."""

    def lowbias32(x):
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    words = np.array([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 123456789], np.uint32)
    np.testing.assert_array_equal(mix(words), [lowbias32(int(word)) for word in words])


def test_mix_maps_no_two_words_to_one():
    assert len(np.unique(mix(np.arange(1 << 18, dtype=np.uint32)))) == 1 << 18


def test_the_masks_are_what_they_were():
    mask = keep_mask(row_keys(7, 3, 1, 5), 1000, 0.5)
    assert hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16] == "a98e3a144315621f"


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_share_that_is_dropped(rate):
    mask = keep_mask(row_keys(1, 0, 0, 128), 4096, rate)
    deviation = (rate * (1 - rate)) ** 0.5
    assert abs(1 - mask.mean() - rate) <= 5 * deviation / mask.size**0.5
    assert (abs(1 - mask.mean(0) - rate) <= 6 * deviation / 128**0.5).all()
    assert (abs(1 - mask.mean(1) - rate) <= 6 * deviation / 4096**0.5).all()


@pytest.mark.parametrize(("rate", "expected"), [(0, 0), (0.5, 2**23), (0.25, 2**22), (1 - 2**-24, 2**24 - 1)])
def test_threshold(rate, expected):
    assert threshold(rate) == expected


def test_rows_are_no_shifted_or_permuted_copies_of_each_other():
    """Neighbours share about half of their bits at every shift, cyclic or by exclusive or."""
    mask = keep_mask(row_keys(1, 0, 0, 24), 1024, 0.5)
    signs = np.where(mask, 1.0, -1.0)
    spectrum = np.fft.fft(signs)
    columns = np.arange(1024)
    for a in range(24):
        for b in range(a):
            shifted = np.fft.ifft(spectrum[a] * spectrum[b].conj()).real / 1024
            assert abs(shifted).max() < 0.22, (a, b)  # seven deviations of 1/32
        for bit in range(10):
            assert abs(signs[a] @ signs[a - 1][columns ^ (1 << bit)]) / 1024 < 0.22


def test_layers_and_steps_have_unrelated_masks():
    one, other, later = (keep_mask(row_keys(1, step, layer, 64), 512, 0.5) for step, layer in ((0, 0), (0, 1), (1, 0)))
    for mask in (other, later):
        assert abs((one == mask).mean() - 0.5) < 0.02
