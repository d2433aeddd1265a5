"""The intake app: from what was reported to the trail.

Decodes, asks who wrote it, drops repeats, gives names their canonical form, corrects clocks, ticks.
What cannot be decoded, or was written by somebody who may not, goes to the dead letters with its raw
bytes; nothing is dropped unseen, and nothing of what is refused is remembered. Where a schema registry
is set, both wire formats are read; the trail has single-object encoding alone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import faust
from deploytrail_schemas import headers
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.credential_file import CredentialFile
from deploytrail_schemas.credentials import Credentials
from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.instants import check_range
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.registry import RegistryAway, wire_format
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from faust.exceptions import FaustError

from deploytrail_processors import metrics
from deploytrail_processors.apps.base import (
    Agenda,
    LiveContext,
    make_app,
    prepare,
    raw_topic,
    row_key,
    set_aside,
    tables_are_ready,
)
from deploytrail_processors.apps.elsewhere import tell_regions
from deploytrail_processors.event_stream import events_of
from deploytrail_processors.forwarder import DeliveryFailed, Headers
from deploytrail_processors.rules import aliases, clock, credentials, plausible
from deploytrail_processors.safe_app import SafeApp

NAME = "intake"
# A repeat is known as such for so long after its first sight, by received time.
REMEMBER_IDS = 48 * 3_600_000_000
REMEMBER_CLOCKS = 14 * 86_400_000_000
# For so long after its first event a deployment is known as somebody's.
REMEMBER_OWNERS = 14 * 86_400_000_000
# Of so many clocks what their rows say is kept at hand.
CLOCKS_READ = 10_000


class InvalidRecord(Exception):
    """A record that decodes and still cannot be one."""


class RefusedRecord(Exception):
    """A record whose writer may not write it."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Correction:
    """What is known of a record's time, and whether its id was seen before."""

    outcome: str
    at: int
    uncertainty_ms: int
    clock: clock.ClockState | None = None


