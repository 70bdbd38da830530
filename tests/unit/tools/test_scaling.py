"""What several GPUs and many runs cost, as docs/scaling.md has it: the formulas, and how requests are counted."""

from email.message import Message
from pathlib import Path

import pytest

from job.core.architecture import alexnet
from tests.support.proxy import Request
from tools import communication, store_cost

PAGE = (Path(__file__).parents[3] / "docs/scaling.md").read_text()


def test_bytes_of_each_way() -> None:
    assert [communication.pairs(w, 100) for w in (1, 2, 4, 8)] == [0, 100, 200, 300]
    assert [communication.ring(w, 100) for w in (1, 2, 4, 8)] == [0, 100, 150, 175]
    assert [communication.pairs_bf16_first(w, 100) for w in (2, 4, 8)] == [50, 150, 250]


@pytest.mark.parametrize(
    "rows",
    [communication.gain_table(alexnet()), communication.shard_table(alexnet())],
)
def test_the_page_has_what_the_program_computes(rows) -> None:
    _, *body = rows
    for row in body:
        assert f"| {' | '.join(row)} |" in PAGE


def test_the_exchange_of_the_page() -> None:
    _, *body = communication.exchange_table(4.0 * alexnet().parameters)
    written = {tuple(line.strip("| ").split(" | ")[2:]) for line in PAGE.splitlines() if line.startswith(("| 2 |", "| 4 |", "| 8 |"))}
    assert written == {tuple(row[2:]) for row in body}


def test_from_a_larger_batch_on_more_gpus_pay() -> None:
    network, device, link = alexnet(), communication.H100, communication.ETHERNET[0]
    least = communication.pays_from(network, device, link, 2, 1.0)
    assert least
    for batch in (least // 2, least):
        faster = communication.step(network, batch, device) > communication.together(network, batch, device, link, 2)
        assert faster is (batch == least)


def request(method: str, path: str, size: int = 0) -> Request:
    return Request(number=0, method=method, path=path, headers=Message(), body=b"x" * size)


def test_requests_are_counted_by_price_and_purpose() -> None:
    traffic = store_cost.Traffic("r1")
    folder = "/runs/r1/checkpoints/step-00000010-0001-abcdef"
    for one in (
        request("POST", f"{folder}/model.safetensors?uploads="),
        request("PUT", f"{folder}/model.safetensors?partNumber=1&uploadId=7", 100),
        request("POST", f"{folder}/model.safetensors?uploadId=7", 3),
        request("PUT", f"{folder}/MANIFEST.json", 5),
        request("DELETE", f"{folder}/state.json"),
        request("GET", "/runs?list-type=2&prefix=r1%2Fattempts%2F&delimiter=%2F"),
        request("GET", "/runs/r1/summary.json"),
        request("GET", "/runs?list-type=2&prefix=r1%2Fattempts%2F&delimiter=%2F"),
        request("PUT", "/runs/r1/attempts/0001-abcdef/status.json", 7),
        request("PUT", "/runs/r1/attempts/0001-abcdef/resources-0001.jsonl", 11),
        request("PUT", "/runs/r1/attempts/0001-abcdef/claim.json", 13),
        request("GET", "/runs?list-type=2&prefix=r1%2Fcheckpoints%2F"),
    ):
        traffic.count(one)
    traffic.divide_looks()
    writes, reads, free = store_cost.WRITES, store_cost.READS, store_cost.FREE
    assert traffic.requests["a checkpoint"] == {writes: 6, reads: 0, free: 1}
    assert traffic.requests["signs of life"] == {writes: 2, reads: 1}
    assert traffic.requests["resource log"] == {writes: 1}
    assert traffic.requests["start and end"] == {writes: 1}
    assert +traffic.sent == {"a checkpoint": 108, "signs of life": 7, "resource log": 11, "start and end": 13}
    assert traffic.checkpoints == 1
