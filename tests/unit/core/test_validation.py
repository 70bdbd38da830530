"""What comes out of a bucket is what its type says, or it is refused with a ValueError; nothing else ever happens."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.identity_records import Claim
from job.core.records import CheckpointState, End, Manifest, MetricsLine, RunRecord, Status, Summary
from job.core.resource_records import ResourceRow
from job.core.validation import STEERING, checked, parse
from tests.support.records import claim, end, run_record, status, summary

KINDS = [RunRecord, Claim, Status, End, Manifest, MetricsLine, CheckpointState, Summary, ResourceRow]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)
PROGRESS = {"step": 3, "losses": [2.3], "hits": [1], "epoch_loss": 2.3, "epoch_hits": 1, "best": None, "best_accuracy": -1.0}
WHOLE = [(RunRecord, run_record()), (Claim, claim()), (Status, status()), (End, end(0)), (Summary, summary())]


@pytest.mark.parametrize(("kind", "record"), WHOLE)
def test_a_sound_record_stays_as_it_is(kind: Any, record: Any) -> None:
    assert parse(kind, json.dumps(record).encode()) == record


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, each in value.items() for text in (key, *texts(each))]
    return [text for each in value for text in texts(each)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def outcome(kind: Any, value: Any) -> tuple[Any, str]:
    """The record, or None and what is wrong."""
    try:
        return parse(kind, json.dumps(value).encode()), ""
    except ValueError as error:
        return None, str(error)


@given(st.sampled_from(KINDS), VALUES | st.dictionaries(st.sampled_from(["kind", "format", "final", "recipe", "files"]), VALUES))
def test_anything_at_all(kind: Any, value: Any) -> None:
    _, message = outcome(kind, value)
    assert not STEERING.search(message)


@given(st.sampled_from(KINDS), st.binary())
def test_bytes(kind: Any, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(kind, data)


@given(st.data())
def test_one_field_replaced(data: st.DataObject) -> None:
    kind, record = data.draw(st.sampled_from(WHOLE))
    name = data.draw(st.sampled_from(sorted(record)))
    found, message = outcome(kind, {**record, name: data.draw(VALUES)})
    assert message.startswith(f"{name}") if found is None else found.keys() == record.keys()
    assert not any(STEERING.search(text) for text in texts(found or {}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "20"}, 'epochs: expected a whole number of up to 63 bits, received "20"'),
        ({"epochs": True}, "epochs: expected a whole number of up to 63 bits, received true"),
        ({"epochs": 10**400}, "epochs: expected a whole number"),
        ({"test_accuracy": float("nan")}, "test_accuracy: expected a finite number, received NaN"),
        ({"test_accuracy": float("inf")}, "test_accuracy: expected a finite number"),
        ({"test_accuracy": 10**400}, "test_accuracy: expected a finite number"),
        ({"test_accuracy_interval_95": [0.5]}, "test_accuracy_interval_95: expected a list of 2, received a list of 1"),
        ({"engine": "\x1b]0;owned\x07" * 9, "epochs": None}, "epochs: expected a whole number of up to 63 bits, received null"),
        ({"time": {"lunch": 1.0}}, "time.lunch: expected a text of the form start"),
        ({"final": {"../../.bashrc": {"size": 1, "sha256": "0" * 64}}}, "final.../../.bashrc: expected a text of the form"),
        ({"final": {"/etc/passwd": {"size": 1, "sha256": "0" * 64}}}, "final./etc/passwd: expected a text of the form"),
        (
            {"final": {"a": {"size": 1, "sha256": "../../home"}}},
            r'final.a.sha256: expected a text of the form [0-9a-f]{64}, received "../../home"',
        ),
        ({"model": "checkpoints/../../x/model.safetensors"}, "model: expected a text of the form"),
        ({"attempt": "0001-abcdef/.."}, "attempt: expected a text of the form"),
        ({"data": None}, "data: expected an object, received null"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        checked(Summary, {**summary(), **changes})
    assert str(caught.value).startswith(message)


def test_a_missing_field_is_named_and_an_unknown_one_left_out() -> None:
    record: dict[str, Any] = {**summary(), "more": 1}
    assert checked(Summary, record) == summary()
    del record["goodput"]
    with pytest.raises(ValueError, match="as a whole: expected an object with goodput"):
        checked(Summary, record)


def test_what_older_versions_did_not_write_may_be_absent() -> None:
    """As b383c64 wrote it, whose runs are read and go on."""
    record: dict[str, Any] = {**summary()}
    del record["model_epoch"], record["contributions"]
    assert checked(Summary, record) == record
    state = {"progress": PROGRESS, "engine": "torch", "ledger": {"epochs": [], "open": {"step": 0.5}}}
    assert checked(CheckpointState, state) == state
    old = {**claim()}
    for name in ("version", "revision", "source", "gpu_uuid", "node", "pod", "namespace", "job", "job_uid"):
        del old[name]  # type: ignore[misc]
    assert checked(Claim, old) == old


def test_what_steers_a_terminal_is_blanked() -> None:
    found: Any = checked(End, end(70, "\x1b[2J\x1b]52;c;cm0gLXJm\x07 all\x9b31m is\u202e well\r\n\ud83d"))
    assert found["reason"] == " [2J ]52;c;cm0gLXJm  all 31m is  well   "


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 5_000, b"\xff", b"", b"{"])
def test_what_no_reader_of_json_likes(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(Status, data)
