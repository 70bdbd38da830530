"""`alexnet doctor` as a real process, against folders, full disks and a real S3 server in good and in bad health."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from job.core.recipe import Recipe, from_toml
from job.doctor import Line, node, within
from job.doctor.kernel import TOLERANCE
from job.doctor.kernel import lines as kernel_lines
from job.doctor.page import Setup
from job.doctor.storage import check_dataset, check_store
from job.telemetry.cgroup import Limits
from tests.support.certificate import private_certificate
from tests.support.commands import alexnet, arguments, environment
from tests.support.proxy import Delay, Error, Proxy
from tests.support.servers import Server, rclone
from tests.support.stored import objects

Lines = dict[str, dict[str, str]]
DIGITS = Path(__file__).parents[2] / "job" / "recipes" / "digits.toml"
SMALL = ("--recipe", "digits", "--engine", "torch")
RIGHTS = ("list", "put", "get", "multipart", "conditional put", "delete")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_certificate(tmp_path_factory.mktemp("tls"))


def page(output: Path | str, code: int, *words: str, **variables: str) -> Lines:
    """Check → its line, of a page that ends with `code` within a minute, says why and what to do, and gives no secret away."""
    begun = time.monotonic()
    result = alexnet("doctor", "--output", str(output), *SMALL, *words, "--json", **variables)
    assert result.returncode == code, result.stdout + result.stderr
    assert time.monotonic() - begun < 75  # a busy machine
    assert "Traceback" not in result.stderr
    assert variables.get("AWS_SECRET_ACCESS_KEY", "\0") not in result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["ok"] is (code == 0)
    for line in found["lines"]:
        assert line["level"] in ("pass", "warn", "fail")
        assert line["reason"]
        assert line["remedy"] or line["level"] == "pass", line
    lines = {line["check"]: line for line in found["lines"]}
    assert len(lines) == len(found["lines"]), "a check is reported twice"
    return lines


def parts(output: Path | str, *, data: str | None = None, spool: Path | None = None, grace: float = 30, **variables: str) -> Lines:
    """Check → its line, of the page's part on disks, store and dataset, as the page has it: no framework is loaded for it."""
    given: dict[str, Any] = {"mirror": None, "cache": Path("cache"), "engines": (), "device": "auto"}
    setup = Setup(recipe=from_toml(DIGITS.read_text(), "digits"), output=str(output), data=data, spool=spool, grace=grace, **given)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            patch.delenv(name)
        for name, value in environment(**{"AWS_MAX_ATTEMPTS": "2"} | variables).items():
            patch.setenv(name, value)
        found = [*node.disks(setup), *check_store(setup), *(check_dataset(setup) if data else ())]
    for line in found:
        assert line.reason
        assert line.remedy or line.level == "pass", line
        assert variables.get("AWS_SECRET_ACCESS_KEY", "\0") not in line.reason + line.remedy
    lines = {line.check: line.as_dict for line in found}
    assert len(lines) == len(found), "a check is reported twice"
    return lines


def levels(lines: Mapping[str, Mapping[str, str]], *checks: str) -> set[str]:
    return {lines[check]["level"] for check in checks}


def failures(lines: Mapping[str, Mapping[str, str]]) -> set[str]:
    return {check for check, line in lines.items() if line["level"] == "fail"}


def test_a_healthy_folder(tmp_path: Path) -> None:
    lines = page(tmp_path / "new" / "runs", 0, "--data", "digits")
    assert levels(lines, *RIGHTS, "packages", "torch kernels", "memory", "disk of the spool", "disk of --output", "dataset") == {"pass"}
    assert "matmul" in lines["torch kernels"]["reason"]
    assert "convolution" in lines["torch kernels"]["reason"]
    assert "1442 training and 355 test images" in lines["dataset"]["reason"]
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_a_healthy_bucket(server: Server) -> None:
    before = set(objects(server))
    lines = page("s3://results/team", 0, **server.environment)
    assert levels(lines, *RIGHTS, "store", "clock", "throughput") == {"pass"}
    assert "MB/s: a checkpoint of 28.6 MB" in lines["throughput"]["reason"]
    assert set(objects(server)) == before, "something was left behind"
    assert not server.client().list_multipart_uploads(Bucket="results").get("Uploads")


def test_the_large_object_goes_up_in_parts(server: Server) -> None:
    with Proxy(server) as proxy:
        assert not failures(parts("s3://results/parts", **proxy.environment))
        assert sum("partNumber=" in request.path for request in proxy.requests) >= 2
        assert any("If-None-Match" in request.headers for request in proxy.requests)


