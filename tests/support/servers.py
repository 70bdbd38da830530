"""Real S3 servers on loopback: `weed` (SeaweedFS) for the tests, the demo and `make s3`; `rclone`, which ignores conditional puts.

python -m tests.support.servers                    weed over .work/s3 with the bucket `runs`; prints the variables to export; until Ctrl-C
python -m tests.support.servers -- COMMAND…        runs COMMAND with these variables, stops the server, returns COMMAND's exit code
"""

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session as BotocoreSession

REGION = "us-east-1"
START_SECONDS = 30.0
STOP_SECONDS = 15.0


class Server:
    """One server process over one folder; `restart` brings it back on the same folder, port and credentials."""

    def __init__(
        self,
        ports: int,
        command: Callable[["Server"], Sequence[str]],
        variables: Callable[["Server"], Mapping[str, str]],
        folder: Path | None = None,
    ) -> None:
        """`ports`: how many it needs, the first one for S3.  `command` and `variables` start it.  Without `folder`: a temporary one."""
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True)
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key, self.secret = _credentials()
        self.reader_key, self.reader_secret = _credentials()
        self.ports = free_ports(ports)
        self._command, self._variables = command, variables
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs.  AWS_DEFAULT_REGION is boto3's name for AWS_REGION."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def reader_environment(self) -> dict[str, str]:
        """The same for someone who may read and list, but not write (weed only)."""
        return self.environment | {"AWS_ACCESS_KEY_ID": self.reader_key, "AWS_SECRET_ACCESS_KEY": self.reader_secret}

    def __enter__(self) -> Self:
        try:
            self.restart()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is None:
            return self.stop()
        self.kill()  # nobody needs what it would take seconds to put in order
        return self._temporary.cleanup()

    def restart(self) -> None:
        """Start it if it does not run, and wait until it answers.  RuntimeError with the end of its log if it does not."""
        if self._process and self._process.poll() is None:
            return
        log = self.folder / "server.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*self._command(self)],
                env=without_aws(os.environ) | dict(self._variables(self)),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C in the terminal is for the command that uses the server
            )
        client, end = self.client(), time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:  # else a busy port would have us talk to somebody else's server
                break
            with suppress(Exception):
                client.list_buckets()
                return
            time.sleep(0.05)
        tail = log.read_text(errors="replace")[-2000:]
        self.kill()
        raise RuntimeError(f"{self._command(self)[0]} did not start on ports {self.ports}:\n{tail}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def client(self) -> Any:
        """A client with these credentials, whatever the environment says; one try for each request."""
        unset = {name: (None, None, value, None) for name, value in (("profile", None), ("config_file", os.devnull))}
        return boto3.session.Session(botocore_session=BotocoreSession(unset)).client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=REGION,
            verify=False,
            config=Config(
                retries={"total_max_attempts": 1}, proxies={}, s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
            ),
        )

    def make_bucket(self, name: str) -> str:
        """Create the bucket unless it exists; returns its name."""
        try:
            self.client().create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
        return name

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for port in self.ports:
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)


def weed(folder: Path | None = None) -> Server:
    """SeaweedFS: conditional puts, pagination and multipart uploads as on AWS."""
    names = ["s3.port", *(f"{part}.port" for part in ("master", "volume", "filer", "admin"))]
    names += [f"{name}.grpc" for name in names]

    def command(server: Server) -> list[str]:
        ports = [f"-{name}={port}" for name, port in zip(names, server.ports, strict=True)]
        quiet = ["-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-disableHttp", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        strict = ["-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false", f"-s3.config={_identities(server)}"]
        return [_executable("weed"), "mini", f"-dir={server.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *quiet, *strict, *ports]

    return Server(len(names), command, lambda _: {"GOMEMLIMIT": "512MiB"}, folder)


def weed_of_manifest(command: Sequence[str], secret: Mapping[str, str]) -> Server:
    """SeaweedFS started by a manifest's command, on ports of its own.  `secret`: variable → `key` or `secret`."""
    names = ["s3.port", *(f"{part}.port" for part in ("master", "volume", "filer"))]
    names = [each for name in names for each in (name, f"{name}.grpc")]

    def started(server: Server) -> list[str]:
        kept = [word for word in command[1:] if not word.startswith(("-dir=", "-s3.port="))]
        ports = [f"-{name}={port}" for name, port in zip(names, server.ports, strict=True)]
        return [_executable("weed"), *kept, f"-dir={server.folder}", *ports]

    return Server(len(names), started, lambda server: {name: getattr(server, kind) for name, kind in secret.items()})


def rclone(folder: Path | None = None) -> Server:
    """`rclone serve s3`: a store that silently ignores `If-None-Match`."""

    def command(server: Server) -> list[str]:
        data = server.folder / "buckets"
        data.mkdir(exist_ok=True)
        return [_executable("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{server.ports[0]}", "--no-cleanup=false", str(data)]

    def variables(server: Server) -> dict[str, str]:
        return {"RCLONE_AUTH_KEY": f'"{server.key},{server.secret}"', "RCLONE_CONFIG": os.devnull}

    return Server(1, command, variables, folder)


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the user's AWS settings, and with loopback reached directly."""
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")  # where both are set, the small letters count
    return kept | direct | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def _credentials() -> tuple[str, str]:
    return f"AK{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)


def _identities(server: Server) -> Path:
    def identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}

    path = server.folder / "identities.json"
    path.touch(mode=0o600)
    owner = identity("owner", server.key, server.secret, ["Admin", "Read", "List", "Write", "Tagging"])
    reader = identity("reader", server.reader_key, server.reader_secret, ["Read", "List"])
    path.write_text(json.dumps({"identities": [owner, reader]}))
    return path


def free_ports(count: int) -> list[int]:
    """Below 32768, from where the system takes the ports of outgoing connections: one of those may be busy a moment later."""
    found: set[int] = set()
    while len(found) < count:
        port = 10_000 + secrets.randbelow(22_768)
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


def _executable(name: str) -> str:
    """From the virtual environment that runs this, else from PATH."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name}: not installed. pip install -e '.[dev]' brings it.")
    return found


def main() -> int:
    arguments = sys.argv[1:]
    if arguments and (arguments[0] != "--" or len(arguments) == 1):
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    with weed(Path(".work/s3").absolute()) as server:
        server.make_bucket("runs")
        if arguments:
            return subprocess.run(arguments[1:], env=without_aws(os.environ) | server.environment, check=False).returncode
        for name, value in server.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print("# bucket: s3://runs   (Ctrl-C stops the server)", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
