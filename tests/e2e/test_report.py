"""The page in a real browser, and the commands that read runs, over real runs of both engines."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from job.analysis.report import write_report
from tests.e2e.commands import alexnet, train
from tests.unit.made_up import results

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


def test_the_page_of_one_run_which_the_run_itself_wrote(runs: Path, tmp_path: Path) -> None:
    page = next((runs / "torch" / "final").glob("*/report.html"))
    seen = browse(page, tmp_path)
    assert seen["images"] == seen["loaded"] >= 4
    assert seen["requests"] == 0
    assert seen["height"] > 1500
    text = page.read_text()
    assert "http" not in re.sub(r"http-equiv", "", text)
    for words in ("test accuracy", "confusion matrix", "most confident mistakes", "Attempts and checkpoints", "learning_rate"):
        assert words in text


def test_the_page_fits_a_phone(runs: Path, tmp_path: Path) -> None:
    page = next((runs / "torch" / "final").glob("*/report.html"))
    assert browse(page, tmp_path, width=500)["wide"] is False


def test_the_page_of_four_runs(runs: Path, tmp_path: Path) -> None:
    for name, engine in (("torch-1", "torch"), ("tensorflow-1", "tensorflow")):
        assert train(engine, runs, name, "--seed", "1").returncode == 0
    urls = [str(runs / name) for name in ("torch", "torch-1", "tensorflow", "tensorflow-1")]
    result = alexnet("report", *urls, "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "curves.png", "losses.png"}
    seen = browse(tmp_path / "out" / "report.html", tmp_path)
    assert seen["images"] == seen["loaded"] >= 2 + 4 * 2
    assert "on average over 2 and 2 seeds" in (tmp_path / "out" / "report.html").read_text()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = "<script>window.hacked=true</script><img src=http://example.com/x>\"'"
    run = results("a", recipe_name=hostile)
    run.record["data"]["classes"][0] = hostile
    write_report([run, results("b", noise=3)], tmp_path / "report.html")
    seen = browse(tmp_path / "report.html", tmp_path)
    assert seen["hacked"] is False
    assert seen["requests"] == 0
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_compare_over_real_runs(runs: Path) -> None:
    result = alexnet("compare", str(runs / "torch"), str(runs / "tensorflow"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().splitlines()[-1].startswith(("No difference can be seen", "The runs are the same", "t"))
    found = json.loads(alexnet("compare", "--json", str(runs / "torch"), str(runs / "tensorflow")).stdout)
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
