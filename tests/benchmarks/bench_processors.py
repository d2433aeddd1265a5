"""The processors: events a second, with one worker and with two, delays, the size of state and how soon it is back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_processors.replay_command import makers
from deploytrail_processors.serving import weight
from deploytrail_processors.state_formats import committed, end_offsets, group_of, state_format
from deploytrail_schemas.clusters import mirrored
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.kafka import client_config, consumer_config, producer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import TOPICS, Topic, TopicSpec, create_topics
from support.apps import Handled
from support.commands import DEPLOYTRAIL, Command
from support.kafka import known_clock, make_topics, wait_for, write
from support.story import APPS, LIVE, POLICIES, Told, apply_policies, encoded, tell
from support.values import NOON, event, record
from yaml import safe_load_all

from benchmarks.forward_member import OUTPUT, PARTITIONS, SOURCE

Rows = list[tuple[str, str]]
LIVES, FORWARDED, STATE_ROWS, DELAYS = 40, 20_000, 20_000, 1000
OF_INTAKE = (RecordType.TICK, RecordType.GLOBAL_CHANGE)  # its own words: nobody reports them
CLUSTERS, FEDERATED = ("eu", "us"), 1000
MONTH = 30 * 86_400_000_000


def run() -> Rows:
    """All of it on one broker, one thing after the other."""
    rows = _state()
    with tempfile.TemporaryDirectory(prefix="deploytrail-bench-") as name:
        folder = Path(name)
        with KafkaBroker(folder / "kafka") as broker:
            kafka = broker.bootstrap
            make_topics(kafka)
            apply_policies(kafka, folder)
            rows += _forwarding(kafka, folder)
            rows += _delays(kafka, folder)
            rows += _rates(kafka, folder)
            rows += federation(kafka, folder)
            rows += _replay(kafka, folder)
            rows += _recovery(kafka, folder)
    return rows


def _state() -> Rows:
    """Bytes of each app's tables by deployment, as their changelogs keep them."""
    rows: Rows = []
    told = [(kind, value) for _, kind, value in _without_end(tell(200, 1))]
    deployments = {v["deployment_id"] for k, v in told if k is RecordType.DEPLOYMENT_EVENT}
    policies = list(safe_load_all(POLICIES.replace("effective_from: 2020-01-01T00:00:00Z\n", "")))
    total = 0
    for name, make in makers(APPS, Settings()).items():
        handled = Handled(make, policies)
        began = time.perf_counter()
        for kind, value in told:
            handled.handle(kind, value)
        micros = (time.perf_counter() - began) / len(told) * 1e6
        size = sum(weight(table) for table in handled.tables.values()) // len(deployments)
        total += size
        rows.append((f"{name}: state by deployment; decision by record", f"{size:,} bytes; {micros:.0f} µs"))
    return [*rows, ("all apps: state by deployment", f"{total:,} bytes")]


def _forwarding(kafka: str, folder: Path) -> Rows:
    """Messages a second through an agent: our forwarder and barrier, and `await topic.send`, in turn, twice each."""
    settings = Settings(kafka=kafka, partitions=PARTITIONS, backfill_partition=PARTITIONS - 1)
    outputs = [OUTPUT.format(mode=mode) for mode in ("barrier", "send")]
    specs = dict.fromkeys((SOURCE, *outputs), TopicSpec(PARTITIONS, {}))
    create_topics(AdminClient(client_config(settings)), settings, specs)
    value = encode(RecordType.DEPLOYMENT_EVENT, event("started"))
    rates: dict[str, list[float]] = {"barrier": [], "send": []}
    for turn in (1, 2):
        write(kafka, SOURCE, ((n % PARTITIONS, b"k", value) for n in range(FORWARDED)))
        for mode, found in rates.items():
            argv = [sys.executable, "-m", "benchmarks.forward_member", kafka, mode, str(folder / f"forward-{mode}")]
            member = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                found.append(_rate_between(kafka, OUTPUT.format(mode=mode), FORWARDED * turn, FORWARDED))
            finally:
                member.terminate()
                member.wait(30)
    ours, theirs = max(rates["barrier"]), max(rates["send"])
    verdict = "met" if ours >= 1.8 * theirs else "missed"
    return [
        ("forwarding with the delivery barrier", f"{ours:,.0f} messages/s"),
        ("forwarding with await topic.send", f"{theirs:,.0f} messages/s"),
        ("ratio", f"{ours / theirs:.2f} × (target 1.8: {verdict})"),
    ]