class Intake:
    """State: `seen` id → [offset, corrected, uncertainty, received, whose voice]; `clocks` producer → state, last seen.

    `owners`: deployment → [service, environment, received].
    """

    def __init__(self, context: LiveContext, wall_clock: Callable[[], int]) -> None:
        self._context = context
        self._wall_clock = wall_clock
        self._regions = RegionMap.from_settings(context.settings)
        self._wire = wire_format(context.settings)
        path = context.settings.credentials
        self._credentials = CredentialFile(Path(path)) if path else None
        self._seen = context.table("seen")
        self._clocks = context.table("clocks")
        self._owners = context.table("owners")
        self._old_owners = Agenda(self._owners, lambda row: int(row[2]) + REMEMBER_OWNERS)
        self._old_ids = Agenda(self._seen, lambda row: int(row[3]) + REMEMBER_IDS)
        self._old_clocks = Agenda(self._clocks, lambda row: int(row["at"]) + REMEMBER_CLOCKS)
        # What rows of `clocks` say, beside the row itself: one that was written or recovered is another object.
        self._read_clocks: dict[str, tuple[Any, clock.ClockState]] = {}
        self._interval = int(context.settings.tick_seconds * 1_000_000)
        # Ticks are written from a timer too, where no table can be; readers skip a tick that is not newer.
        self._ticked: dict[int, int] = {}
        # Offset and received time of the last record of each partition, for ticks that do not run ahead.
        self._last: dict[int, tuple[int, int]] = {}

    def on_recovered(self) -> None:
        """The tables were read anew."""
        self._old_ids.forget()
        self._old_clocks.forget()
        self._old_owners.forget()

    def on_message(self, message: Any) -> str:
        """Handle one intake message; the word for its outcome."""
        partition: int = message.partition
        backfill = partition == self._regions.backfill_partition
        # Before anything can be refused: a record that is set aside has been read as well, and must not stop the ticks.
        self._last[partition] = (message.offset, _appended_at(message))
        kind, value = decode(self._wire.plain(message.value))
        if kind is RecordType.TICK and backfill:
            self._admit(self._delivery(message), kind, value)
            self._tick(partition, value["at"])
            return "tick"
        if not kind.is_reported:
            raise DecodeError(DeadLetterReason.UNEXPECTED_KIND, f"a {kind.value} cannot be reported")
        said = dict(_text_headers(message.headers))
        received_at = _received_at(message, said)
        if problem := plausible.problem(kind, value):
            raise InvalidRecord(problem)
        delivery = self._delivery(message)
        voice = credentials.voice(delivery, self._known())
        value = self._with_own_id(kind, value, message.partition, voice)
        corrected = self._correct(kind, value, message, said, received_at, voice)
        names = aliases.Names(value["region"], value["environment"], value["service"])
        known = aliases.canonical(names, self._context.policies_at(corrected.at))
        canonical = {"region": known.region, "environment": known.environment, "service": known.service}
        admitted = self._admit(delivery, kind, value | canonical)
        self._last[partition] = (message.offset, received_at)
        _count_polled(said.get(headers.REPORTER, ""), corrected.outcome)
        if backfill:
            self._tick(partition, received_at - received_at % self._interval)
        if corrected.outcome == "repeated":
            return corrected.outcome
        self._remember(kind, value, message, corrected, received_at, voice)
        if not self._regions.knows(known.region):
            metrics.UNKNOWN_REGIONS.inc()
        own = self._own(kind, message.partition, admitted, received_at)
        record = own | {
            "reported_region": names.region if names.region != known.region else "",
            "reported_environment": names.environment if names.environment != known.environment else "",
            "reported_service": names.service if names.service != known.service else "",
            "sent_at": _sent_at(said),
            "received_at": received_at,
            "corrected_at": corrected.at,
            "uncertainty_ms": corrected.uncertainty_ms,
            "reporter": admitted.reporter,
        }
        # An alias may name a region whose reporter did not know its partition.
        target = partition if backfill else self._regions.partition_of(known.region)
        origin: Headers = [(headers.INTAKE, f"{partition}:{message.offset}".encode())]
        forward = partial(self._context.forwarder.forward, headers=origin)
        forward(Topic.EVENTS, target, known.service, kind, record)
        if kind is RecordType.DEPLOYMENT_EVENT:
            tell_regions(forward, self._regions, target, record)
        self._forget(partition, received_at)
        return corrected.outcome

    def _own(
        self, kind: RecordType, partition: int, admitted: credentials.Admission, received_at: int
    ) -> dict[str, Any]:
        """The value, of a deployment event without a hold on other people's deployments."""
        if kind is not RecordType.DEPLOYMENT_EVENT:
            return admitted.value

        def owner_of(deployment_id: str) -> credentials.Owner | None:
            row = self._owners.get(row_key(partition, deployment_id))
            return (row[0], row[1]) if row is not None else None

        value = credentials.within_its_own(admitted.value, admitted.scope, owner_of)
        key = row_key(partition, value["deployment_id"])
        if key not in self._owners:
            self._owners[key] = [value["service"], value["environment"], received_at]
            self._old_owners.put(partition, key, self._owners[key])
        return value

    def tick_live(self, partitions: set[int], is_behind: Callable[[int, int], bool]) -> None:
        """Write the time into each live partition: now, or while behind, when its last record was received."""
        now = self._wall_clock()
        for partition in partitions - {self._regions.backfill_partition}:
            offset, received_at = self._last.get(partition, (-1, 0))
            self._tick(partition, received_at if is_behind(partition, offset) else now)

    def _tick(self, partition: int, at: int) -> None:
        if at > self._ticked.get(partition, 0):
            self._ticked[partition] = at
            value = {"at": at, "region": ""}
            self._context.forwarder.forward(Topic.EVENTS, partition, "", RecordType.TICK, value)

    def _delivery(self, message: Any) -> credentials.Delivery:
        return credentials.Delivery(
            topic=message.topic,
            partition=message.partition,
            key=message.key or b"",
            headers={name: given for name, given in message.headers or () if given is not None},
            value=message.value,
            appended_at=_appended_at(message),
            backfill=message.partition == self._regions.backfill_partition,
        )

    def _known(self) -> Credentials | None:
        return self._credentials.credentials if self._credentials else None

    def _admit(self, delivery: credentials.Delivery, kind: RecordType, value: dict[str, Any]) -> credentials.Admission:
        """The verdict on a record with canonical names; RefusedRecord where its writer may not write it."""
        policies = self._context.policies_at(delivery.appended_at)
        admission = credentials.judge(delivery, kind, value, self._known(), policies)
        if admission.refused is not None:
            metrics.REFUSED.labels(admission.reason or "").inc()
            raise RefusedRecord(admission.refused, admission.detail)
        return admission

    def _with_own_id(self, kind: RecordType, value: dict[str, Any], partition: int, voice: str) -> dict[str, Any]:
        """The value, under another id where another voice took its id first: it is no repeat of that."""
        row = self._seen.get(row_key(partition, value[kind.id_field]))
        if row is None or _voice_of(row) == voice:
            return value
        return value | {kind.id_field: name_based_id("another voice", value[kind.id_field], voice)}

    def _correct(
        self, kind: RecordType, value: dict[str, Any], message: Any, said: dict[str, str], received_at: int, voice: str
    ) -> Correction:
        """Its corrected time; a redelivery gets what it was given at first. Remembers nothing."""
        key = row_key(message.partition, value[kind.id_field])
        row = self._seen.get(key)
        if row is not None:
            return Correction("redelivered" if row[0] == message.offset else "repeated", row[1], row[2])
        stored, state = self._clock_of(_clock_key(message.partition, value["producer_id"], voice))
        sent_at = _sent_at(said)
        learned = None
        monotonic, sent_monotonic = _monotonic(kind, value, said)
        if value["producer_id"]:
            known = state
            if sent_at is None:
                state = clock.overhear(state, occurred_at=value["occurred_at"], received_at=received_at)
            else:
                state = clock.observe(
                    state,
                    sent_at=sent_at,
                    received_at=received_at,
                    echo=_echo(said),
                    told=_told(said),
                    monotonic=sent_monotonic,
                )
            # A table write costs more than all the rest: most records of a known clock teach nothing new.
            if stored is None or state != known or received_at - stored["at"] > REMEMBER_CLOCKS // 14:
                learned = state
        fixed = clock.correct(
            state,
            occurred_at=value["occurred_at"],
            sent_at=sent_at,
            received_at=received_at,
            monotonic=monotonic,
            sent_monotonic=sent_monotonic,
        )
        return Correction("forwarded", fixed.at, fixed.uncertainty_ms, learned)

    def _clock_of(self, key: str) -> tuple[Any, clock.ClockState]:
        """The row of a clock, None without one, and what it says."""
        stored = self._clocks.get(key)
        if stored is None:
            return None, clock.ClockState()
        row, state = self._read_clocks.get(key, (None, None))
        if row is not stored or state is None:
            state = clock.ClockState.from_json(stored["clock"])
            if len(self._read_clocks) >= CLOCKS_READ:
                self._read_clocks.clear()
            self._read_clocks[key] = (stored, state)
        return stored, state

    def _remember(
        self,
        kind: RecordType,
        value: dict[str, Any],
        message: Any,
        corrected: Correction,
        received_at: int,
        voice: str,
    ) -> None:
        if corrected.outcome != "forwarded":
            return
        if corrected.clock is not None:
            clock_key = _clock_key(message.partition, value["producer_id"], voice)
            self._clocks[clock_key] = {"clock": corrected.clock.to_json(), "at": received_at}
            self._old_clocks.put(message.partition, clock_key, self._clocks[clock_key])
        key = row_key(message.partition, value[kind.id_field])
        own = [voice] if voice else []
        self._seen[key] = [message.offset, corrected.at, corrected.uncertainty_ms, received_at, *own]
        self._old_ids.put(message.partition, key, self._seen[key])

    def _forget(self, partition: int, now: int) -> None:
        for key, _ in list(self._old_ids.pop(partition, now)):
            self._seen.pop(key, None)
        for key, _ in list(self._old_clocks.pop(partition, now)):
            self._clocks.pop(key, None)
        for key, _ in list(self._old_owners.pop(partition, now)):
            self._owners.pop(key, None)


