"""Both images: built by `make build`, then run as strictly as the cluster runs them.  Needs a Docker engine; no GPU."""

import functools
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support import docker, servers
from tests.support.docker import Container, run, shell
from tests.support.peaks import limits, record

pytestmark = pytest.mark.slow

NAMES = {"torch": "torch", "tf": "tensorflow"}
LENGTH = ("--epochs", "1")
DIGITS = ("train", "--data", "digits", "--recipe", "digits", "--width", "0.0625", "--threads", "1", "--log-steps", "5")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    """Of an image that is built."""
    built(request.param, *docker.engine_or_skip())
    return request.param


@functools.cache
def built(name, *arguments):
    """What `make build` printed."""
    return docker.build(name, arguments)


@pytest.fixture
def volume():
    made = docker.docker("volume", "create").stdout.strip()
    yield made
    docker.docker("volume", "rm", "--force", made, check=False)


@pytest.fixture(scope="module")
def store():
    with servers.weed() as server:
        server.make_bucket("runs")
        yield server


def access(store):
    """Options with which a container reaches the store on this machine's loopback."""
    return ["--network", "host", *(word for key, value in store.environment.items() for word in ("--env", f"{key}={value}"))]


def stored(store, key):
    return store.client().get_object(Bucket="runs", Key=key)["Body"].read()


def finished(store, run_id):
    return json.loads(stored(store, f"{run_id}/summary.json"))


def test_make_build_prints_the_size(name):
    size = int(re.search(rf"^alexnet-{name}:test: (\d+) bytes$", built(name, *docker.engine_or_skip()), re.M)[1])
    page = (docker.ROOT / "docs/images.md").read_text()
    told = float(re.search(rf"^\| `alexnet-{name}` \| ([\d.]+) GB", page, re.M)[1])
    assert size / 1e9 == pytest.approx(told, rel=0.05), "docs/images.md is out of date"


def test_labels_and_settings(name):
    config = json.loads(docker.docker("image", "inspect", "--format", "{{json .Config}}", docker.image(name)).stdout)
    assert config["Entrypoint"] == ["alexnet"]
    assert config["User"] == "65532:65532"
    assert set(config["Volumes"]) == {"/runs", "/tmp"}
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == f"alexnet-{name}"
    assert labels["version"] == docker.TAG
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["base.name"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}Z", labels["created"])


STUB = "int answer(void) { return 42; }"
LOAD = "import ctypes; print(ctypes.CDLL('libstub.so').answer())"


def test_a_driver_where_gke_mounts_it(name, tmp_path):
    """At /usr/local/nvidia, without a variable: the loader finds its libraries, and the shell its programs."""
    (tmp_path / "lib64").mkdir()
    (tmp_path / "bin").mkdir()
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(tmp_path / "lib64" / "libstub.so")]
    subprocess.run(command, input=STUB, text=True, check=True)
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    tmp_path.chmod(0o755)
    script = f'nvidia-smi && /opt/alexnet/bin/python -c "{LOAD}"'
    assert shell(name, script, "--volume", f"{tmp_path}:/usr/local/nvidia:ro").split() == ["here", "42"]


def test_the_bill_of_materials_names_what_is_in_the_image(name):
    built(name, *docker.engine_or_skip())
    bill = json.loads((docker.ROOT / f"build/alexnet-{name}-test.spdx.json").read_text())
    found = {(package["name"], package["versionInfo"]) for package in bill["packages"]}
    listing = "from importlib.metadata import distributions as all; [print(d.metadata['Name'], d.version) for d in all()]"
    lines = shell(name, f'/opt/alexnet/bin/python -c "{listing}"').lower().replace("_", "-").splitlines()
    inside = {tuple(line.split()) for line in lines}
    assert inside <= found
    assert {"tini", "ca-certificates"} <= {package for package, _ in found}
    statement = json.loads((docker.ROOT / f"build/alexnet-{name}-test.provenance.json").read_text())
    digest = docker.docker("image", "inspect", "--format", "{{.Id}}", docker.image(name)).stdout.strip().removeprefix("sha256:")
    assert statement["subject"] == [{"name": docker.image(name), "digest": {"sha256": digest}}]


