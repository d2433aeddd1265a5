"""`deploytrail log`: records as JSON lines, from a spool, an archived segment or Kafka.

Each line on standard output conforms to the canonical JSON Schema of its kind (schemas,
`json/*.canonical.schema.json`); `record_type` tells the kinds apart. Secrets are taken out, also of
records whose producer did not. What cannot be decoded is named on standard error.

With `--format cdevents` each line is a CDEvent in a structured CloudEvent instead, for consumers that
speak that (`cdevents_out`); how many records no CDEvent tells is said at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploytrail_schemas.arguments import Parser
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.errors import DeploytrailError, MissingDependencyError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.json_lines import json_line
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_text, redact_value
from deploytrail_schemas.registry import wire_format
from deploytrail_schemas.settings import Settings, variable
from deploytrail_schemas.topics import Topic

from deploytrail import _settings
from deploytrail._report import USAGE_ERROR
from deploytrail._spool import EVENT, SUFFIX, Damage, frames

EXIT_FLAWED = 1
EXIT_NO_INPUT = 66  # EX_NOINPUT of sysexits.h
AVRO_FILE = b"Obj\x01"
PREFIX = "deploytrail."
TOPICS = {
    topic.value.removeprefix(PREFIX): topic
    for topic in Topic
    if topic not in (Topic.POLICIES, Topic.ONCALL_STATE, Topic.DELIVERIES, Topic.FEDERATED)
}
FORMATS = {"records": "", "cdevents": "0.5.1", "cdevents-0.4.1": "0.4.1"}  # each with its version of CDEvents
# Left out where no kind is asked for: a clock, and events that stand on the trail themselves, told to more regions.
NO_NEWS = frozenset({RecordType.TICK, RecordType.GLOBAL_CHANGE})
Message = tuple[str, bytes | None]  # where it stands, its bytes


class NoInput(DeploytrailError):
    """A file that holds no records: give another."""


def main(argv: list[str]) -> int:
    """0; 1: something could not be decoded; 64: wrong words; 66: no such file; 69: no Kafka; 78: a wrong setting."""
    made = Parser(prog="deploytrail log", description="Print records as JSON lines.")
    made.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a spool folder or an archived segment")
    made.add_argument("--kafka", action="store_true", help="read Kafka (DEPLOYTRAIL_KAFKA) instead of a file")
    made.add_argument("--topic", choices=TOPICS, help="what to read of Kafka (default: events, the trail)")
    made.add_argument("--follow", action="store_true", help="print what comes from now on, until Ctrl-C (Kafka)")
    made.add_argument("--type", action="append", choices=[kind.value for kind in RecordType], help="only this kind")
    made.add_argument("--format", choices=FORMATS, default="records", help="what each line is (default: records)")
    try:
        options = made.parse_args(argv)
    except SystemExit as ended:
        return USAGE_ERROR if ended.code else 0
    if options.file and (options.kafka or options.topic or options.follow):
        return _say(USAGE_ERROR, "give a FILE, or --kafka with --topic and --follow")
    wanted = {RecordType(name) for name in options.type or ()} or set(RecordType) - NO_NEWS
    try:
        return _print(_messages(options), wanted, FORMATS[options.format])
    except NoInput as error:
        return _say(EXIT_NO_INPUT, str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
            return 141
        return _say(EXIT_NO_INPUT, f"{error.filename or options.file} cannot be read: {error.strerror or error}")
    except DeploytrailError as error:
        return _say(exit_code_of(error), str(error))


def _lines(kind: RecordType, value: dict[str, Any], spec: str) -> list[str]:
    """The record's line; with a version of CDEvents, those of its events."""
    if not spec:
        return [json_line(kind, value)]
    from deploytrail import cdevents_out

    told = cdevents_out.cdevents_of(kind, value, spec)
    return [json.dumps(cdevents_out.structured(event), separators=(",", ":")) for event in told]


def _print(messages: Iterator[Message], wanted: set[RecordType], spec: str) -> int:
    wire = wire_format(_settings.load())
    flawed = untold = 0
    for place, data in messages:
        try:
            kind, value = decode(wire.plain(data))
        except DecodeError as error:
            flawed += 1
            sys.stderr.write(f"deploytrail log: {place}: {redact_text(str(error))}\n")
            continue
        if kind in wanted:
            lines = _lines(kind, redact_value(value), spec)
            untold += not lines
            sys.stdout.write("".join(line + "\n" for line in lines))
            sys.stdout.flush()
    if untold:
        sys.stderr.write(f"deploytrail log: no CDEvent tells {untold} of the records\n")
    return EXIT_FLAWED if flawed else 0