def test_the_page_for_readers() -> None:
    result = alexnet("doctor", "--engine", "tensorflow", "--recipe", "digits")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "pass  tensorflow kernels" in result.stdout
    assert "0 failed. Not looked at, as not given: --output, --data." in result.stdout


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is an NVIDIA GPU here")
def test_no_gpu(tmp_path: Path) -> None:
    line = page(tmp_path, 0)["gpu"]
    assert ("no GPU is here" in line["reason"], line["level"]) == (True, "warn")
    lines = page(tmp_path, 78, "--device", "cuda")
    assert failures(lines) == {"gpu", "torch kernels"}
    assert "torch sees no usable GPU" in lines["torch kernels"]["reason"]


def only_the_store_fails(lines: Mapping[str, Mapping[str, str]], *words: str) -> None:
    assert failures(lines) == {"store"}
    text = f"{lines['store']['reason']} {lines['store']['remedy']}"
    assert all(word in text for word in words), text
    assert not set(RIGHTS) & set(lines)


def test_a_wrong_secret(server: Server) -> None:
    lines = page("s3://results", 78, **server.environment | {"AWS_SECRET_ACCESS_KEY": "wrong-secret-4711"})
    only_the_store_fails(lines, "the secret does not belong", "AWS_SECRET_ACCESS_KEY")


def test_an_unknown_key(server: Server) -> None:
    lines = parts("s3://results", **server.environment | {"AWS_ACCESS_KEY_ID": "AKUNKNOWN"})
    only_the_store_fails(lines, "does not know this access key id", "AWS_ACCESS_KEY_ID")


def test_a_missing_bucket(server: Server) -> None:
    only_the_store_fails(parts("s3://no-such-bucket/runs", **server.environment), "the bucket does not exist", "Create it")


def test_a_key_that_may_only_read(server: Server) -> None:
    lines = parts("s3://results", **server.reader_environment)
    assert levels(lines, "store", "list", "get") == {"pass"}
    assert failures(lines) == {"put", "multipart", "conditional put", "delete"}
    assert "access denied" in lines["put"]["reason"]
    assert "right to list, read, write and delete" in lines["put"]["remedy"]


def test_a_key_that_may_not_delete(server: Server) -> None:
    with Proxy(server, decide=lambda r: Error(status=403, code="AccessDenied") if r.method == "DELETE" else None) as proxy:
        lines = parts("s3://results/kept", **proxy.environment)
    assert failures(lines) == {"delete"}
    assert "Left behind: .doctor-" in lines["delete"]["remedy"]


