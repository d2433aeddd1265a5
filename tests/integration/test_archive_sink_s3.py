"""The archive sink, as a process, on a real S3 server with Object Lock: every record once, whatever gets lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import open_store
from support.commands import run, running
from support.kafka import make_topics, wait_for, write
from support.object_stores import CREDENTIALS, Fault, FaultProxy, lost, make_bucket, refused, unheard, url_of, versitygw
from support.values import NOON, event


@pytest.mark.requirement("M5.1", "M5.5")
@pytest.mark.timeout(600)
def test_the_sink_archives_into_s3_through_faults_and_kill_9(
    own_kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in CREDENTIALS.items():
        monkeypatch.setenv(name, text)
    (tmp_path / "server").mkdir()
    value = encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON))
    with versitygw(tmp_path / "server") as endpoint, FaultProxy(endpoint) as proxy:
        make_topics(own_kafka)
        make_bucket(endpoint, "archive")
        env = {
            **CREDENTIALS,
            "DEPLOYTRAIL_KAFKA": own_kafka,
            "DEPLOYTRAIL_ARCHIVE": url_of(proxy.url, "archive"),
            "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.3",
            "DEPLOYTRAIL_KAFKA_CLIENT": "session.timeout.ms=6000;heartbeat.interval.ms=1000",
        }
        store = open_store(url_of(endpoint, "archive"))

        def archived() -> list[int]:
            names = list(store.list(f"{Topic.EVENTS.value}/001"))
            return sorted(r.offset for name in names for r in read_segment(store.read(name)).records)

        def archive(times: int, method: str, *faults: Fault) -> None:
            proxy.spoil(method, *faults)
            write(own_kafka, Topic.EVENTS, [(1, b"k", value)] * 20)
            wait_for(lambda: archived() == list(range(20 * times)), what="the records")

        with running("sink", "archive", env=env, cwd=tmp_path) as sink:
            archive(1, "PUT", *[lost] * 4)  # one more than the client tries by itself
            archive(2, "GET", unheard, refused(503, "SlowDown"))
            sink.kill()
        with running("sink", "archive", env=env, cwd=tmp_path) as sink:
            archive(3, "PUT", refused(500, "InternalError"), refused(503, "SlowDown"), lost)
            archive(4, "PUT")  # behind this nothing is tried again, and it may end
            assert sink.stop() == 0
        verified = run(
            "archive", "verify", env=env | {"DEPLOYTRAIL_ARCHIVE": url_of(endpoint, "archive")}, cwd=tmp_path
        )

        assert (verified.returncode, verified.stderr) == (0, ""), verified.stdout
        assert {store.retain_until(name) is not None for name in store.list("")} == {True}
        assert {len(store.versions(name)) for name in store.list("")} == {1}
