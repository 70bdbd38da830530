"""Real servers, one of each kind for all tests, and a place of its own for each test."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
from botocore.loaders import JSONFileLoader

from job.storage.opening import open_store
from job.storage.store import Store
from tests.support import servers
from tests.support.servers import Server, without_aws

BUCKET = "contract"


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Have boto3 parse its description of S3 once: each of these tests makes clients of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(cache(JSONFileLoader().load_file)))
        yield


@pytest.fixture(scope="session")
def weed() -> Iterator[Server]:
    with servers.weed() as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture(scope="session")
def rclone() -> Iterator[Server]:
    with servers.rclone() as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Have the given AWS variables and no other ones; a request is tried twice, unless they say otherwise."""

    def set_all(variables: Mapping[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in (without_aws({}) | {"AWS_MAX_ATTEMPTS": "2"} | dict(variables)).items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def place() -> str:
    """A URL in the bucket that no other test uses."""
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture(params=["folder", "weed", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path: Path, place: str, set_environment: Callable[[Mapping[str, str]], None]) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    set_environment(request.getfixturevalue(request.param).environment)
    return open_store(place)


@pytest.fixture
def promises(store: Store, request: pytest.FixtureRequest) -> bool:
    """Does this store honour the condition of a put?  Known here from S3.md, not from the code under test."""
    return "rclone" not in request.node.name
