"""The gateway's own spool: what was answered 202 while Kafka was away is published, once it is back, in order."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploytrail._spool import EVENT, frame
from deploytrail.gateway import durable, metrics, spool_folder
from deploytrail.gateway.app import create_app
from deploytrail.gateway.durable import DurablePublisher
from deploytrail.gateway.publisher import Busy, MemoryPublisher, Outgoing, Unpublishable
from deploytrail.gateway.spool import Spool, SpoolFull, open_spool
from deploytrail_schemas.codec import decode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

MIB = 1 << 20


def record(number: int, *, size: int = 0) -> Outgoing:
    headers = (("dt-received-at", b"1793620800000000"), ("dt-reporter", b"ci"), ("dt-signature", b"id:\x00\xff"))
    return Outgoing(number % 16, b"producer-1", b"%d:" % number + b"x" * size, headers)


def left_behind(root: Path, records: Sequence[Outgoing]) -> Path:
    """The folder of a process that kept records and was killed."""
    child = os.fork()
    if not child:
        spool = Spool(root, MIB)
        for one in records:
            spool.append(spool.reserve([one]))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    [path] = [path for path in root.iterdir() if (path / "lock").exists()]
    return path


def drained(spool: Spool) -> list[Outgoing]:
    found: list[Outgoing] = []
    while (batch := spool.read()).records:
        found += batch.records
        spool.published(batch)
    return found


def segment_of(folder: Path) -> Path:
    [path] = folder.glob("*.segment")
    return path


@pytest.mark.requirement("M8.4")
def test_records_come_back_whole_after_a_kill(tmp_path: Path) -> None:
    records = [record(number) for number in range(5)]
    records.append(Outgoing(0, b"", b"<13>raw", (("dt-reason", b"malformed"),), Topic.DEAD_LETTERS))
    left_behind(tmp_path, records)
    spool = Spool(tmp_path, MIB)

    assert spool.waiting == 6
    assert drained(spool) == records
    assert spool.is_empty
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_torn_tail_is_cut_wherever_it_was_torn(tmp_path: Path) -> None:
    records = [record(number) for number in range(3)]
    whole = segment_of(left_behind(tmp_path / "whole", records)).read_bytes()
    one = len(whole) // 3
    for length in (*range(2 * one, 3 * one, 7), 3 * one - 1):
        folder = left_behind(tmp_path / str(length), records)
        segment = segment_of(folder)
        os.truncate(segment, length)

        assert drained(Spool(folder.parent, MIB)) == records[:2]


def test_a_damaged_record_is_set_aside_with_its_bytes_and_the_others_arrive(tmp_path: Path) -> None:
    records = [record(number, size=100) for number in range(3)]
    segment = segment_of(left_behind(tmp_path, records))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    before = metrics.SPOOL_DAMAGED._value.get()

    assert drained(Spool(tmp_path, MIB)) == [records[0], records[2]]
    assert metrics.SPOOL_DAMAGED._value.get() == before + 1
    [kept] = (tmp_path / "damaged").iterdir()
    assert kept.read_bytes() == bytes(data[len(data) // 3 : 2 * len(data) // 3])


def test_what_a_caller_says_never_passes_for_a_record_of_the_gateway(tmp_path: Path) -> None:
    forged = frame(EVENT, 3, b"0123456789abcdef" + b"\0" * 8 + b"deploytrail.intake")
    folder = left_behind(tmp_path, [record(1), Outgoing(0, b"k", b"a" * 50 + forged + b"b" * 50, ())])
    segment = segment_of(folder)
    os.truncate(segment, segment.stat().st_size - 20)  # the crash leaves the forged part as the last that is whole

    assert drained(Spool(tmp_path, MIB)) == [record(1)]


def test_the_spool_is_bounded_and_has_room_again_once_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100_000)
    kept = 0
    with pytest.raises(SpoolFull, match="of 100000 bytes"):
        for number in range(1000):
            spool.append(spool.reserve([record(number, size=1000)]))
            kept += 1
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.segment"))

    assert 80 < kept < 100
    assert size <= 100_000
    assert spool.is_full
    assert len(drained(spool)) == kept
    spool.clear()
    spool.append(spool.reserve([record(1)]))
    assert drained(spool) == [record(1)]


def test_two_processes_never_share_a_folder_and_the_last_one_drains_what_the_first_left(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, MIB), Spool(tmp_path, MIB)
    first.append(first.reserve([record(1)]))
    second.append(second.reserve([record(2)]))

    assert second.adopt() == 0
    first.close()
    assert second.adopt() == 1
    assert drained(second) == [record(1), record(2)]


def test_what_several_processes_left_is_drained_in_the_order_of_their_lives(tmp_path: Path) -> None:
    first = left_behind(tmp_path, [record(1), record(2)])
    child = os.fork()
    if not child:
        second = Spool(tmp_path, MIB)
        second.append(second.reserve([record(3)]))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    changed = first.stat().st_mtime_ns + 10**9  # as whoever begins to drain a folder leaves it
    os.utime(first, ns=(changed, changed))

    assert drained(Spool(tmp_path, MIB)) == [record(1), record(2), record(3)]


def test_a_disk_that_takes_no_more_refuses_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append(spool.reserve([record(1)]))
    with file_size_limit(2000), pytest.raises(SpoolFull, match="cannot be written: File too large"):
        spool.append(spool.reserve([record(2, size=4000)]))
    spool.append(spool.reserve([record(3)]))

    assert drained(spool) == [record(1), record(3)]
    assert spool.used < 1000


def test_a_spool_that_cannot_be_had_is_named_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_GATEWAY_SPOOL_MAX_BYTES to 0 for none"):
        open_spool(Settings(gateway_spool=tmp_path / "file" / "spool"))

    assert open_spool(Settings(gateway_spool_max_bytes=0)) is None


@pytest.mark.requirement("M8.4")
def test_records_wait_in_the_spool_and_new_ones_go_behind_them(tmp_path: Path) -> None:
    kafka = MemoryPublisher()

    async def play(publisher: DurablePublisher) -> None:
        await publisher.publish([record(0)])
        kafka.away = True
        await publisher.publish([record(1), record(2)])
        await publisher.publish([record(3)])
        assert "3 records wait in the spool" in (await publisher.readiness()).says
        kafka.away = False
        number = 4
        while len(kafka.records) < 20:
            await publisher.publish([record(number)])
            number += 1
            await asyncio.sleep(0.01)
        await until(lambda: len(kafka.records) == number)
        async with asyncio.timeout(60):
            while (await publisher.readiness()).says != "ready":
                await asyncio.sleep(0.01)

    run(play, kafka, tmp_path)

    assert kafka.records == [record(number) for number in range(len(kafka.records))]
    assert list(tmp_path.iterdir()) == []


def test_many_requests_share_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = MemoryPublisher()
    kafka.away = True
    made: list[int] = []
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        made.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(spool_folder.os, "fdatasync", counted)

    async def play(publisher: DurablePublisher) -> None:
        await asyncio.gather(*(publisher.publish([record(number)]) for number in range(500)))

    run(play, kafka, tmp_path)

    assert 0 < len(made) < 20
    assert drained(Spool(tmp_path, MIB)) == [record(number) for number in range(500)]


def test_once_kafka_is_known_to_be_away_requests_do_not_ask_it(tmp_path: Path) -> None:
    asked: list[int] = []

    class Silent(MemoryPublisher):
        async def publish(self, records: Sequence[Outgoing]) -> None:
            asked.append(len(records))
            await asyncio.sleep(3600)

        async def answers(self) -> bool:
            return False

    async def play(publisher: DurablePublisher) -> None:
        durable_patience = 0.05
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, "PATIENCE", durable_patience)
            for number in range(100):
                await publisher.publish([record(number)])

    run(play, Silent(), tmp_path)

    assert asked == [1]
    assert len(drained(Spool(tmp_path, MIB))) == 100


def test_too_much_at_once_is_told_to_slow_down(tmp_path: Path) -> None:
    class Slow(MemoryPublisher):
        async def publish(self, records: Sequence[Outgoing]) -> None:
            await asyncio.sleep(0.1)

    async def play(publisher: DurablePublisher) -> None:
        first = asyncio.create_task(publisher.publish([record(1)] * durable.MAX_WAITING))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="records are waiting"):
            await publisher.publish([record(2)])
        await first
        large = asyncio.create_task(publisher.publish([record(3, size=MIB)] * 63))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await publisher.publish([record(4, size=2 * MIB)])
        await large

    run(play, Slow(), tmp_path)


def test_a_record_that_kafka_never_takes_does_not_stop_the_others(tmp_path: Path) -> None:
    class Choosy(MemoryPublisher):
        async def publish(self, records: Sequence[Outgoing]) -> None:
            await super().publish(records)
            if any(one == record(2) for one in records):
                del self.records[-len(records) :]
                raise Unpublishable("Kafka refuses a record: too large")

    kafka = Choosy()
    kafka.away = True

    async def play(publisher: DurablePublisher) -> None:
        await publisher.publish([record(number) for number in range(5)])
        kafka.away = False
        await until(lambda: len(kafka.records) == 4)

    run(play, kafka, tmp_path)

    assert kafka.records == [record(number) for number in (0, 1, 3, 4)]
    [kept] = (tmp_path / "damaged").iterdir()
    assert record(2).value in kept.read_bytes()


@pytest.mark.requirement("M8.4")
def test_a_full_spool_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    kafka = MemoryPublisher()
    kafka.away = True
    event = {"event_type": "started", "region": "eu-west-1", "environment": "production", "service": "shop"}
    seen: list[httpx.Response] = []

    async def play(publisher: DurablePublisher) -> None:
        transport = httpx.ASGITransport(create_app(Settings(), publisher), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            seen.append(await client.get("/readyz"))
            while not seen or seen[-1].status_code != 503:
                body = event | {"deployment_id": "d", "error": "y" * 20_000}
                seen.append(await client.post("/v1/events", json=body))
            seen.append(await client.get("/readyz"))

    run(play, kafka, tmp_path, max_bytes=200_000)
    ready, *accepted, full, not_ready = seen

    assert (ready.status_code, not_ready.status_code) == (200, 503)
    assert "the spool is full" in not_ready.text
    assert len(accepted) > 5
    assert {answer.status_code for answer in accepted} == {202}
    assert full.headers["retry-after"] == "2"
    assert full.headers["content-type"] == "application/problem+json"
    assert "the gateway's spool holds" in full.json()["detail"]
    ids = [one_id for answer in accepted for one_id in answer.json()["ids"]]
    assert [decode(one.value)[1]["event_id"] for one in drained(Spool(tmp_path, MIB))] == ids


def run(
    play: Callable[[DurablePublisher], Awaitable[None]], kafka: Any, root: Path, *, max_bytes: int = 8 * MIB
) -> None:
    async def whole() -> None:
        publisher = DurablePublisher(kafka, Spool(root, max_bytes))
        publisher.start()
        try:
            await play(publisher)
        finally:
            publisher.close()

    asyncio.run(whole())


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


@contextmanager
def file_size_limit(size: int) -> Any:
    """No file may grow beyond `size`, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