def test_an_unreachable_endpoint(server: Server) -> None:
    lines = parts("s3://results", **server.environment | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"})
    only_the_store_fails(lines, "no connection", "AWS_ENDPOINT_URL_S3")


def test_a_name_that_does_not_resolve(server: Server) -> None:
    lines = parts("s3://results", **server.environment | {"AWS_ENDPOINT_URL_S3": "http://storage.invalid:9000"})
    only_the_store_fails(lines, "the host name is unknown", "DNS")


def test_a_self_signed_certificate(server: Server, certificate: Path) -> None:
    with Proxy(server, certificate=certificate) as proxy:
        only_the_store_fails(parts("s3://results", **proxy.environment), "certificate is not trusted", "AWS_CA_BUNDLE")
        lines = parts("s3://results/tls", **proxy.environment, AWS_CA_BUNDLE=str(certificate))
        assert levels(lines, *RIGHTS, "store") == {"pass"}


@pytest.mark.slow
def test_a_server_that_never_answers(server: Server) -> None:
    """The page has its minute all the same."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        lines = page("s3://results", 78, **server.environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
    only_the_store_fails(lines, "not all answers came")


def test_a_store_that_ignores_conditions() -> None:
    with rclone() as other:
        other.make_bucket("results")
        lines = parts("s3://results", **other.environment)
    assert lines["conditional put"]["level"] == "warn"
    assert "If-None-Match" in lines["conditional put"]["reason"]


def test_a_store_too_slow_for_the_grace_period(server: Server) -> None:
    with Proxy(server, decide=lambda r: Delay(seconds=0.5) if r.method == "PUT" else None) as proxy:
        lines = parts("s3://results/slow", grace=0.5, **proxy.environment)
    assert lines["throughput"]["level"] == "warn"
    assert "terminationGracePeriodSeconds" in lines["throughput"]["remedy"]


def test_sigterm_leaves_nothing_behind(server: Server) -> None:
    with Proxy(server, decide=lambda r: Delay(seconds=0.5) if r.method == "PUT" else None) as proxy:
        command = arguments("doctor", "--output", "s3://results/stopped", *SMALL)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(**proxy.environment))
        while not any(request.method == "PUT" for request in list(proxy.requests)):
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 143
        assert not [key for key in objects(server) if key.startswith("stopped/")]


def test_a_full_disk(small_disk: Path) -> None:
    lines = parts(small_disk / "runs")
    assert failures(lines) == {"disk of --output", "disk of the spool", "multipart"}
    assert "No space left" in lines["multipart"]["reason"]
    assert list(small_disk.iterdir()) == []


def test_a_full_spool(small_disk: Path, server: Server) -> None:
    lines = parts("s3://results/full", spool=small_disk, **server.environment)
    assert failures(lines) == {"disk of the spool", "multipart"}
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lines = parts(tmp_path / "file" / "runs")
    assert {"put"} <= failures(lines)


@pytest.mark.parametrize("data", ["nowhere", "damaged"])
def test_data_that_cannot_be_read(tmp_path: Path, data: str) -> None:
    if data == "damaged":
        (tmp_path / data).mkdir()
        for name in ("data_batch_1.bin", "test_batch.bin"):
            (tmp_path / data / name).write_bytes(b"\x00" * 100)
    lines = parts(tmp_path / "runs", data=str(tmp_path / data))
    assert failures(lines) == {"dataset"}
    assert data in lines["dataset"]["reason"]


REPORT: dict[str, Any] = {
    "engine": "torch",
    "environment": {"device": "cpu", "torch": "1"},
    "differences": {"matmul": (1e-7, TOLERANCE)},
    "memory_bytes": 800_000_000,
}


def limit(gigabytes: float | None) -> Limits:
    return Limits(cpus=None, memory_bytes=None if gigabytes is None else int(gigabytes * 1e9), version="v2")


def test_too_little_memory() -> None:
    parts = node.memory_needs(Recipe(), 1, [REPORT])
    need = sum(parts.values()) / 1e9
    assert 1.5 < need < 3.0, "the promise is 3 GB"
    small = node.memory(parts, limit(1.0), 100_000_000)
    assert small.level == "fail"
    assert "0.90 GB free of the container's limit of 1.00 GB (cgroup v2)" in small.reason
    assert "resources.limits.memory" in small.remedy
    assert node.memory(parts, limit(need * 1.05), 0).level == "warn"
    assert node.memory(parts, limit(need * 1.15), 0).level == "pass"


def test_a_gpu_holds_what_the_host_would() -> None:
    on_gpu = {**REPORT, "environment": {"device": "a card"}}
    weights = Recipe().architecture().parameters * 4
    of_host, of_two, of_gpu = (sum(node.memory_needs(Recipe(), *words).values()) for words in ((1, [REPORT]), (2, [REPORT]), (2, [on_gpu])))
    assert of_two - of_host == of_host - of_gpu > 3 * weights


def test_less_than_one_cpu() -> None:
    assert node.cpus(Limits(cpus=0.5, memory_bytes=None, version="v2")).level == "warn"
    assert node.cpus(Limits(cpus=1.5, memory_bytes=None, version="v2")).level == "pass"


def test_wrong_numbers_and_a_gpu_that_the_framework_misses() -> None:
    assert [line.level for line in kernel_lines([REPORT], gpu_expected=False)] == ["pass"]
    wrong = {**REPORT, "differences": {"matmul": (float("inf"), TOLERANCE)}}
    (line,) = kernel_lines([wrong], gpu_expected=False)
    assert (line.level, "wrong numbers from matmul" in line.reason) == ("fail", True)
    (line,) = kernel_lines([REPORT], gpu_expected=True)
    assert (line.level, "does not see it" in line.reason) == ("fail", True)


CARD = {"name": "a card", "uuid": "GPU-1", "mig": False, "memory_total_bytes": 80_000_000_000, "driver": "580.1", "cuda": "13.0"}


def test_a_gpu_as_nvml_shows_it() -> None:
    assert node.gpu("auto", [CARD], "").reason == "NVML readable, driver 580.1 for CUDA up to 13.0: a card with 80 GB"
    assert [node.gpu(device, [CARD], "").level for device in ("auto", "cuda", "cpu")] == ["pass", "pass", "warn"]
    assert [node.gpu(device, [], "no driver").level for device in ("auto", "cuda", "cpu")] == ["warn", "fail", "warn"]


def test_a_framework_that_takes_too_long() -> None:
    late = {"engine": "torch", "error": "torch: not finished after 45 s. Look at the node.", "late": True}
    assert [line.level for expected in (True, False) for line in kernel_lines([late], gpu_expected=expected)] == ["fail", "warn"]
    parts = node.memory_needs(Recipe(), 1, [late])
    assert parts["framework"] > 5e8
    assert "activations" in parts


def test_the_time_of_a_page_is_kept() -> None:
    late = Line(check="x", level="fail", reason="late")
    closed: list[bool] = []

    def slow() -> Iterator[Line]:
        try:
            yield Line(check="first", level="pass", reason="in time")
            time.sleep(1)
            yield Line(check="second", level="pass", reason="too late")
        finally:
            closed.append(True)

    assert [line.check for line in within(0.3, late, slow())] == ["first", "x"]
    assert closed == [True]
