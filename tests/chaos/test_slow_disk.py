"""A broker that starts on a slow disk is waited for while it takes over, one partition at a time, what it leads."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__
from deploytrail_local.kafka_broker import KafkaBroker
from deploytrail_processors import state_formats
from deploytrail_processors.state_formats import end_offsets
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import TOPICS, Topic, create_topics
from support.kafka import write
from support.syscall_faults import require_strace

DELAY_MS = 100  # of each sync; a partition takes four or so


class OnASlowDisk(KafkaBroker):
    """A broker each of whose syncs takes its time."""

    def command(self) -> list[str]:
        delayed = f"inject=fsync,fdatasync:delay_enter={DELAY_MS}ms"
        # -D: strace is a grandchild, so that the broker itself is the process that is stopped.
        strace = [require_strace(), "-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]
        return [*strace, "-e", delayed, *super().command()]


def refused(admin: AdminClient, partitions: int) -> set[int]:
    """The codes with which a broker refuses to tell the ends of partitions."""
    asked = {TopicPartition(Topic.EVENTS.value, n): OffsetSpec.latest() for n in range(partitions)}  # type: ignore[no-untyped-call]
    codes = set()
    for future in admin.list_offsets(asked, request_timeout=10).values():
        try:
            future.result(10)
        except KafkaException as error:
            codes.add(error.args[0].code())
    return codes


@pytest.mark.requirement("M8.4")
def test_what_a_broker_leads_is_asked_for_until_it_has_taken_it_over(
    own_kafka_needs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_strace()
    monkeypatch.setattr(state_formats, "_TIMEOUT", 2.0)  # of a broker that does not answer; this one does, for longer
    with KafkaBroker(tmp_path) as broker:
        settings = Settings(kafka=broker.bootstrap)
        admin = AdminClient(client_config(settings))
        create_topics(admin, settings, {Topic.EVENTS.value: TOPICS[Topic.EVENTS]}, timeout=120.0)
        every = range(settings.partitions)
        write(broker.bootstrap, Topic.EVENTS, [(partition, b"shop", b"kept") for partition in every])
    with OnASlowDisk(tmp_path, port=broker.port, controller_port=broker.controller_port):
        admin = AdminClient(client_config(settings) | {"log_level": 0})
        assert refused(admin, settings.partitions) == {KafkaError.UNKNOWN_LEADER_EPOCH}
        began = time.monotonic()
        found = end_offsets(settings, Topic.EVENTS)
        took = time.monotonic() - began

    assert found == dict.fromkeys(every, 1)
    assert took > 2, "the disk was not slow: this proves nothing"
