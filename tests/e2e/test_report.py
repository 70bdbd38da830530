"""The page in a real browser, and the commands that read runs, over real runs of both engines."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from job.analysis.report import write_report
from job.runs.results import Attempt
from tests.support.commands import alexnet, environment, train
from tests.support.made_up import results
from tools import picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COUNT = """<script>addEventListener("load", () => {
  const images = [...document.images]
  document.title = JSON.stringify({
    images: images.length, loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
    height: document.body.scrollHeight, wide: document.documentElement.scrollWidth > innerWidth,
    hacked: window.hacked === true, requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length})
})</script>"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short run of each engine."""
    output = tmp_path_factory.mktemp("runs")
    for engine in ("torch", "tensorflow"):
        result = train(engine, output, engine)
        assert result.returncode == 0, result.stderr
    return output


def browse(page: Path, folder: Path, width: int = 1200) -> dict[str, object]:
    """What a browser makes of the page; a script counts, in a copy without the policy that forbids scripts."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    text = page.read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)
    assert policy, "the page does not forbid scripts and requests"
    copy = folder / "copy.html"
    copy.write_text(text.replace(policy[0], "").replace("</body>", f"{COUNT}</body>"))
    log = folder / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", f"--window-size={width},900"]
    done = subprocess.run(
        [*command, f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    return json.loads(title[1])


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on loopback, and the paths that were asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def test_the_page_of_one_run_which_the_run_itself_wrote(runs: Path, tmp_path: Path) -> None:
    page = next((runs / "torch" / "final").glob("*/report.html"))
    seen = browse(page, tmp_path)
    drawn = len(list((page.parent / "plots").glob("*.png")))
    assert seen["images"] == seen["loaded"] == drawn  # throughput comes in addition, the confusion matrix is a table
    assert seen["requests"] == 0
    assert seen["height"] > 1500
    text = page.read_text()
    assert "http" not in re.sub(r"http-equiv", "", text)
    for words in ("test accuracy", "Confusion matrix", "most confident mistakes", "Attempts and checkpoints", "learning_rate", "images/s"):
        assert words in text


@pytest.mark.parametrize("names", [["torch"], ["torch", "tensorflow"]])
def test_the_page_fits_a_phone(runs: Path, tmp_path: Path, names: list[str]) -> None:
    assert alexnet("report", *(str(runs / name) for name in names), "--output", f"{tmp_path}/page.html").returncode == 0
    assert browse(tmp_path / "page.html", tmp_path, width=500)["wide"] is False


def test_the_picture_of_a_page(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    write_report([results("a"), results("b", "tensorflow", noise=3)], tmp_path / "page.html")
    picture.photograph(CHROMIUM, tmp_path / "page.html", tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (picture.WIDTH, picture.HEIGHT)
        assert len(image.convert("L").getcolors() or ()) > 50


def test_the_page_of_four_runs(runs: Path, tmp_path: Path) -> None:
    for name, engine in (("torch-1", "torch"), ("tensorflow-1", "tensorflow")):
        assert train(engine, runs, name, "--seed", "1").returncode == 0
    urls = [str(runs / name) for name in ("torch", "torch-1", "tensorflow", "tensorflow-1")]
    result = alexnet("report", *urls, "--margin", "3", "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path}/out/report.html\n"
    figures = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "curves.png", "losses.png", "throughput.png", "run-4-confusion.png", "run-4-mistakes.png"} <= figures
    seen = browse(tmp_path / "out" / "report.html", tmp_path)
    own = {name for name in figures if name.startswith("run-") and not name.endswith(("accuracy.png", "loss.png", "confusion.png"))}
    assert seen["images"] == seen["loaded"] == 3 + len(own)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "on average over 2 and 2 seeds" in text
    assert "Seeds needed on each side" in text
    assert "equal within 3 points" in text
    compared = alexnet("compare", *urls, "--margin", "3")
    assert compared.returncode == 0
    assert compared.stdout.rstrip().splitlines()[-1] in text.replace("&lt;", "<")


def test_a_file_for_output(runs: Path, tmp_path: Path) -> None:
    result = alexnet("report", str(runs / "torch"), "--output", str(tmp_path / "mine.html"))
    assert result.stdout == f"{tmp_path}/mine.html\n"
    assert {"mine.html", "accuracy.png", "throughput.png"} <= {path.name for path in tmp_path.iterdir()}


def test_hostile_names_are_text(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, paths = asked
    hostile = f"</style></title><script>window.hacked=true</script><img src={address}/x>\"'{{{{7*7}}}}"
    finding = dict.fromkeys(("title", "seen", "when", "change"), hostile)
    run, other = results("a", recipe_name=hostile[:80]), results("b", noise=3)
    run.record["data"]["classes"][0] = hostile
    run.record["data"]["name"] = hostile
    run.summary.update(device=hostile, torch=hostile, findings=[finding])
    attempt = Attempt(
        name=hostile, claim={"host": hostile, "device": hostile, "started": 1.0}, end={"reason": hostile, "exit_code": hostile}
    )
    run = dataclasses.replace(run, id=hostile, attempts=[attempt], plots={hostile: (b"")})
    page = tmp_path / "report.html"
    for members in ([run], [run, other]):
        write_report(members, page)
        seen = browse(page, tmp_path)
        assert seen["hacked"] is False
        assert seen["requests"] == 0
        assert paths == []
        assert "<script>" not in page.read_text()
        assert "{{7*7}}" in page.read_text()
    page.write_text(page.read_text().replace("</h1>", f"</h1><img src={address}/seen>", 1))
    browse(page, tmp_path)
    assert paths == ["/seen"]  # so a request would have been noticed


def test_a_killed_attempt_is_on_the_timeline(tmp_path: Path) -> None:
    attempts = [
        Attempt(name="0001-aaaaaa", claim={"started": 1000.0, "engine": "torch", "device": "NVIDIA H100"}, end=None),
        Attempt(name="0002-bbbbbb", claim={"started": 1300.0, "engine": "tensorflow", "device": "cpu"}, end={"exit_code": 0}),
    ]
    rows = [{"attempt": "0001-aaaaaa", "time": 1000.0 + n, "step": n} for n in range(100)]
    rows += [{"attempt": "0002-bbbbbb", "time": 1300.0 + n, "step": 80 + n} for n in range(101)]
    names = ["step-00000180-0002-bbbbbb", "step-00000080-0001-aaaaaa"]
    run = dataclasses.replace(results(), attempts=attempts, resources=rows, checkpoints=names)
    run.summary["contributions"] = [
        {"attempt": "0001-aaaaaa", "engine": "torch", "first_step": 1, "last_step": 1080},
        {"attempt": "0002-bbbbbb", "engine": "tensorflow", "first_step": 1081, "last_step": 1080},
    ]
    write_report([run], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<td>torch</td><td>NVIDIA H100</td><td>1 to 1,080</td>" in text
    assert "<td>tensorflow</td><td>cpu</td><td>evaluation only</td>" in text
    assert "no end: it was killed" in text
    assert 'class="killed" style="left:0.00%;width:24.75%"' in text  # 99 of 400 seconds
    assert 'style="left:20.00%" title="checkpoint at step 80"' in text
    assert 'style="left:100.00%" title="checkpoint at step 180"' in text


def test_compare_over_real_runs(runs: Path) -> None:
    result = alexnet("compare", str(runs / "torch"), str(runs / "tensorflow"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().splitlines()[-1].startswith(("No difference can be seen", "The two runs", "Of these two"))
    found = json.loads(alexnet("compare", "--json", str(runs / "torch"), str(runs / "tensorflow")).stdout)
    assert [pair["direction"] for pair in found["pairs"].values()] == ["tensorflow minus torch"]
    assert [run["test_images"] for run in found["figures"]] == [355, 355]
    assert {row["what"] for row in found["differences"]} == {"engine", "library versions"}


def test_compare_refuses_what_is_not_comparable(runs: Path) -> None:
    assert train("torch", runs, "longer", "--epochs", "3").returncode == 0
    result = alexnet("compare", str(runs / "torch"), str(runs / "longer"))
    assert result.returncode == 1
    assert "No verdict: the runs are not comparable, they differ in epochs done" in result.stdout
    assert "UNFAIR" in result.stdout
    missing = alexnet("compare", str(runs / "torch"), str(runs / "nothing"))
    assert missing.returncode == 2
    assert "there is no run" in missing.stderr


def test_a_damaged_result_is_refused(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "torch", tmp_path / "torch")
    path = next((tmp_path / "torch" / "final").glob("*/predictions.npz"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = alexnet("compare", str(tmp_path / "torch"), str(runs / "torch"))
    assert result.returncode == 65, result.stderr
    assert "predictions.npz has SHA-256" in result.stderr


@pytest.mark.slow
def test_make_reproduce_with_the_ablation(tmp_path: Path) -> None:
    """Ten short runs; a second call repeats none of them; then the pretrained column."""
    words = ["--data", "digits", "--epochs", "3", "--image-size", "64", "--width", "0.0625", "--output", f"{tmp_path}/runs", "--ablation"]
    command = [sys.executable, "-m", "tools.reproduce", *words]
    first = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment())
    assert first.returncode == 0, first.stderr
    shown = ("accuracy         67 %", "report-keras  tensorflow       3", "No verdict", "… in TensorFlow", "nothing but the seed (2)")
    for row in shown:
        assert row in first.stdout
    began = time.monotonic()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment())
    assert again.stdout == first.stdout
    assert again.stderr.count("nothing to do") == 10
    assert time.monotonic() - began < 60
    weights = next((tmp_path / "runs").glob("report-torch-3-*/checkpoints/*/model.safetensors"))
    command[-1:] = ["--init-from", str(weights)]
    third = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment())
    assert third.returncode == 0, third.stderr
    rows = [line.split()[:3] for line in third.stdout.splitlines() if line.startswith("pretrained ")]
    assert rows == [["pretrained", "torch", "3"], ["pretrained", "tensorflow", "3"]]