def _messages(options: argparse.Namespace) -> Iterator[Message]:
    if options.kafka or options.topic or options.follow:
        return _of_kafka(Topic(TOPICS[options.topic or "events"]), _kafka_settings(), follow=options.follow)
    path: Path = options.file or _settings.load().spool.expanduser()
    if path.is_dir():
        return _of_spool(path)
    with path.open("rb") as file:
        begin = file.read(len(AVRO_FILE))
    if begin == AVRO_FILE:
        return _of_archive(path)
    if path.suffix == SUFFIX:
        return _of_segment(path)
    raise NoInput(f"{path} is neither a spool (a folder, or a file *{SUFFIX}) nor an archived segment")


def _of_spool(folder: Path) -> Iterator[Message]:
    """Every event that still lies in a spool, delivered or not, each clock's in order."""
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        yield from _of_segment(path)


def _of_segment(path: Path) -> Iterator[Message]:
    data = path.read_bytes()
    for found in frames(data):
        if isinstance(found, Damage):
            if not found.tail:  # a torn end is being written just now, or was never promised
                yield f"{path}, byte {found.start}", data[found.start : found.end]
        elif found.kind == EVENT:
            yield f"{path}, number {found.seq}", found.payload


def _of_archive(path: Path) -> Iterator[Message]:
    import fastavro

    try:
        with path.open("rb") as file:
            for record in fastavro.reader(file):
                if not isinstance(record, dict) or "offset" not in record:
                    raise NoInput(f"{path} is an Avro file, but no archived segment")
                yield f"{path}, offset {record['offset']}", record["value"]
    except ImportError as error:
        raise MissingDependencyError(f"{path} is compressed: {error}; pip install deploytrail-sinks") from error
    except (ValueError, EOFError, KeyError) as error:
        raise NoInput(f"{path} cannot be read as an archived segment: {error}") from error


def _kafka_settings() -> Settings:
    """Where Kafka is: DEPLOYTRAIL_KAFKA, or else a DEPLOYTRAIL_URL of the form kafka://…"""
    settings = Settings.load()
    scheme, _, brokers = settings.url.partition("://")
    return (
        replace(settings, kafka=brokers.rstrip("/"))
        if scheme == "kafka" and not os.environ.get(variable("kafka"))
        else settings
    )


def _of_kafka(topic: Topic, settings: Settings, *, follow: bool) -> Iterator[Message]:
    """A topic from its beginning to its present end, partition by partition as they come; or from there on."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition
    from deploytrail_schemas.kafka import consumer_config

    consumer = Consumer(consumer_config(settings, "deploytrail-log") | {"log_level": 0, "enable.partition.eof": False})
    try:
        try:
            found = consumer.list_topics(topic.value, 10.0).topics[topic.value].partitions
            bounds = {n: consumer.get_watermark_offsets(TopicPartition(topic.value, n), 10.0) for n in sorted(found)}
        except KafkaException as error:
            unset = if_not_set("kafka", settings.kafka)
            raise RetryLater(f"Kafka at {settings.kafka} does not answer: {error.args[0].str()}{unset}") from error
        if not bounds:
            raise RetryLater(f"Kafka at {settings.kafka} has no topic {topic.value}")
        begins = {n: end if follow else low for n, (low, end) in bounds.items()}
        left = {n: end for n, (_, end) in bounds.items() if begins[n] < end}
        consumer.assign([TopicPartition(topic.value, n, begins[n]) for n in (begins if follow else left)])
        while follow or left:
            for message in _polled(consumer):
                number, offset = message.partition(), message.offset()
                if follow or offset < left.get(number, 0):
                    yield f"{topic.value}, partition {number}, offset {offset}", message.value()
            if not follow:
                left = {n: end for n, end in left.items() if _position(consumer, topic, n) < end}
    finally:
        consumer.close()


def _polled(consumer: Any) -> list[Any]:
    from confluent_kafka import KafkaException

    messages = consumer.consume(500, 0.2)
    for message in messages:
        if (error := message.error()) is not None and not error.retriable():
            raise RetryLater(f"Kafka refuses to be read: {KafkaException(error).args[0].str()}")
    return [message for message in messages if message.error() is None]


def _position(consumer: Any, topic: Topic, number: int) -> int:
    """Where reading stands: behind control records too, which are no messages."""
    from confluent_kafka import TopicPartition

    return int(consumer.position([TopicPartition(topic.value, number)])[0].offset)


def _say(code: int, text: str) -> int:
    sys.stderr.write(f"deploytrail log: {redact_text(text)}\n")
    return code