def _rate_between(kafka: str, topic: str, total: int, count: int) -> float:
    """Messages a second that come to a topic, between a tenth and the end of what comes."""
    settings = Settings(kafka=kafka)
    with _ends(settings, topic) as ends:
        begin = total - count
        wait_for(lambda: ends() >= begin + count // 10, seconds=60, what="the first messages")
        first, began = ends(), time.perf_counter()
        while ends() < total:
            time.sleep(0.02)
        return (total - first) / (time.perf_counter() - began)


@contextmanager
def _ends(settings: Settings, topic: str) -> Iterator[Any]:
    consumer = Consumer(consumer_config(settings, "bench") | {"log_level": 0})
    partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    try:
        yield lambda: sum(consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions)
    finally:
        consumer.close()


def _delays(kafka: str, folder: Path) -> Rows:
    """From a report on the intake topic to the change window's finding about it, at a gentle rate."""
    settings = Settings(kafka=kafka)
    with _workers(kafka, folder, ("intake", "change_window"), 1):
        consumer = Consumer(consumer_config(settings, "bench") | {"log_level": 0, "fetch.wait.max.ms": 10})
        ends = {p: consumer.get_watermark_offsets(TopicPartition(Topic.FINDINGS.value, p))[1] for p in LIVE}
        consumer.assign([TopicPartition(Topic.FINDINGS.value, p, end) for p, end in ends.items()])
        producer = Producer(producer_config(settings) | {"linger.ms": 0})
        sent: dict[str, float] = {}
        delays: list[float] = []
        for number in range(DELAYS):
            name, partition = f"delay-{number}", LIVE[number % len(LIVE)]
            told = event("started", time.time_ns() // 1000, deployment_id=name, region=_region(settings, partition))
            reported = {k: v for k, v in told.items() if k not in ("received_at", "corrected_at", "uncertainty_ms")}
            sent[name] = time.perf_counter()
            value = encode(RecordType.DEPLOYMENT_EVENT, reported)
            producer.produce(Topic.INTAKE.value, value, b"bench", partition=partition, headers=known_clock())
            producer.poll(0)
            _take(consumer, sent, delays)
            time.sleep(0.005)
        deadline = time.monotonic() + 30
        while len(delays) < DELAYS and time.monotonic() < deadline:
            _take(consumer, sent, delays, 0.05)
        consumer.close()
    delays.sort()
    if len(delays) < DELAYS:
        return [("event to finding", f"{DELAYS - len(delays)} of {DELAYS} findings never came")]
    p50, p99 = delays[DELAYS // 2] * 1000, delays[DELAYS * 99 // 100] * 1000
    return [("reported event to finding, p50; p99", f"{p50:.0f} ms; {p99:.0f} ms")]


def _region(settings: Settings, partition: int) -> str:
    numbers = RegionMap.from_settings(settings).numbers
    return next(name for name, number in numbers.items() if number == partition)


def _take(consumer: Consumer, sent: dict[str, float], delays: list[float], wait: float = 0.0) -> None:
    for message in consumer.consume(500, wait):
        value = decode(message.value() or b"")[1]
        began = sent.pop(value["deployment_id"], None)
        if began is not None:
            delays.append(time.perf_counter() - began)


def _rates(kafka: str, folder: Path) -> Rows:
    """Events a second of each app with one worker and with two, of a story that is there at once."""
    rows: Rows = []
    settings = Settings(kafka=kafka)
    for number, name in enumerate(("intake", *APPS)):
        if name != "intake":
            _begin_at_end(settings, name)
        with ExitStack() as stack:
            workers = stack.enter_context(_workers(kafka, folder, (name,), 1))
            one = _rate(settings, name, 2 * number)
            stack.enter_context(_workers(kafka, folder, (name,), 1, first=len(workers)))
            two = _rate(settings, name, 2 * number + 1)
        rows.append((f"{name}: one worker; two", f"{one:,.0f}/s; {two:,.0f}/s, {two / one:.2f} ×"))
    return rows


def _begin_at_end(settings: Settings, name: str) -> None:
    """Let an app that does not run pass over what was told to others."""
    ends = [TopicPartition(Topic.EVENTS.value, p, end) for p, end in end_offsets(settings, Topic.EVENTS).items()]
    asked = ConsumerGroupTopicPartitions(group_of(name, state_format(name)), ends)
    admin = AdminClient(client_config(settings))  # kept: an answer does not outlive who asked
    [done] = admin.alter_consumer_group_offsets([asked]).values()
    done.result(30)


def _rate(settings: Settings, name: str, turn: int) -> float:
    topic = Topic.INTAKE if name == "intake" else Topic.EVENTS
    stories = [tell(LIVES, p, begin=NOON + turn * MONTH, name=f"{turn}-") for p in LIVE]
    told = (one for story in stories for one in story if topic is Topic.EVENTS or one[1] not in OF_INTAKE)
    messages = encoded(told)
    before = sum(end_offsets(settings, topic).values())
    if before:
        _wait_committed(settings, name, topic, before)
    began = time.perf_counter()
    write(settings.kafka, topic, messages)
    _wait_committed(settings, name, topic, before + len(messages))
    return len(messages) / (time.perf_counter() - began)


def _wait_committed(settings: Settings, name: str, topic: Topic, total: int) -> None:
    deadline = time.monotonic() + 120
    while sum(committed(settings, group_of(name, state_format(name)), topic).values()) < total:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} did not come to {total}")
        time.sleep(0.05)


def federation(kafka: str, folder: Path) -> Rows:
    """Records of two clusters a second with one worker and with two, until every claim made of them is merged."""
    settings = Settings(kafka=kafka, federated_clusters=",".join(CLUSTERS))
    topics = [mirrored(cluster, Topic.RECORDS) for cluster in CLUSTERS]
    create_topics(AdminClient(client_config(settings)), settings, dict.fromkeys(topics, TOPICS[Topic.RECORDS]))
    more = {"DEPLOYTRAIL_FEDERATED_CLUSTERS": settings.federated_clusters}
    rates: list[float] = []
    with ExitStack() as stack:
        for turn in range(2):
            stack.enter_context(_workers(kafka, folder, ("federation",), 1, first=turn, **more))
            rates.append(_federated_rate(settings, topics, turn))
    one, two = rates
    return [("federation: one worker; two", f"{one:,.0f} records/s; {two:,.0f}/s, {two / one:.2f} ×")]


def _federated_rate(settings: Settings, topics: list[str], turn: int) -> float:
    """Each deployment is told by both clusters, running and then ended."""
    told = [
        (LIVE[number % len(LIVE)], b"bench", encode(RecordType.RECORD, record(state, **told_of, revision=revision)))
        for revision, state in ((1, "running"), (2, "succeeded"))
        for number in range(FEDERATED)
        for told_of in [{"deployment_id": f"federated-{turn}-{number}"}]
    ]
    every = [TopicPartition(t, p) for t in (*topics, Topic.CLAIMS.value) for p in range(settings.partitions)]
    config = consumer_config(settings, group_of("federation", state_format("federation"))) | {"log_level": 0}
    consumer = Consumer(config)
    try:
        began = time.perf_counter()
        for topic in topics:
            write(settings.kafka, topic, told)
        wanted = len(topics) * len(told)
        deadline = time.monotonic() + 120
        while True:  # what is read of the clusters becomes claims, which the same app reads
            done = {(p.topic, p.partition): p.offset for p in consumer.committed(every, timeout=10)}
            ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=10)[1] for p in every}
            read = sum(max(done[key], 0) for key in ends if key[0] in topics)
            if read == wanted * (turn + 1) and all(max(done[key], 0) == end for key, end in ends.items()):
                return wanted / (time.perf_counter() - began)
            if time.monotonic() > deadline:
                raise TimeoutError(f"federation did not come to {wanted}")
            time.sleep(0.05)
    finally:
        consumer.close()


