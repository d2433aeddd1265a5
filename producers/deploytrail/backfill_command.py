"""`deploytrail backfill FILE`: loads history from JSON lines, as if it had been received then.

In: lines `{"kind": "deployment|signal|approval|observation", "sent_at": …, "received_at": …,
"echo": [sent, received, acknowledged], "value": {…}}`; instants are RFC 3339 text or integer
microseconds; sent_at and echo may be missing. Out: the records on the intake topic, in the
partition of backfilled history, in order of their receipt, and a closing tick.

Every line is checked before the first is sent: a file with a wrong line loads nothing. Loading the
same file again changes no answer, since records are known by their ids; a value without an id gets
one that follows from its content.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from deploytrail_schemas import headers
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.instants import check_range, parse_instant
from deploytrail_schemas.json_values import JsonError, parse_json, validate
from deploytrail_schemas.kafka import why_undelivered
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.record_signatures import Signer
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_text, redact_value
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

if TYPE_CHECKING:
    from confluent_kafka import Producer

EXIT_INVALID = 65  # EX_DATAERR of sysexits.h
EXIT_NO_INPUT = 66  # EX_NOINPUT
KINDS = {
    "deployment": RecordType.DEPLOYMENT_EVENT,
    "signal": RecordType.SIGNAL,
    "approval": RecordType.APPROVAL,
    "observation": RecordType.OBSERVATION,
}
_FIELDS = {"kind", "sent_at", "received_at", "echo", "value"}
_MOST_PROBLEMS = 50
_DELIVERY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One sound line."""

    kind: RecordType
    value: dict[str, Any]
    sent_at: int | None
    received_at: int
    echo: tuple[int, int, int] | None