def test_train_to_a_volume_under_an_unknown_user(name, volume):
    """Read-only root, no capabilities, no network, 4 GB, Docker's 64 MB of /dev/shm, a uid without an entry in passwd."""
    options = ["--network", "none", "--volume", f"{volume}:/runs"]
    done = run(name, *DIGITS, *LENGTH, "--run-id", "first", options=options)
    assert "finished: test accuracy" in done.stderr
    assert f"{NAMES[name]} on cpu" in done.stderr
    summary = json.loads(shell(name, "cat /runs/first/summary.json", "--volume", f"{volume}:/runs"))
    assert summary["test_images"] == 355
    disk = int(shell(name, "du -sb /runs | cut -f1", "--volume", f"{volume}:/runs"))
    record(
        f"alexnet-{name}", "digits at 64 px, CPU", memory_bytes=summary["peak_host_memory_bytes"], disk_bytes=disk, where="docker run, CPU"
    )


def test_the_full_network_fits_the_manifests_limits(name, volume):
    """224 pixels, 57 million parameters, evaluation and checkpoints, within what k8s/ gives the container."""
    _, limit, disk_limit = limits(f"alexnet-{name}")
    options = ["--network", "none", "--volume", f"{volume}:/runs", "--memory", str(limit), "--memory-swap", str(limit)]
    run(name, "train", "--data", "digits", "--epochs", "1", "--checkpoint-steps", "4", "--run-id", "full", options=options)
    summary = json.loads(shell(name, "cat /runs/full/summary.json", "--volume", f"{volume}:/runs"))
    disk = int(shell(name, "du -sb /runs | cut -f1", "--volume", f"{volume}:/runs"))
    assert disk < disk_limit
    peak = summary["peak_host_memory_bytes"]
    record(f"alexnet-{name}", "digits at 224 px, full width, CPU", memory_bytes=peak, disk_bytes=disk, where="docker run, CPU")


def test_default_output_is_the_volume(name):
    """`docker run alexnet-torch train`, without a tag and without any option of Docker's, leaves its results in /runs."""
    done = docker.docker("run", "--rm", f"alexnet-{name}", *DIGITS, *LENGTH)
    assert re.search(rf"results in /runs/digits-{NAMES[name]}-\d{{8}}-", done.stderr)


def test_default_length(name):
    epochs = re.search(r"^epochs = (\d+)$", run(name, "train", "--dry-run").stdout, re.M)[1]
    assert epochs == {"torch": "20", "tf": "30"}[name]


def test_stop_and_resume_in_s3(name, store):
    """`docker stop` stores a checkpoint and exits with 143; the same run id continues; the bytes are those of an undisturbed run."""
    words = [*DIGITS, "--epochs", "4", "--output", "s3://runs", "--run-id"]
    run(name, *words, f"{name}-whole", options=access(store))
    with Container(name, *words, f"{name}-stopped", options=access(store)) as first:
        first.wait_for("step 60/180")
        docker.docker("stop", "--time", "60", first.id)
        assert first.exit_code == 143, first.log
        step = int(re.search(r"a checkpoint of step (\d+) is stored", first.log)[1])
    assert 60 <= step < 180
    second = run(name, *words, f"{name}-stopped", options=access(store))
    assert f"continues from step {step} of 180" in second.stderr
    whole, stopped = (stored(store, f"{run_id}/{finished(store, run_id)['model']}") for run_id in (f"{name}-whole", f"{name}-stopped"))
    assert whole == stopped


SCRAPE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"


