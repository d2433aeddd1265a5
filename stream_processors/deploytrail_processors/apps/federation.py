"""One record of each deployment, whatever independent clusters tell of it.

Reads the records of every cluster (`DEPLOYTRAIL_FEDERATED_CLUSTERS`), as a mirror brings them, and sends each as a
claim to the partition of its deployment, where all claims about it meet; there they are merged. Redelivered, repeated,
late and disordered records make no difference to what is merged in the end.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, Protocol

import faust
from confluent_kafka.admin import AdminClient
from deploytrail_schemas import headers
from deploytrail_schemas.clusters import federated_topics
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import TOPICS, Topic, create_topics
from faust.exceptions import FaustError

from deploytrail_processors import metrics
from deploytrail_processors.apps.base import Agenda, Row, make_app, row_key, set_aside
from deploytrail_processors.event_stream import events_of
from deploytrail_processors.forwarder import DeliveryFailed
from deploytrail_processors.rules import federation
from deploytrail_processors.rules.federated_content import Claim, Content
from deploytrail_processors.safe_app import SafeApp

log = logging.getLogger(__name__)
NAME = "federation"
_DAY = 86_400_000_000


class Out(Protocol):
    """Where claims and federated records go."""

    def claim(self, partition: int, deployment_id: str, claim: Claim) -> None:
        """Send a claim to whoever merges an id."""

    def federated(self, partition: int, content: Content) -> None:
        """Write a federated record."""


class Federation:
    """Row of `deployments`: what is `known` of an id, the offset of the claim `by` which it last grew, when one was
    last `heard` (append time of the central cluster, µs)."""

    def __init__(self, rows: MutableMapping[str, Any], settings: Settings, out: Out) -> None:
        self._rows, self._out, self._partitions = rows, out, settings.partitions
        keep = settings.remember_days * _DAY
        self._expiry = Agenda(rows, lambda row: int(row["heard"]) + keep)

    def on_record(self, claim: Claim) -> None:
        """A cluster's record came: to where its deployment is merged."""
        self._send(claim["record"]["deployment_id"], claim)

    def on_claim(self, partition: int, offset: int, deployment_id: str, claim: Claim, at: int) -> None:
        """A claim about an id, at its offset of the claims topic, appended `at`."""
        key = row_key(partition, deployment_id)
        row: Row = self._rows.get(key) or {"known": federation.new_known(deployment_id), "by": -1, "heard": at}
        known = federation.take(row["known"], claim)
        grown, met = known is not row["known"], known["names"] != row["known"]["names"]
        row = {"known": known, "by": offset if grown else row["by"], "heard": max(at, row["heard"])}
        self._rows[key] = row
        self._expiry.put(partition, key, row)
        # A claim that is delivered again after a crash has grown the row already, and what followed may be lost. One
        # that says nothing new is not passed on: ids that name each other would never fall silent.
        if grown or row["by"] == offset:
            news = [claim] if grown and not met else known["claims"].values()
            for other in federation.told_to(known):
                for each in news:
                    self._send(other, each)
            self._out.federated(partition, federation.federated(known))
        for old, _ in list(self._expiry.pop(partition, at)):
            self._rows.pop(old, None)

    def on_recovered(self) -> None:
        """The table was read anew."""
        self._expiry.forget()

    def _send(self, deployment_id: str, claim: Claim) -> None:
        self._out.claim(federation.partition_of(deployment_id, self._partitions), deployment_id, claim)


class _KafkaOut:
    def __init__(self, forwarder: Any) -> None:
        self._forwarder = forwarder

    def claim(self, partition: int, deployment_id: str, claim: Claim) -> None:
        said = [(headers.CLAIM, f"{claim['cluster']}:{claim['partition']}")]
        self._forwarder.forward(Topic.CLAIMS, partition, deployment_id, RecordType.RECORD, claim["record"], said)

    def federated(self, partition: int, content: Content) -> None:
        self._forwarder.document(Topic.FEDERATED, partition, content["deployment_id"], document(content))


def document(content: Content) -> dict[str, Any]:
    """A federated record as JSON: instants are RFC 3339 texts."""
    return {
        name: format_instant(value) if name.endswith("_at") and value is not None else value
        for name, value in content.items()
    }


def make(settings: Settings) -> SafeApp:
    """The federation app. ConfigurationError where the clusters are not named."""
    clusters = federated_topics(settings)
    app = make_app(NAME, settings, Topic.CLAIMS)
    context = app.context
    handler = Federation(context.table("deployments"), settings, _KafkaOut(context.forwarder))

    async def before() -> None:
        def make_missing() -> None:
            # A mirror that has not run yet would make them; a cluster that is away must not hold the others up.
            wanted = dict.fromkeys(clusters, TOPICS[Topic.RECORDS])
            if made := create_topics(AdminClient(client_config(settings) | {"log_level": 0}), settings, wanted):
                log.warning("%s: made here, empty; no mirror has brought them yet", ", ".join(sorted(made)))

        await app.loop.run_in_executor(None, make_missing)

    async def recovered() -> None:
        handler.on_recovered()

    app.before_start = before
    for table in list(app.tables.values()):
        table.on_recover(recovered)
    read = app.topic(
        *(Topic.CLAIMS.value, *clusters),
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )

    @app.agent(read, name=NAME)
    async def over(stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        async for event in events_of(stream):
            message = event.message
            try:
                handle(handler, clusters, message)
                metrics.PROCESSED.labels(NAME).inc()
            except DecodeError as error:
                set_aside(NAME, context.forwarder, message, error.reason, error.detail)
            except (DeliveryFailed, FaustError) as error:
                context.forwarder.give_up(str(error))
                await app.crash(error)
                raise
            except Exception as error:  # a defect must not skip the record unseen, nor stop the stream
                log.exception("%s failed on %s:%s:%s", NAME, message.topic, message.partition, message.offset)
                set_aside(NAME, context.forwarder, message, DeadLetterReason.RULE_FAILED, f"{NAME}: {error!r}")
        yield

    return app


def handle(handler: Federation, clusters: dict[str, str], message: Any) -> None:
    """Tell the handler of a message, of a cluster's topic or of the claims. DecodeError where it is neither."""
    kind, record = decode(message.value)
    if kind is not RecordType.RECORD or not record["deployment_id"]:
        raise DecodeError(DeadLetterReason.INVALID_VALUE, f"expected the Record of a deployment, not a {kind.value}")
    if message.topic in clusters:
        handler.on_record(federation.claim_of(clusters[message.topic], message.partition, record))
        return
    said = dict(message.headers or ()).get(headers.CLAIM) or b""
    cluster, _, partition = said.decode("ascii", "replace").rpartition(":")
    if not cluster or not partition.isdecimal() or not message.key:
        raise DecodeError(DeadLetterReason.INVALID_VALUE, f"the header {headers.CLAIM} is {said!r}; "
                          "expected cluster:partition, and a deployment as key")  # fmt: skip
    claim = federation.claim_of(cluster, int(partition), record)
    handler.on_claim(message.partition, message.offset, message.key.decode(), claim, int(message.timestamp * 1e6))
