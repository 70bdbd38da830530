"""Buckets that keep what is deleted: how to tell from the server's answers, and the lifecycle rule that has them remove it for good.

With versioning a delete hides an object and frees no room: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Versioning:
    """What becomes of an object that is deleted."""

    enabled: bool | None
    """True: it stays as an old version; None: the store does not say"""
    rules: int | None = 0
    """lifecycle rules that the bucket has; None: the store does not say"""
    days: int | None = None
    """after which one of them removes old versions; None: none does, as far as is known"""


def days_until_removal(rules: Iterable[Mapping[str, Any]], prefix: str) -> int | None:
    """The fewest days after which a rule removes all old versions below `prefix`.  `rules`: as GetBucketLifecycleConfiguration has them."""
    found = (rule["NoncurrentVersionExpiration"] for rule in rules if "NoncurrentVersionExpiration" in rule and _covers(rule, prefix))
    return min(
        (each["NoncurrentDays"] for each in found if each.get("NoncurrentDays") and not each.get("NewerNoncurrentVersions")), default=None
    )


def lifecycle_command(url: str) -> str:
    """The command that has the bucket remove what is deleted below `s3://bucket/prefix`, and parts of uploads that nobody ended."""
    bucket, _, prefix = url.removeprefix("s3://").rstrip("/").partition("/")
    rule = {
        "ID": "alexnet-deleted",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/" if prefix else ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    }
    rules = shlex.quote(json.dumps({"Rules": [rule]}))
    return f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket} --lifecycle-configuration {rules}"


def _covers(rule: Mapping[str, Any], prefix: str) -> bool:
    """Is it in force, for everything below the prefix?"""
    chosen = rule.get("Filter") or {"Prefix": rule.get("Prefix", "")}  # the latter in rules of the old form
    return rule.get("Status") == "Enabled" and set(chosen) <= {"Prefix"} and prefix.startswith(chosen.get("Prefix") or "")