def _voice_of(seen: list[Any]) -> str:
    return seen[4] if len(seen) > 4 else ""


def _clock_key(partition: int, producer_id: str, voice: str) -> str:
    return row_key(partition, f"{producer_id}~{voice}" if voice else producer_id)


def _count_polled(reporter: str, outcome: str) -> None:
    """A redelivery was counted before."""
    if reporter.startswith(headers.POLLED_BY) and outcome != "redelivered":
        source = reporter.removeprefix(headers.POLLED_BY)
        metrics.POLLED.labels(source, "missed" if outcome == "forwarded" else "known").inc()


def _text_headers(given: Any) -> list[tuple[str, str]]:
    return [(key, value.decode("ascii", "replace")) for key, value in given or () if value is not None]


def _received_at(message: Any, said: dict[str, str]) -> int:
    """When it was received: the gateway's or backfill's word, else the broker's append time."""
    if headers.REPORTER in said and headers.RECEIVED_AT in said:
        return _instant(headers.RECEIVED_AT, said[headers.RECEIVED_AT])
    return _appended_at(message)


def _appended_at(message: Any) -> int:
    """The broker's own time, which no writer can choose."""
    return int(message.timestamp * 1000) * 1000


def _sent_at(said: dict[str, str]) -> int | None:
    return _instant(headers.SENT_AT, said[headers.SENT_AT]) if headers.SENT_AT in said else None