def test_what_monitoring_sees(name, tmp_path):
    """Every line an object of JSON, whatever the framework prints; metrics on the way; last words in the file that Kubernetes gives."""
    words = tmp_path / "termination-log"
    words.touch()
    words.chmod(0o666)
    options = ["--network", "none", "--volume", f"{words}:/dev/termination-log"]
    with Container(
        name, *DIGITS, "--epochs", "4", "--run-id", "seen", "--log-format", "json", "--metrics-port", "9464", options=options
    ) as container:
        container.wait_for('"event": "epoch"')
        metrics = docker.docker("exec", container.id, "/opt/alexnet/bin/python", "-c", SCRAPE).stdout
        assert re.search(rf'^alexnet_steps\{{engine="{NAMES[name]}",run="seen"\}} 180.0$', metrics, re.M)
        container.wait_for('"event": "finished"')
        docker.docker("wait", container.id)
        assert {json.loads(line)["run"] for line in container.log.splitlines()} == {None, "seen"}
    assert words.read_text().startswith("finished: test accuracy")


def test_process_1_hands_signals_on(name):
    with Container(name, *DIGITS, options=["--network", "none"]) as container:
        container.wait_for("step 5/")
        assert docker.docker("exec", container.id, "cat", "/proc/1/comm").stdout == "tini\n"
        assert docker.docker("exec", container.id, "alexnet", "--version").stdout.startswith("alexnet")


def test_no_gpu_where_one_is_demanded(name):
    done = run(name, *DIGITS, "--device", "cuda", check=False)
    assert done.returncode == 78
    assert "--device cuda" in done.stderr


def test_wrong_flag(name):
    assert run(name, "train", "--epoch", "3", check=False).returncode == 2


def test_only_runs_and_tmp_are_writable(name):
    """With a writable root as well."""
    options = ["run", "--rm", "--user", "12345:23456", "--entrypoint", "/bin/sh", docker.image(name)]
    found = docker.docker(*options, "-c", "find / -xdev -writable ! -type l 2>/dev/null; ls -d /runs /tmp").stdout
    assert {path for path in found.split() if not path.startswith(("/dev", "/proc", "/sys"))} <= {
        "/runs",
        "/tmp",
        "/var/lock",
        "/run/lock",
        "/var/tmp",
    }


def test_nothing_but_the_run_is_in_the_image(name):
    """No pip and no compiler of ours, nothing of the checkout but the package; everything is byte-compiled."""
    script = """
        ls /opt/alexnet/bin
        ls -d /requirements /source /wheels /build 2>/dev/null
        command -v gcc cc clang nvcc
        cd /opt/alexnet/lib/python3*/site-packages && ls -d pip triton tests 2>/dev/null
        find job -name '*.py' | while read -r f; do
            ls "$(dirname $f)/__pycache__/$(basename $f .py)".*.pyc >/dev/null || echo "not compiled: $f"; done
    """
    found = shell(name, script + "\ntrue").split()
    assert "alexnet" in found
    assert not [word for word in found if re.match(r"pip|/|not|triton|tests", word)]


def test_history_and_files_hold_no_secret(name):
    told = docker.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", docker.image(name)).stdout
    config = docker.docker("image", "inspect", "--format", "{{json .Config.Env}}", docker.image(name)).stdout
    assert not re.search(r"(?i)secret_access|password|token=|index.url|://[^/\s]*:[^/\s]*@", told + config)
    names = shell(
        name, "find / -xdev \\( -name 'pip.conf' -o -name '.netrc' -o -name 'credentials' -o -name '*.key' \\) -size +0 2>/dev/null; true"
    )
    assert names.split() == []


def small_source(folder: Path) -> Path:
    """The real Dockerfile with one small package in its lock, so that it builds in seconds and without caches."""
    folder.mkdir()
    for part in ("Dockerfile.torch", "LICENSE", "README.md", "pyproject.toml", ".dockerignore"):
        (folder / part).write_bytes((docker.ROOT / part).read_bytes())
    for part in ("docker", "requirements"):
        (folder / part).mkdir()
        for file in (docker.ROOT / part).iterdir():
            (folder / part / file.name).write_bytes(file.read_bytes())
            (folder / part / file.name).chmod(0o755)
    (folder / "job").mkdir()
    (folder / "job" / "__init__.py").write_text("")
    write_lock(folder, "jmespath")
    return folder


