"""S3 with Object Lock as the archive's store; needs the extra `s3` (boto3).

    s3://BUCKET/PREFIX?region=eu-west-1&endpoint=https://…&lock=compliance|governance|none

Region, endpoint and credentials that the URL does not name are found as boto3 finds them (AWS_REGION,
AWS_ENDPOINT_URL_S3, a role …). The bucket is made by whoever owns it, with versions and Object Lock on.
Created with `If-None-Match: *` and a SHA-256 that the server checks:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html

An object is the oldest version of its name: Object Lock protects that one, and does not stop a newer
version, or a marker of deletion, from hiding it.

What is created without a lock says its date in its metadata. A later one, and a legal hold, are tags of that version
then: words, as the files beside an object in a folder are.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from deploytrail_schemas.errors import ConfigurationError, RetryLater

from deploytrail_sinks.archive.s3_answers import asking
from deploytrail_sinks.archive.store import (
    USUAL,
    Lock,
    ObjectExists,
    ObjectKept,
    Terms,
    Version,
    firmer,
    is_later,
    latest,
    may_go,
)

_DATE = "retain-until"  # the name of the metadata that says it again, and of the tag that says a later one
_LOCK = "retain-lock"  # the name of the metadata that says that an object was created without one
_HOLD = "legal-hold"  # the name of the tag
_KNOWN = {"region", "endpoint", "lock"}
_CONNECT_SECONDS, _ANSWER_SECONDS = 5, 30


@dataclass(frozen=True, slots=True)
class _Kept:
    """How the server keeps an object. `said`: its date by word; `unlocked`: it was created without a lock, so that
    having none is no sign that somebody took it off."""

    lock: Lock
    date: str | None
    said: str | None
    unlocked: bool


class S3Store:
    """A prefix of a bucket. `client` is boto3's."""

    def __init__(self, client: Any, bucket: str, prefix: str = "", lock: Lock = Lock.COMPLIANCE) -> None:
        self._client, self._bucket, self._lock = client, bucket, lock
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def of(cls, url: str) -> S3Store:
        """The store of a URL; ConfigurationError where it says nothing of sense."""
        parts, asked = urlsplit(url), parse_qs(urlsplit(url).query)
        if not parts.netloc or set(asked) - _KNOWN or parts.username or parts.fragment:
            raise ConfigurationError(
                f"DEPLOYTRAIL_ARCHIVE names bucket {parts.hostname or ''!r} and {sorted(asked)}; expected "
                "s3://BUCKET/PREFIX?region=…&endpoint=…&lock=…, credentials as boto3 finds them"
            )
        try:
            lock = Lock(asked.get("lock", ["compliance"])[-1])
        except ValueError:
            raise ConfigurationError(
                f"DEPLOYTRAIL_ARCHIVE has lock={asked['lock'][-1]}; expected compliance, governance or none"
            ) from None
        client = connect(asked.get("region", [""])[-1], asked.get("endpoint", [""])[-1])
        return cls(client, parts.netloc, parts.path, lock)

    def create(self, name: str, data: bytes, retain_until: str, terms: Terms = USUAL) -> str:
        digest = hashlib.sha256(data).digest()
        lock = firmer(terms.lock or self._lock, terms.at_least)
        more: dict[str, Any] = {"StorageClass": terms.tier} if terms.tier else {}
        if lock is not Lock.NONE:
            more["ObjectLockMode"] = lock.value.upper()
            # Records of long ago may be past their date when they come; a lock has to end in the future.
            soonest = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
            more["ObjectLockRetainUntilDate"] = max(datetime.fromisoformat(retain_until), soonest)
        said = {_DATE: retain_until} | ({_LOCK: lock.value} if lock is Lock.NONE else {})
        mine = None
        try:
            with asking(name, f"{self._where(name)} cannot be created"):
                stored = self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._key(name),
                    Body=data,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=base64.b64encode(digest).decode(),
                    Metadata=said,
                    **more,
                )
            mine = str(stored.get("VersionId", ""))
        except ObjectExists:
            pass
        # A marker of deletion that hides the object lets the condition pass, so look what came first.
        try:
            first = self._first(name)
        except KeyError:
            if mine is None:
                raise RetryLater(f"{self._where(name)} is refused as taken, and is not there") from None
            return mine
        if mine is not None and first.id in (mine, "null", ""):
            return first.id
        # Refused: by somebody else's object, or by our own, when the answer to its creation was lost.
        if first.size == len(data) and hashlib.sha256(self.read(name, first.id)).digest() == digest:
            return first.id
        raise ObjectExists(name)

    def settle(self, name: str) -> None:  # noqa: ARG002  # an object that can be read is durable
        return

    def read(self, name: str, version: str = "") -> bytes:
        version = version or self._first(name).id
        with asking(name, f"{self._where(name)} cannot be read"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **_only(version))
            return bytes(answer["Body"].read())

    def list(self, prefix: str) -> Iterator[str]:
        below = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
        last = ""
        for name, version in self._versions(below):
            if name != last and not version.is_deletion:
                last = name
                yield name

    def versions(self, name: str) -> tuple[Version, ...]:
        # The name itself comes first of those that begin with it.
        own = itertools.takewhile(lambda found: found[0] == name, self._versions(name))
        return tuple(version for _, version in own)[::-1]

    def retain_until(self, name: str) -> str | None:
        kept = self._kept(name)
        # The bucket may lock for a while what we created without a lock.
        return latest(kept.date, kept.said) if kept.unlocked else kept.date

    def lengthen(self, name: str, retain_until: str, terms: Terms = USUAL) -> bool:
        kept = self._kept(name)
        until = latest(retain_until, kept.date, kept.said) or retain_until
        lock = firmer(kept.lock, firmer(terms.lock or self._lock, terms.at_least))
        if not is_later(until, datetime.now(UTC).isoformat()):
            lock = kept.lock  # there is nothing left that a lock could keep
        if lock is Lock.NONE:
            return is_later(until, kept.said) and self._tag(name, _DATE, until)
        if lock is kept.lock and not is_later(until, kept.date):
            return False
        # Servers take another mode for a weaker one, and ask for the right to get past the one that is there.
        more = {"BypassGovernanceRetention": True} if Lock.GOVERNANCE is kept.lock is not lock else {}
        retention = {"Mode": lock.value.upper(), "RetainUntilDate": datetime.fromisoformat(until)}
        with asking(name, f"{self._where(name)} cannot be kept longer"):
            self._client.put_object_retention(Retention=retention, **more, **self._oldest(name))
        return True

    def is_held(self, name: str) -> bool:
        if self._lock is Lock.NONE:
            return self._tags(name).get(_HOLD) == "on"
        if said := self._head(name).get("ObjectLockLegalHoldStatus"):
            return bool(said == "ON")
        try:
            with asking(name, f"{self._where(name)} cannot be asked for its legal hold"):
                answer = self._client.get_object_legal_hold(**self._oldest(name))
        except KeyError:
            return False
        return bool(answer.get("LegalHold", {}).get("Status") == "ON")

    def hold(self, name: str, on: bool) -> None:
        if self._lock is Lock.NONE:
            self._tag(name, _HOLD, "on" if on else "")
            return
        with asking(name, f"{self._where(name)} cannot be held or released"):
            self._client.put_object_legal_hold(LegalHold={"Status": "ON" if on else "OFF"}, **self._oldest(name))

    def delete(self, name: str, now: datetime) -> None:
        if why := may_go(self.retain_until(name), self.is_held(name), now):
            raise ObjectKept(f"{name} stays: {why}")
        for version in self.versions(name)[::-1]:  # the object itself last
            try:
                with asking(name, f"{self._where(name)} cannot be deleted"):
                    self._client.delete_object(Bucket=self._bucket, Key=self._key(name), **_only(version.id))
            except ConfigurationError as error:  # the store's clock, or its lock, says something else than ours
                raise ObjectKept(str(error)) from error

    def folders(self, prefix: str) -> tuple[str, ...]:
        below = f"{prefix}/" if prefix else ""
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=self._key(below), Delimiter="/"
        )
        with asking(prefix, f"{self._where(prefix)} cannot be listed"):
            keys = [found["Prefix"] for page in pages for found in page.get("CommonPrefixes", ())]
        return tuple(sorted({key.removeprefix(self._prefix).rstrip("/") for key in keys}))

    def replace(self, name: str, data: bytes) -> None:
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        with asking(name, f"{self._where(name)} cannot be replaced"):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._key(name),
                Body=data,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=digest,
            )

    def newest(self, name: str) -> bytes:
        with asking(name, f"{self._where(name)} cannot be read"):
            return bytes(self._client.get_object(Bucket=self._bucket, Key=self._key(name))["Body"].read())

    def _first(self, name: str) -> Version:
        for version in self.versions(name):
            if not version.is_deletion:
                return version
        raise KeyError(name)

    def _oldest(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(name), **_only(self._first(name).id)}

    def _head(self, name: str) -> dict[str, Any]:
        with asking(name, f"{self._where(name)} cannot be read"):
            head: dict[str, Any] = self._client.head_object(**self._oldest(name))
        return head

    def _kept(self, name: str) -> _Kept:
        head = self._head(name)
        locked = self._retention(name, head)
        words = head.get("Metadata", {})
        said, unlocked = words.get(_DATE), self._lock is Lock.NONE or words.get(_LOCK) == Lock.NONE.value
        date = locked.get("RetainUntilDate")
        if unlocked or not date:
            said = latest(said, self._tags(name).get(_DATE))
        if date:
            until = date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return _Kept(Lock(locked["Mode"].lower()), until, said, unlocked)
        return _Kept(Lock.NONE, None, said, unlocked)

    def _retention(self, name: str, head: dict[str, Any]) -> dict[str, Any]:
        """Mode and date; some servers tell them with every object, others only where they are asked for them."""
        if date := head.get("ObjectLockRetainUntilDate"):
            return {"Mode": head["ObjectLockMode"], "RetainUntilDate": date}
        if self._lock is Lock.NONE:  # a bucket that has no locks at all refuses to be asked
            return {}
        try:
            with asking(name, f"{self._where(name)} cannot be asked for its retention"):
                answer = self._client.get_object_retention(**self._oldest(name))
        except KeyError:
            return {}
        kept: dict[str, Any] = answer.get("Retention", {})
        return kept

    def _tags(self, name: str) -> dict[str, str]:
        with asking(name, f"{self._where(name)} cannot be asked for its tags"):
            answer = self._client.get_object_tagging(**self._oldest(name))
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def _tag(self, name: str, key: str, value: str) -> bool:
        """Set one tag, or take it off where its value is empty; the others stay."""
        tags = {k: v for k, v in self._tags(name).items() if k != key} | ({key: value} if value else {})
        listed = [{"Key": k, "Value": v} for k, v in tags.items()]
        with asking(name, f"{self._where(name)} cannot be tagged"):
            self._client.put_object_tagging(Tagging={"TagSet": listed}, **self._oldest(name))
        return True

    def _versions(self, prefix: str) -> Iterator[tuple[str, Version]]:
        """Names with their versions, newest first (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html)."""
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=self._key(prefix)
        )
        with asking(prefix, f"{self._where(prefix)} cannot be listed"):
            for page in pages:
                found = [(_order(v), Version(_id(v), v["Size"])) for v in page.get("Versions", ())]
                found += [(_order(m), Version(_id(m), 0, True)) for m in page.get("DeleteMarkers", ())]
                for key, group in itertools.groupby(sorted(found, key=lambda f: f[0][0]), key=lambda f: f[0][0]):
                    for _, version in sorted(group, key=lambda f: f[0], reverse=True):
                        yield key.removeprefix(self._prefix), version

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(name)}"


def connect(region: str, endpoint: str) -> Any:
    """A client that gives up in a minute, so that whoever waits can say so."""
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
        # Digests are compared by whoever reads: a damaged object must be reported, not hidden behind an exception.
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint else {},
    )
    with asking("", "the store cannot be reached"):
        return boto3.client("s3", region_name=region or None, endpoint_url=endpoint or None, config=config)


def _only(version: str) -> dict[str, str]:
    return {"VersionId": version} if version else {}


def _id(listed: Any) -> str:
    return str(listed.get("VersionId") or "")


def _order(listed: Any) -> tuple[str, Any, bool]:
    """By name and time; among those of one second the server's order stays, but the latest is said to be it."""
    return listed["Key"], listed["LastModified"], bool(listed.get("IsLatest"))
