"""A real bucket with versioning: what is deleted stays, and the doctor says so with a rule that the server takes."""

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from job.core.recipe import Recipe
from job.doctor.page import Line, Setup
from job.doctor.storage import StoreCheck
from job.storage.opening import open_store
from job.storage.versioning import days_until_removal, lifecycle_command
from tests.support.proxy import Error, Proxy
from tests.support.servers import Server

Set = Callable[[Mapping[str, str]], None]


@pytest.fixture
def bucket(weed: Server, set_environment: Set) -> str:
    """A new one, as versioning is the whole bucket's."""
    set_environment(weed.environment)
    return weed.make_bucket(f"versions-{uuid4().hex}")


def version(server: Server, bucket: str, status: str) -> None:
    server.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def told(url: str) -> Line:
    """Of the doctor's page."""
    setup = Setup(recipe=Recipe(), engines=(), device="cpu", output=url, data=None, mirror=None, cache=Path("/"), spool=None, grace=30.0)
    store = open_store(url)
    return StoreCheck(store, setup).versioning(store.versioning())


def obey(server: Server, line: Line) -> None:
    """Run the command that ends the remedy, as the AWS command line would."""
    words = shlex.split(line.remedy[line.remedy.index("aws s3api") :])
    assert words[:4] == ["aws", "s3api", "put-bucket-lifecycle-configuration", "--bucket"]
    assert words[5] == "--lifecycle-configuration"
    server.client().put_bucket_lifecycle_configuration(Bucket=words[4], LifecycleConfiguration=json.loads(words[6]))


def test_without_versioning(weed: Server, bucket: str, tmp_path: Path) -> None:
    """Never turned on, turned off again, and a folder."""
    assert (told(f"s3://{bucket}").level, told(f"s3://{bucket}").reason) == ("pass", "off: what is deleted frees its room")
    version(weed, bucket, "Enabled")
    version(weed, bucket, "Suspended")
    assert told(f"s3://{bucket}").reason.startswith("off: ")
    assert told(str(tmp_path)).reason.startswith("off: ")


@pytest.mark.parametrize("prefix", ["", "/runs", "/it's/mine"])
def test_with_versioning(weed: Server, bucket: str, prefix: str) -> None:
    """What is deleted stays; the doctor's rule is taken by the server, and the doctor content with it."""
    url = f"s3://{bucket}{prefix}"
    version(weed, bucket, "Enabled")
    store = open_store(url)
    store.put("run/checkpoint", b"weights")
    store.delete("run/checkpoint")
    assert store.list() == []
    assert [v["Size"] for v in weed.client().list_object_versions(Bucket=bucket)["Versions"]] == [7]
    line = told(url)
    assert line.level == "warn"
    assert line.reason == "on: what is deleted stays as an old version, and no lifecycle rule removes it; 456.4 MB for each checkpoint"
    obey(weed, line)
    line = told(url)
    assert (line.level, line.reason) == ("pass", "on: what is deleted stays for 1 day, then a lifecycle rule removes it")


def test_the_page_on_clusters_has_the_same_command() -> None:
    text = " ".join(Path("docs/cluster.md").read_text().split())
    assert " ".join(lifecycle_command("s3://BUCKET/runs").split()) in text


def test_rules_that_are_there_are_not_forgotten(weed: Server, bucket: str) -> None:
    version(weed, bucket, "Enabled")
    other = {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    weed.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [other]})
    line = told(f"s3://{bucket}/runs")
    assert line.level == "warn"
    assert "(this takes the place of the rules that the bucket has, so add them to it): aws s3api" in line.remedy
    assert told(f"s3://{bucket}/logs/team").level == "pass"


def test_a_server_that_knows_no_versioning(rclone: Server, set_environment: Set) -> None:
    set_environment(rclone.environment)
    assert told("s3://contract/runs").level == "pass"


@pytest.mark.parametrize("error", [Error(status=403, code="AccessDenied"), Error(status=501, code="NotImplemented"), Error(status=404)])
def test_a_question_that_is_not_answered(weed: Server, bucket: str, set_environment: Set, error: Error) -> None:
    """A key without the right, or a server without the function: what is not known is not said."""
    version(weed, bucket, "Enabled")
    silent = "versioning"
    with Proxy(weed, decide=lambda request: error if f"?{silent}" in request.path else None) as proxy:
        set_environment(proxy.environment)
        line = told(f"s3://{bucket}")
        assert (line.level, line.reason) == ("pass", "not known, as the store does not answer this key's question")
        silent = "lifecycle"
        line = told(f"s3://{bucket}")
        assert "on: what is deleted stays as an old version, and this key may not see whether a lifecycle rule removes it" in line.reason
        assert "add them to it" in line.remedy


RULE = {"Status": "Enabled", "Filter": {"Prefix": "runs/"}, "NoncurrentVersionExpiration": {"NoncurrentDays": 3}}


@pytest.mark.parametrize(
    ("change", "days"),
    [
        ({}, 3),
        ({"Filter": {}}, 3),
        ({"Filter": {"Prefix": ""}}, 3),
        ({"Filter": None, "Prefix": "runs/"}, 3),
        ({"Filter": {"Prefix": "runs/team/"}}, 3),
        ({"Status": "Disabled"}, None),
        ({"Filter": {"Prefix": "runs/other/"}}, None),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}}, None),
        ({"Filter": {"And": {"Prefix": "runs/", "ObjectSizeLessThan": 5}}}, None),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2}}, None),
        ({"NoncurrentVersionExpiration": {}}, None),
    ],
)
def test_which_rules_do(change: dict[str, Any], days: int | None) -> None:
    assert days_until_removal([{**RULE, **change}], "runs/team/") == days
    assert days_until_removal([{"Status": "Enabled", "Expiration": {"Days": 1}}, {**RULE, **change}], "runs/team/") == days
