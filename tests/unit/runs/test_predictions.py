"""predictions.npz: what a run leaves is read, and nothing is unpacked that run.json does not announce."""

import io
import tracemalloc
import zipfile
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.exits import Exit, JobError
from job.runs.predictions import parse_predictions
from tests.support.records import DATA, run_record

IMAGES = 50
RECORD = run_record(data={**DATA, "test_images": IMAGES})
LOGITS, LABELS = np.arange(IMAGES * 10, dtype=np.float32).reshape(IMAGES, 10), np.arange(IMAGES, dtype=np.uint8)


def packed(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **{"logits": LOGITS, "labels": LABELS, **arrays})
    return file.getvalue()


def refused(data: bytes, text: str, record: Any = RECORD) -> None:
    with pytest.raises(JobError, match=text) as caught:
        parse_predictions(data, record, "r: predictions.npz")
    assert caught.value.code is Exit.DATA


def test_what_a_run_leaves() -> None:
    logits, labels = parse_predictions(packed(predictions=LABELS), RECORD, "")
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_array_equal(labels, LABELS)


def test_two_megabytes_that_would_be_gigabytes() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("logits.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (50_000_000, 10)})
        for _ in range(2_000):
            member.write(bytes(1_000_000))
    bomb = file.getvalue()
    assert len(bomb) < 3_000_000
    tracemalloc.start()
    refused(bomb, r"logits have 2000000128 bytes, \(50, 10\) by run.json take 2000")
    refused(bomb, "more than is read", run_record(data={**DATA, "test_images": 50_000_000}))
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_header_that_claims_more_than_its_member_has() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("logits.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 10)})
        member.write(bytes(IMAGES * 10 * 4))
    refused(file.getvalue(), r"logits are \(1000000000000, 10\) of float32, by run.json \(50, 10\)")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"logits": LOGITS[:-1]}, "by run.json"),
        ({"logits": LOGITS.T}, "by run.json"),
        ({"logits": LOGITS.astype(np.int32)}, "int32"),
        ({"labels": LABELS.astype(object)}, "by run.json"),
        ({"labels": np.zeros(IMAGES, [("a" * 900, "u1")])}, "is damaged"),
        ({"labels": LABELS.astype(np.int8)}, "int8"),
    ],
)
def test_other_arrays(arrays: dict[str, Any], text: str) -> None:
    refused(packed(**arrays), text)


@given(st.binary(max_size=40), st.integers(0, 600))
def test_damage(noise: bytes, at: int) -> None:
    """The archive with some bytes overwritten: it is read as it was, or refused."""
    data = bytearray(packed())
    data[at : at + len(noise)] = noise
    with suppress(JobError):
        logits, labels = parse_predictions(bytes(data), RECORD, "")
        assert (logits.shape, labels.shape) == (LOGITS.shape, LABELS.shape)