class InvalidLine(Exception):
    """All that is wrong with one line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def main(argv: list[str]) -> int:
    """0: all is acknowledged; 65: a line is wrong, none was loaded; 66: no file; 69: no Kafka; 78: a wrong setting."""
    made = argparse.ArgumentParser(
        prog="deploytrail backfill",
        description="Load history from JSON lines, as if it had been received then. All lines are checked first.",
    )
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument("--check", action="store_true", help="only check the lines")
    made.add_argument(
        "--until",
        metavar="TIME",
        help="the history's end, for what is overdue or lost by then (default: the newest received_at)",
    )
    options = made.parse_args(argv)
    try:
        until = parse_instant(options.until) if options.until else None
    except ValueError as error:
        made.error(f"--until: {error}")
    try:
        with options.file.open("rb") as file:
            return _load(file, options.file, until, only_check=options.check)
    except OSError as error:
        return _say(EXIT_NO_INPUT, f"{options.file} cannot be read: {error.strerror or error}")
    except DeploytrailError as error:
        return _say(exit_code_of(error), str(error))


def _load(file: BinaryIO, path: Path, until: int | None, *, only_check: bool) -> int:
    order, problems = _check(file, path)
    if until is not None and order and until < order[-1][0]:
        problems.append("--until lies before the newest received_at")
    if problems:
        for problem in problems[:_MOST_PROBLEMS]:
            sys.stderr.write(f"{redact_text(problem)}\n")
        return _say(EXIT_INVALID, f"{counted(len(problems), 'problem')}; nothing was loaded")
    if only_check:
        return _say(0, f"{counted(len(order), 'line')}, no problem")
    settings = Settings.load()
    entries = (_entry_at(file, offset) for _, offset in order)
    sent = _send(settings, entries, until or (order[-1][0] if order else None))
    return _say(0, f"{counted(sent, 'record is', 'records are')} on the intake topic")


def _check(file: BinaryIO, path: Path) -> tuple[list[tuple[int, int]], list[str]]:
    """(received_at, where it begins) of every line in order of receipt, and every problem."""
    order: list[tuple[int, int]] = []
    problems: list[str] = []
    offset = 0
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                order.append((read_line(line).received_at, offset))
            except InvalidLine as error:
                problems.extend(f"{path}:{number}: {problem}" for problem in error.problems)
        offset += len(line)
    return sorted(order), problems


def _entry_at(file: BinaryIO, offset: int) -> Entry:
    file.seek(offset)
    return read_line(file.readline())


def read_line(line: bytes) -> Entry:
    """The record of one line; InvalidLine with all that is wrong."""
    try:
        parsed = parse_json(line)
    except JsonError as error:
        raise InvalidLine([error.detail]) from None
    if not isinstance(parsed, dict):
        raise InvalidLine(["a line is an object with kind, received_at and value"])
    problems = [f"/{name}: is no field of a line" for name in parsed.keys() - _FIELDS]
    received_at = _instant(parsed.get("received_at"), "/received_at", problems)
    sent_at = _instant(parsed["sent_at"], "/sent_at", problems) if parsed.get("sent_at") is not None else None
    echo = _echo(parsed["echo"], problems) if parsed.get("echo") is not None else None
    kind = KINDS.get(str(parsed.get("kind")))
    value: dict[str, Any] = {}
    if kind is None:
        problems.append(f"/kind: is {parsed.get('kind')!r}; expected one of {', '.join(KINDS)}")
    else:
        given = parsed.get("value")
        if isinstance(given, dict) and given.get(kind.id_field) is None:
            given = given | {kind.id_field: name_based_id("backfill", line.decode().strip())}
        value, violations = validate(kind, given)
        problems += [f"/value{v.pointer}: {v.detail}" for v in violations]
    if problems or kind is None:
        raise InvalidLine(problems)
    return Entry(kind, redact_value(value), sent_at, received_at, echo)


def _instant(given: object, pointer: str, problems: list[str]) -> int:
    try:
        if isinstance(given, str):
            return parse_instant(given)
        if isinstance(given, int) and not isinstance(given, bool):
            return check_range(given)
        problems.append(f"{pointer}: expected RFC 3339 text such as 2026-11-02T09:30:00Z")
    except ValueError as error:
        problems.append(f"{pointer}: {error}")
    return 0


def _echo(given: object, problems: list[str]) -> tuple[int, int, int] | None:
    if not isinstance(given, list) or len(given) != 3:
        problems.append("/echo: expected [sent, received, acknowledged]")
        return None
    sent, received, acknowledged = (_instant(item, f"/echo/{i}", problems) for i, item in enumerate(given))
    return sent, received, acknowledged


def _send(settings: Settings, entries: Iterator[Entry], closing: int | None) -> int:
    """Produce in order and wait until all is acknowledged; RetryLater where it is not."""
    from confluent_kafka import Producer
    from deploytrail_schemas.codec import encode
    from deploytrail_schemas.kafka import producer_config
    from deploytrail_schemas.pseudonyms import NameMap, pseudonymised
    from deploytrail_schemas.registry import wire_format

    partition = RegionMap.from_settings(settings).backfill_partition
    # Idempotent: order is what the ticks follow from.
    signer = Signer(settings.relay_token, "DEPLOYTRAIL_RELAY_TOKEN") if settings.relay_token else None
    producer = Producer(producer_config(settings) | {"log_level": 0, "linger.ms": 20})
    delivery = _Delivery(settings, producer, partition, signer)
    wire, topic = wire_format(settings), Topic.INTAKE.value
    sent = 0
    names = NameMap(Path(settings.pseudonyms)) if settings.pseudonyms else None
    for entry in entries:
        value = entry.value if names is None else pseudonymised(entry.kind, entry.value, names)
        said = [
            (headers.RECEIVED_AT, str(entry.received_at)),
            (headers.REPORTER, "backfill"),
            *([(headers.SENT_AT, str(entry.sent_at))] if entry.sent_at is not None else []),
            *([(headers.ECHO, ",".join(map(str, entry.echo)))] if entry.echo is not None else []),
        ]
        delivery.produce(
            wire.framed(encode(entry.kind, value), topic),
            str(value.get("producer_id", "")),
            [(name, text.encode()) for name, text in said],
        )
        sent += 1
    delivery.finish()
    if closing is not None:  # time has come on only once all that happened before it is there
        tick = wire.framed(encode(RecordType.TICK, {"at": closing, "region": ""}), topic)
        delivery.produce(tick, "", [(headers.REPORTER, b"backfill")])
        delivery.finish()
    return sent


class _Delivery:
    """Counts what was not acknowledged, and stops there: RetryLater from either method."""

    def __init__(self, settings: Settings, producer: Producer, partition: int, signer: Signer | None = None) -> None:
        self._settings, self._producer, self._partition, self._signer = settings, producer, partition, signer
        self._errors: list[str] = []

    def produce(self, value: bytes, key: str, said: list[tuple[str, bytes]]) -> None:
        """Queue one message; waits while the queue is full."""
        if self._signer is not None:
            said = [*said, self._signer.header(Topic.INTAKE.value, self._partition, key.encode(), said, value)]
        while True:
            try:
                self._producer.produce(
                    Topic.INTAKE.value,
                    value,
                    key.encode(),
                    partition=self._partition,
                    headers=[*said],
                    on_delivery=self._on_delivery,
                )
            except BufferError:
                self._producer.poll(0.5)
                continue
            self._producer.poll(0)
            self._raise_lost(0)
            return

    def finish(self) -> None:
        """Wait for every acknowledgement."""
        self._raise_lost(self._producer.flush(_DELIVERY_SECONDS))

    def _raise_lost(self, left: int) -> None:
        if left or self._errors:
            why = self._errors[0] if self._errors else "no answer"
            records = counted(left + len(self._errors), "record was", "records were")
            raise RetryLater(
                f"{records} not acknowledged by Kafka at {self._settings.kafka} ({why}); "
                "run the same again: what has arrived already is known by its id"
                f"{if_not_set('kafka', self._settings.kafka)}"
            )

    def _on_delivery(self, error: object, message: object) -> None:
        if why := why_undelivered(error, message):
            self._errors.append(why)


def _say(code: int, text: str) -> int:
    sys.stderr.write(f"deploytrail backfill: {redact_text(text)}\n")
    return code
