"""The gate: may this be deployed now? State of the trail's approvals, and who may answer from it.

A worker answers for a region only while it owns the region's partition, its tables are read back, and it has read
the partition up to the end that it had when the question came. The issue of a permit is on the trail before the
permit is handed out: no permit is in the world that the trail does not know.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from faust.types import TP

from deploytrail_processors import metrics, zones
from deploytrail_processors.apps.approvals import Approvals
from deploytrail_processors.apps.base import Agenda, LiveContext, over_trail, row_key, tables_are_ready
from deploytrail_processors.forwarder import DeliveryFailed, Linger
from deploytrail_processors.gate_keys import GateKeys
from deploytrail_processors.rules import approval, permit, refusals
from deploytrail_processors.rules.approval_steps import Asked, Moment
from deploytrail_processors.safe_app import SafeApp

NAME = "gate"
CATCH_UP_SECONDS = 2.0
DELIVERY_SECONDS = 5.0
# Whoever asked for a permit waits until its issue is delivered, and rows written before it are.
PERMIT_LINGER = Linger(outputs=2, rows=25)
# So many refusals a caller may leave on the trail in a minute: more than any pipeline asks, and no flood.
MOST_REFUSALS_A_MINUTE = 600
_MINUTE = 60_000_000
# A partition whose time stands has an intake that is away: what it would bring, such as a revocation, is not known.
OLDEST_SECONDS = 15.0


class Gate:
    """What a worker knows of its partitions, and may say."""

    def __init__(self, context: LiveContext) -> None:
        settings = context.settings
        unset = [name for name in ("gate_keys", "permit_issuer", "permit_audience") if not getattr(settings, name)]
        if unset:
            names = ", ".join(f"DEPLOYTRAIL_{name.upper()}" for name in unset)
            raise ConfigurationError(f"in whose name are permits issued, and with which key? Set {names}")
        self._context = context
        self.address = address(settings)
        self.keys = GateKeys(Path(settings.gate_keys))
        self._issuer = permit.Issuer(settings.permit_issuer, settings.permit_audience, settings.permit_seconds)
        self.regions = RegionMap.from_settings(settings)
        self._known = Approvals(context)
        # By deployment, what was last told of its refusals: see `rules/refusals.py`.
        self._refusals = context.table("refusals")
        self._old_refusals = Agenda(self._refusals, lambda row: int(row["at"]) + refusals.HOUR)
        self._minute, self._told = 0, Counter[str]()  # how many refusals of each caller were told in this minute
        self._newest: dict[int, int] = {}  # latest time that each partition has told
        self._oldest = max(OLDEST_SECONDS, 3 * settings.tick_seconds)
        self._admin = AdminClient(client_config(settings) | {"log_level": 0})

    # What the trail tells

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        # What the gate wrote itself, or the intake app of another partition, says nothing of this one's being there.
        if value.get("reporter") != permit.SOURCE and kind is not RecordType.GLOBAL_CHANGE:
            self._newest[partition] = max(self._newest.get(partition, 0), value["received_at"] or 0)
        if kind is RecordType.APPROVAL and value["approval_type"] != refusals.TYPE:
            self._known.add(partition, value)
        elif kind is RecordType.APPROVAL and value["reporter"] == permit.SOURCE:
            key = row_key(partition, value["deployment_id"])
            self._refusals[key] = refusals.with_told(self._refusals.get(key), value)
            self._old_refusals.put(partition, key, self._refusals[key])

    def on_tick(self, partition: int, now: int) -> None:
        self._newest[partition] = max(self._newest.get(partition, 0), now)
        self._known.forget_old(partition, now)
        for key, _ in list(self._old_refusals.pop(partition, now)):
            self._refusals.pop(key, None)

    def on_recovered(self) -> None:
        self._known.on_recovered()
        self._old_refusals.forget()
        # Until something of a partition is read anew, nobody knows how far that is.
        self._context.read.clear()
        self._newest.clear()

    # What is asked

    def owns(self, partition: int) -> bool:
        """Whether this worker has a partition and its state."""
        app = self._context.app
        if app.rebalancing or not tables_are_ready(app):
            return False
        return TP(Topic.EVENTS.value, partition) in app.consumer.assignment()

    def owner(self, partition: int) -> str:
        """The URL of the worker that has a partition; empty where nobody is known to."""
        changelog = self._known.changelog
        for url, topics in self._context.app.router.tables_metadata().items():
            if partition in topics.get(changelog, ()):
                return str(url).rstrip("/")
        return ""

    async def catch_up(self, partition: int) -> None:
        """Return once the partition is read up to where it ends now. RetryLater where that takes too long."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        asked = TopicPartition(Topic.EVENTS.value, partition)
        latest: dict[TopicPartition, OffsetSpec] = {asked: OffsetSpec.latest()}  # type: ignore[no-untyped-call]
        [ends] = self._admin.list_offsets(latest, request_timeout=CATCH_UP_SECONDS).values()
        try:
            end = (await asyncio.wait_for(asyncio.wrap_future(ends), CATCH_UP_SECONDS)).offset
        except Exception as error:  # KafkaException, TimeoutError: each means that nobody can tell
            raise RetryLater(f"Kafka does not say where the trail ends: {error or type(error).__name__}") from error
        while self._context.read.get(partition, -1) + 1 < end:
            if time.monotonic() > deadline:
                raise RetryLater("the trail is not read to its end yet")
            await asyncio.sleep(0.001)
        if not self.owns(partition):
            raise RetryLater("the region's partition has just been given away")

    def judge(self, partition: int, asked: Asked, now: int) -> approval.Judgement:
        """The verdict of what is known. RetryLater where the partition's time stands still."""
        newest = self._newest.get(partition, 0)
        if now - newest > self._oldest * 1e6:
            raise RetryLater("the trail's time stands still: is the intake app running?")
        steps = self._known.of(partition, asked.deployment_id)
        registered = [step for step in steps if step["approval_type"] == "registered"]
        policies_at = self._context.policies_at
        tags = max(registered, key=lambda s: (s["corrected_at"], s["approval_id"]), default={}).get("tags", {})
        service = policies_at(now).service(asked.service)
        known = Asked(
            deployment_id=asked.deployment_id,
            service=asked.service,
            environment=asked.environment,
            region=asked.region,
            artifact_digest=asked.artifact_digest,
            # What was registered stands above what is said now, and team and tier are the policy's alone: nobody
            # asks a milder policy than the one that the approvers had before them.
            kind=tags.get("kind", "") or asked.kind,
            team=service.team,
            tier=service.tier,
            deployer=asked.deployer,
        )
        return approval.judge(known, steps, policies_at, Moment(max(now, newest), is_now=True))

    async def issue(self, partition: int, asked: Asked, judgement: approval.Judgement, caller: str, now: int) -> str:
        """A signed permit, once its issue is on the trail. RetryLater where it cannot be written."""
        claims = permit.claims_of(asked, judgement, self._issuer, now)
        text, kid = self.keys.sign(claims)
        record = permit.issued(claims, judgement, kid=kid, caller=caller, tzdata=zones.VERSION, now=now)
        await self._write(partition, record, "the issue of the permit")
        return text

    async def refuse(self, partition: int, asked: Asked, judgement: approval.Judgement, caller: str, now: int) -> None:
        """Write a refusal to the trail, where it says something new. RetryLater where it cannot be written."""
        record = refusals.record_of(asked, judgement, caller=caller, tzdata=zones.VERSION, now=now)
        new = refusals.to_tell(record, self._refusals.get(row_key(partition, record["deployment_id"])))
        if self._minute != now // _MINUTE:
            self._minute, self._told = now // _MINUTE, Counter()
        if new is None or self._told[caller] >= MOST_REFUSALS_A_MINUTE:
            metrics.GATE_REFUSALS.labels("repeated" if new is None else "too_many").inc()
            return
        self._told[caller] += 1
        await self._write(partition, new, "the refusal")
        metrics.GATE_REFUSALS.labels("told").inc()

    async def _write(self, partition: int, record: dict[str, Any], what: str) -> None:
        """Write an Approval to the trail's partition itself, and return once it is there."""
        try:
            self._context.forward(Topic.EVENTS, partition, record["service"], RecordType.APPROVAL, record)
            await asyncio.wait_for(self._context.forwarder.barrier(), DELIVERY_SECONDS)
        except (DeliveryFailed, TimeoutError) as error:
            raise RetryLater(f"{what} could not be written to the trail") from error

    def policies_at(self, when: int) -> Any:
        """The policies in force at an instant."""
        return self._context.policies_at(when)


def address(settings: Settings) -> str:
    """The URL by which other workers reach this one."""
    return (settings.gate_advertised or f"http://{settings.gate_host}:{settings.gate_port}").rstrip("/")


def make(settings: Settings) -> SafeApp:
    """The gate app, with its web server."""
    from deploytrail_processors.gate_web import GateWeb

    made: list[Gate] = []

    def make_gate(context: LiveContext) -> Gate:
        made.append(Gate(context))
        return made[0]

    app = over_trail(NAME, settings, make_gate, linger=PERMIT_LINGER, canonical_url=address(settings))
    web = GateWeb(made[0], settings)
    read_policies = app.before_start

    async def start() -> None:
        if read_policies is not None:
            await read_policies()
        await web.start()

    app.before_start = start
    return app