def _replay(kafka: str, folder: Path) -> Rows:
    """One partition of the same trail told to all apps in memory."""
    done = subprocess.run(
        [*DEPLOYTRAIL, "processor", "--replay", "--partitions", "1", "--json", *APPS],
        env=_environment(kafka, folder, "replay"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)["partitions"]
    records, seconds = sum(p["records"] for p in told), sum(p["seconds"] for p in told)
    return [
        (f"replay into {len(APPS)} apps at once", f"{records / seconds:,.0f} records/s, {records:,} in {seconds:.0f} s")
    ]


def _recovery(kafka: str, folder: Path) -> Rows:
    """From the start of the lifecycle app until it has read its table back, beside the start of one without rows."""
    settings = Settings(kafka=kafka)
    empty = _start_seconds(kafka, folder, "lifecycle")
    [make] = makers(["lifecycle"], settings).values()
    handled = Handled(make)
    for _, kind, value in _without_end(tell(8, 1)):
        handled.handle(kind, value)
    some = list(handled.tables["deployments"].values())
    topic = f"{group_of('lifecycle', state_format('lifecycle'))}-deployments-changelog"
    rows = (
        (
            LIVE[n % len(LIVE)],
            json.dumps(f"{LIVE[n % len(LIVE)]}/kept-{n}").encode(),
            json.dumps(some[n % len(some)]).encode(),
        )
        for n in range(STATE_ROWS)
    )
    write(kafka, topic, rows)
    full = _start_seconds(kafka, folder, "lifecycle")
    took = (full - empty) * 100_000 / STATE_ROWS
    return [("recovery by 100,000 rows of the lifecycle app", f"{took:.1f} s (start without: {empty:.1f} s)")]


def _start_seconds(kafka: str, folder: Path, name: str) -> float:
    began = time.perf_counter()
    with _workers(kafka, folder, (name,), 1):
        return time.perf_counter() - began


@contextmanager
def _workers(
    kafka: str, folder: Path, names: tuple[str, ...], count: int, first: int = 0, **more: str
) -> Iterator[list[Command]]:
    with ExitStack() as stack:
        commands: list[Command] = []
        for number in range(first, first + count):
            env = _environment(kafka, folder, f"{'-'.join(names)}-{number}") | more
            commands.append(Command("processor", *names, env=env, cwd=folder))
            stack.callback(commands[-1].kill)
        for command in commands:
            command.wait_ready(90)
        yield commands
        for command in commands:
            command.stop(40)


def _environment(kafka: str, folder: Path, name: str) -> dict[str, str]:
    return {**os.environ, "DEPLOYTRAIL_KAFKA": kafka, "DEPLOYTRAIL_STATE": str(folder / "state" / name)}


def _without_end(told: Iterable[Told]) -> Iterator[Told]:
    """A story without the days of ticks behind it."""
    story = list(told)
    return iter(story[:-72])
