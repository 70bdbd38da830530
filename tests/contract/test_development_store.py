"""The store of k8s/store, started as the manifest says but for its ports and folder: what it lets in without a key."""

import os
import subprocess
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import grpc
import psutil
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.servers import Server, weed_of_manifest

MANIFEST = Path(__file__).parents[2] / "k8s/store/storage.yaml"
DOCUMENTS = {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}
CONTAINER = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture(scope="module")
def store() -> Iterator[Server]:
    secret = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    asked = {e["name"]: secret[e["valueFrom"]["secretKeyRef"]["key"]] for e in CONTAINER["env"] if "valueFrom" in e}
    with weed_of_manifest(CONTAINER["command"], asked) as server:
        yield server


def open_ports(server: Server) -> set[int]:
    """Those that other machines can reach."""
    found = psutil.Process(server.pid).net_connections("inet")
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN and one.laddr.ip != "127.0.0.1"}


def test_no_port_is_open_but_the_one_that_asks_for_a_key(store: Server) -> None:
    s3, s3_grpc = store.ports[:2]
    assert open_ports(store) == {s3, s3_grpc}, "S3, and its gRPC, which is tried below"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(f"{store.endpoint}/", timeout=30)
    assert caught.value.code == 403


def field(number: int, value: bytes) -> bytes:
    """Of a protobuf message."""
    return bytes([number << 3 | 2, len(value)]) + value


METHODS: dict[str, bytes] = {
    "PutIdentity": field(1, field(1, b"evil") + field(2, field(1, b"AKEVIL") + field(2, b"evil" * 8)) + field(3, b"Admin")),
    "RemoveIdentity": field(1, b"evil"),
    "PutPolicy": field(1, b"evil") + field(2, b"{}"),
    "DeletePolicy": field(1, b"evil"),
}
"""of the service by which other parts of SeaweedFS tell it of new keys"""


@pytest.mark.parametrize("method", METHODS)
def test_nobody_brings_keys_of_his_own(store: Server, method: str) -> None:
    def same(data: bytes) -> bytes:
        return data

    with grpc.insecure_channel(f"127.0.0.1:{store.ports[1]}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: Callable[..., Any] = channel.unary_unary(f"/messaging_pb.SeaweedS3IamCache/{method}", same, same)
        with pytest.raises(grpc.RpcError) as caught:
            call(METHODS[method], timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
    session = boto3.session.Session(aws_access_key_id="AKEVIL", aws_secret_access_key="evil" * 8, region_name="us-east-1")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        session.client("s3", endpoint_url=store.endpoint, config=Config(proxies={})).list_buckets()


def make_bucket(store: Server) -> str:
    """What the hook prints, with this server's ports in it."""
    shell, option, script = CONTAINER["lifecycle"]["postStart"]["exec"]["command"]
    master, filer = (f"{http}.{grpc_port}" for http, grpc_port in (store.ports[2:4], store.ports[6:8]))
    script = script.replace(":9333", f":{master}").replace(":8888", f":{filer}")
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "WEED_JWT_FILER_SIGNING_KEY": store.secret}
    return subprocess.run([shell, option, script], env=variables, capture_output=True, text=True, check=True, timeout=90).stdout


def test_it_stores(store: Server) -> None:
    """In the bucket that the container's own hook makes, and which a container that starts again finds."""
    client, data = store.client(), os.urandom(6 << 20)
    for answer in ("created bucket alexnet", "already exists"):
        assert answer in make_bucket(store)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["alexnet"]
    upload = client.create_multipart_upload(Bucket="alexnet", Key="r/large")["UploadId"]
    part = client.upload_part(Bucket="alexnet", Key="r/large", UploadId=upload, PartNumber=1, Body=data)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(Bucket="alexnet", Key="r/large", UploadId=upload, MultipartUpload=parts)
    assert client.get_object(Bucket="alexnet", Key="r/large")["Body"].read() == data
    client.delete_object(Bucket="alexnet", Key="r/large")
    assert client.list_objects_v2(Bucket="alexnet")["KeyCount"] == 0


def test_a_policy_admits_to_that_port_alone() -> None:
    spec = DOCUMENTS["NetworkPolicy"]["spec"]
    (pods, policy) = DOCUMENTS["Deployment"]["spec"]["selector"], spec["podSelector"]
    assert pods == policy
    assert spec["ingress"] == [{"ports": [{"port": 8333, "protocol": "TCP"}]}]
    assert [port["port"] for port in DOCUMENTS["Service"]["spec"]["ports"]] == [8333]