def _echo(said: dict[str, str]) -> clock.Echo | None:
    parts = said.get(headers.ECHO, "").split(",")
    if len(parts) != 3:
        return None
    return clock.Echo(*(_instant(headers.ECHO, part) for part in parts))


def _told(said: dict[str, str]) -> clock.Told | None:
    text = said.get(headers.CLOCK)
    if text is None:
        return None
    try:
        offset, uncertainty = map(int, text.split(","))
    except ValueError:
        return None
    return clock.Told(offset, uncertainty) if uncertainty >= 0 else None


def _monotonic(kind: RecordType, value: dict[str, Any], said: dict[str, str]) -> tuple[int | None, int | None]:
    """The sender's monotonic clock at the event and at the sending, µs; both are of one boot."""
    text = said.get(headers.SENT_MONOTONIC, "")
    if not text.isdecimal() or len(text) > 18:
        return None, None
    at = value["monotonic_ns"] if kind is RecordType.DEPLOYMENT_EVENT else None
    return at // 1000 if at is not None else None, int(text) // 1000


def _instant(name: str, text: str) -> int:
    try:
        return check_range(int(text))
    except ValueError:
        raise InvalidRecord(f"the header {name} is {text!r}; expected microseconds since the epoch") from None


def make(settings: Settings) -> SafeApp:
    """The intake app."""
    app = make_app(NAME, settings, Topic.INTAKE)
    context = app.context
    intake = Intake(context, lambda: time.time_ns() // 1000)
    prepare(app)
    reported = raw_topic(app, Topic.INTAKE)

    async def recovered() -> None:
        intake.on_recovered()

    for table in list(app.tables.values()):
        table.on_recover(recovered)

    @app.agent(reported, name=NAME)
    async def over(stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        async for event in events_of(stream):
            try:
                with context.at(event.message.partition, event.message.offset):
                    _handle(context, intake, event.message)
            except (DeliveryFailed, FaustError, RegistryAway) as error:
                context.forwarder.give_up(str(error))
                await app.crash(error)
                raise
        yield

    @app.timer(settings.tick_seconds)  # type: ignore[untyped-decorator]
    async def tick() -> None:
        if app.rebalancing or not tables_are_ready(app):
            return
        consumer = app.consumer
        mine = {tp.partition: tp for tp in consumer.assignment() if tp.topic == Topic.INTAKE.value}

        def is_behind(partition: int, offset: int) -> bool:
            highwater = consumer.highwater(mine[partition])
            return offset >= 0 and highwater is not None and offset + 1 < highwater

        intake.tick_live(set(mine), is_behind)

    return app


_records = cache(metrics.INTAKE_RECORDS.labels)  # one by outcome; the client looks for it under a lock each time


def _handle(context: LiveContext, intake: Intake, message: Any) -> None:
    try:
        outcome = intake.on_message(message)
    except DecodeError as error:
        outcome = "dead_letter"
        set_aside(NAME, context.forwarder, message, error.reason, error.detail)
    except InvalidRecord as error:
        outcome = "dead_letter"
        set_aside(NAME, context.forwarder, message, DeadLetterReason.INVALID_VALUE, str(error))
    except RefusedRecord as error:
        outcome = "dead_letter"
        set_aside(NAME, context.forwarder, message, error.reason, error.detail)
    except (DeliveryFailed, FaustError, RegistryAway):
        raise  # no fault of this record: stop, commit nothing, start again
    except Exception as error:  # a defect here must not skip the record unseen, nor stop the stream
        outcome = "dead_letter"
        set_aside(NAME, context.forwarder, message, DeadLetterReason.RULE_FAILED, f"{NAME}: {error!r}")
    _records(outcome).inc()
