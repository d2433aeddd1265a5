"""Records of our own making on their way to Kafka: encoded, placed in their region's partition, signed, published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deploytrail_schemas import headers as names
from deploytrail_schemas.codec import encode
from deploytrail_schemas.pseudonyms import NameMap, pseudonymised
from deploytrail_schemas.record_signatures import Signer
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_value
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.registry import wire_format
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail.gateway.publisher import Outgoing, Publisher


class Relay:
    """What the gateway and the pollers share."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._publisher = publisher
        self._regions = RegionMap.from_settings(settings)
        self._wire = wire_format(settings)
        self._names = NameMap(Path(settings.pseudonyms)) if settings.pseudonyms else None
        self._signer = Signer(settings.relay_token, "DEPLOYTRAIL_RELAY_TOKEN") if settings.relay_token else None

    def cleaned(self, kind: RecordType, value: dict[str, Any]) -> dict[str, Any]:
        """The value without secrets and, where DEPLOYTRAIL_PSEUDONYMS is set, without people's names.

        RetryLater where the table of names cannot be used.
        """
        value = redact_value(value)
        return value if self._names is None else pseudonymised(kind, value, self._names)

    def cleaned_text(self, text: str) -> str:
        """A text that stands beside records, such as who reported them, without names of several words. RetryLater."""
        return text if self._names is None else self._names.known().replaced(text, of_several_words=True)

    def cleaned_bytes(self, data: bytes) -> bytes:
        """Bytes that are no record, with pseudonyms for the names in them. RetryLater."""
        if self._names is None:
            return data
        return self._names.known().replaced(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    async def prepare(self, kinds: Iterable[RecordType]) -> None:
        """Learn what `outgoing` needs of the schema registry, if there is one; RetryLater where it does not answer."""
        for kind in set(kinds):
            if not self._wire.is_prepared(kind, Topic.INTAKE.value):
                await asyncio.to_thread(self._wire.prepare, kind, Topic.INTAKE.value)

    def outgoing(self, value: dict[str, Any], data: bytes, said: tuple[tuple[str, bytes], ...]) -> Outgoing:
        """One encoded record of a prepared kind with its headers, and our signature where we have a token."""
        data = self._wire.framed(data, Topic.INTAKE.value)
        partition, key = self._regions.partition_of(value["region"]), value.get("producer_id", "").encode()
        if self._signer is not None:
            said = (*said, self._signer.header(Topic.INTAKE.value, partition, key, said, data))
        return Outgoing(partition, key, data, said)

    async def publish(self, reporter: str, records: Sequence[tuple[RecordType, dict[str, Any]]]) -> None:
        """Return once all records are durable, received now and reported by `reporter`; RetryLater where one is not."""
        said = (
            (names.RECEIVED_AT, str(time.time_ns() // 1000).encode()),
            (names.REPORTER, self.cleaned_text(reporter).encode()),
        )
        await self.prepare(kind for kind, _ in records)
        redacted = [(kind, self.cleaned(kind, value)) for kind, value in records]
        await self._publisher.publish([self.outgoing(value, encode(kind, value), said) for kind, value in redacted])
