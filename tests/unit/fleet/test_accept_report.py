"""`alexnet accept report` over stored verdicts: text, JSON, names, page and exit codes."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from job.cli.accept_report import report
from job.core.exits import Exit, JobError
from job.fleet.judgement import judge
from job.fleet.page import fleet_page
from job.fleet.reading import read_reports
from job.storage.files import encoded
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from tests.support.verdicts import started, steps, stored, verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def called(*words: str) -> Result:
    done = CliRunner().invoke(report, words, standalone_mode=False)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes of eight: one GPU wrong from step 47 on, one slow, one that was begun twice, one that never ended, one damaged."""
    folder = tmp_path_factory.mktemp("accept")
    store = FolderStore(folder, str(folder))
    for number in range(16):
        found = verdict(number)
        if number == 3:
            found = verdict(3, wrong={"wrong_from": 4, "first": ["slots/momentum/features.6.weight", "weights/features.6.weight"]})
        if number == 9:
            found = verdict(9, pace=0.6)
            found["load"]["throttled"] = {"thermal": 0.8}
        again = number == 5
        if again:
            stored(store, "uid-5", None, attempt="0001-aaaaaa")
        sums = steps(47, who="gpu 3") if number == 3 else steps()
        stored(
            store,
            f"uid-{number}",
            None if number == 12 else found,
            attempt="0002-bbbbbb" if again else "0001-abcdef",
            sums=sums,
            beginning=started(number),
        )
    (folder / "uid-14/0001-abcdef/verdict.json").write_text('{"format": 1}')
    return folder


def test_text(place: Path) -> None:
    done = called(str(place))
    assert done.return_value == Exit.DEVICE
    lines = done.output.splitlines()
    assert lines[0] == "16 GPUs on 3 nodes: 1 fails, 1 is suspect, 2 did not report, 12 pass."
    assert re.match(r"fail +node-000 +8 GPUs +index 3, GPU 3 \(GPU-00000003\): bf16: other bytes than the majority, 13 of 14", lines[2])
    assert "first in step 47, backward: gradients/features.6.weight" in lines[2]
    assert re.match(r"suspect +node-001 +7 GPUs +index 9, GPU 1 ", lines[3])
    assert "likely cause: clocks held back by thermal 80% of the time" in lines[3]
    assert "index 12, GPU 4 (GPU-0000000c): it was begun, and there is no verdict" in lines[3]
    assert re.match(r"missing +unknown +1 GPU +uid-14: .*uid-14/0001-abcdef/verdict.json is damaged", lines[4])
    assert "Begun more than once: uid-5." in lines
    assert any(line.startswith("Not tested:") for line in lines)


def test_json_has_all_of_it(place: Path) -> None:
    done = called(str(place), "--format", "json")
    told = json.loads(done.output)
    assert told["exit_code"] == done.return_value == 71
    assert told["states"] == {"fail": 1, "suspect": 1, "missing": 2, "pass": 12}
    assert [(node["node"], node["state"], len(node["gpus"])) for node in told["nodes"]] == [
        ("node-000", "fail", 8),
        ("node-001", "suspect", 7),
        ("unknown", "missing", 1),
    ]
    assert told["nodes"][0]["gpus"][0]["uuid"] == "GPU-00000003"
    assert told["groups"][0]["bytes"]["bf16"]["partings"]["uid-3"]["step"] == 50
    assert set(told["groups"][0]["figures"]) >= {"images/s, bf16", "power", "temperature", "host to device"}


def test_names_are_for_kubectl(place: Path) -> None:
    assert called(str(place), "--format", "name").output == "node/node-000\nnode/node-001\n"


def test_a_good_fleet(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, str(tmp_path))
    for number in range(6):
        stored(store, f"uid-{number}", verdict(number))
    done = called(str(tmp_path), "--output", str(tmp_path / "page/fleet.html"))
    assert done.return_value == Exit.DONE
    assert "6 GPUs on 1 node: 6 pass." in done.output
    assert "Accepted" in (tmp_path / "page/fleet.html").read_text()
    assert called(str(tmp_path), "--expect", "7").return_value == Exit.NOT_STORED
    assert called(str(tmp_path), "--format", "name").output == ""


def test_a_reference(place: Path) -> None:
    done = called(str(place), "--reference", f"{place}/uid-0")
    assert "other bytes than the reference uid-0" in done.output
    for name, code in (("uid-99", Exit.USAGE), ("uid-12", Exit.USAGE), ("uid-14", Exit.DATA)):
        with pytest.raises(JobError, match=rf"--reference .*{name}: .*Expected FOLDER/NAME") as caught:
            called(str(place), "--reference", f"{place}/{name}")
        assert caught.value.code == code


def test_no_verdicts(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"there are no verdicts\. Expected the --output of `alexnet accept`") as caught:
        called(str(tmp_path))
    assert caught.value.code == Exit.USAGE


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thousand")
    store = FolderStore(folder, str(folder))
    for number in range(1000):
        found = verdict(number, pace=0.8 if number in (17, 400) else 1.0)
        if number == 666:
            found = verdict(number, wrong={"wrong_from": 1, "first": ["weights/features.3.weight"]})
        store.put(f"uid-{number}/0001-abcdef/verdict.json", encoded(found))
    return folder


def test_the_page_of_a_thousand_gpus(thousand: Path, tmp_path: Path) -> None:
    """In seconds, small enough for a browser, which paints it."""
    begun = time.process_time()
    fleet = judge(read_reports(open_store(str(thousand))))
    page = fleet_page(fleet, "s3://alexnet/accept")
    assert time.process_time() - begun < 15, "2 s on a quiet machine"
    assert {gpu.name for gpu in fleet.gpus if gpu.state != "pass"} == {"uid-17", "uid-400", "uid-666"}
    assert len(page) < 1_000_000
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    file, shot = tmp_path / "fleet.html", tmp_path / "fleet.png"
    file.write_text(page)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr"]
    command += [f"--screenshot={shot}", "--window-size=1200,2600", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr, "nothing is refused by the page's own policy"
    with Image.open(shot) as seen:
        assert len(set(seen.convert("RGB").resize((120, 260)).get_flattened_data())) > 100, "text, dots and squares, not a blank page"