def write_lock(source: Path, *packages: str) -> None:
    lock = (docker.ROOT / "requirements/torch.txt").read_text()
    chosen = [re.search(rf"^{package}==(?:.*\\\n)+.*\n", lock, re.M)[0] for package in packages]
    (source / "requirements" / "torch.txt").write_text("".join(chosen))


@pytest.fixture
def small(tmp_path):
    def build(*secrets):
        words = [word for name, path in secrets for word in ("--secret", f"id={name},src={path}")]
        base = [f"--build-arg={a}" for a in docker.engine_or_skip()]
        command = [
            "build",
            "--no-cache",
            "--file",
            str(source / "Dockerfile.torch"),
            "--tag",
            "alexnet-small:test",
            *base,
            *words,
            str(source),
        ]
        return docker.docker(*command, check=False, seconds=600)

    source = small_source(tmp_path / "source")
    yield build
    docker.docker("image", "rm", "--force", "alexnet-small:test", check=False)


def test_a_mirror_and_a_private_ca_leave_no_trace(small, tmp_path):
    """What `make build ca=… pip.conf=… apt.conf=…` hands over is used, and is in no layer."""
    marker = "7f3a9c-private-7f3a9c"
    pip, apt, ca = tmp_path / "pip.conf", tmp_path / "apt.conf", tmp_path / "ca"
    pip.write_text(f"[global]\ntimeout = 100\n# {marker}\n")
    apt.write_text(f'APT::Private "{marker}";\n')
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    ca.write_text(f"# {marker}\n" + (system.read_text() if system.exists() else ""))
    done = small(("pip.conf", pip), ("apt.conf", apt), *([("ca", ca)] if system.exists() else []))
    assert done.returncode == 0, done.stderr[-3000:]
    docker.docker("save", "--output", str(tmp_path / "image.tar"), "alexnet-small:test")
    assert not holds(tmp_path / "image.tar", marker.encode())


def holds(image: Path, text: bytes) -> bool:
    """Is the text in any file of any layer, or in the image's own description?"""
    with tarfile.open(image) as outer:
        for member in outer:
            file = outer.extractfile(member)
            if file is None:
                continue
            if not member.name.endswith("layer.tar"):
                if text in file.read():
                    return True
                continue
            with tarfile.open(fileobj=file) as layer:
                if any(text in (layer.extractfile(each) or file).read() for each in layer if each.isfile()):
                    return True
    return False


def test_what_did_not_change_is_not_pulled_again(small, tmp_path):
    """Built anew without any cache, a layer has the same digest; another package changes its own layer alone."""
    found = []
    for other in ("jmespath", "six"):
        write_lock(tmp_path / "source", other, "nvidia-ml-py")
        done = small()
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(docker.docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", "alexnet-small:test").stdout))
    venv, nvidia, framework, others, _package, _workdir = (first == second for first, second in list(zip(*found, strict=True))[-6:])
    assert (venv, nvidia, framework, others) == (True, True, True, False)


@pytest.mark.parametrize(
    ("secret", "content", "complaint"),
    [
        ("pip.conf", "[global]\nindex-url = https://mirror.invalid/private-mirror\nretries = 1\n", "/private-mirror/pip/"),
        ("ca", "no certificate\n", "certificate|SSL|TLS"),
        ("apt.conf", 'Acquire::http::Proxy "http://proxy.invalid:1";\nAcquire::https::Proxy "http://proxy.invalid:1";\n', "proxy.invalid"),
    ],
    ids=["pip.conf", "ca", "apt.conf"],
)
def test_mirror_ca_and_proxy_are_used(small, tmp_path, secret, content, complaint):
    path = tmp_path / secret
    path.write_text(content)
    done = small((secret, path))
    assert done.returncode != 0
    assert re.search(complaint, done.stdout + done.stderr)
