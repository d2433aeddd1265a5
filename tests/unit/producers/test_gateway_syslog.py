"""What anybody sends over syslog leaves no secret behind, be it a record or none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from deploytrail.gateway.publisher import MemoryPublisher, Outgoing
from deploytrail.gateway.syslog_server import SyslogServer
from deploytrail_local import ports
from deploytrail_schemas import headers
from deploytrail_schemas.codec import decode
from deploytrail_schemas.pseudonyms import NameMap
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from support.secrets import Planted, planted

SECRETS = planted(200, seed=20261103)
PLACE = 'service="shop" environment="production" region="eu-west-1" deployment_id="d-1"'


def published(messages: list[bytes], names: str = "") -> list[Outgoing]:
    """What a gateway made of messages over TCP, each with its count of bytes."""
    publisher = MemoryPublisher()
    port = ports.free_port()  # not one that the system gives to clients meanwhile

    async def send() -> None:
        server = SyslogServer(Settings(syslog_port=port, pseudonyms=names), publisher)
        await server.open()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"".join(b"%d %s" % (len(message), message) for message in messages))
            await writer.drain()
            async with asyncio.timeout(60):
                while len(publisher.records) < len(messages):
                    await asyncio.sleep(0.02)
            writer.close()
        finally:
            await server.close()

    asyncio.run(send())
    return publisher.records


def message(item: Planted, event_type: str, host: str = "build7") -> bytes:
    said = item.text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    return (
        f"<134>1 2026-11-02T12:00:00Z {host} release 412 - "
        f'[deploytrail event_type="{event_type}" {PLACE} error="{said}"] {item.text}'
    ).encode()


def left(records: list[Outgoing], items: list[Planted]) -> list[tuple[str, str]]:
    everything = b"\n".join(
        b"\n".join((record.key, record.value, *(value for _, value in record.headers))) for record in records
    )
    return [(item.kind, item.text) for item in items if item.secret.encode() in everything]


@pytest.mark.requirement("M2.6", "M8.5")
def test_two_hundred_secrets_over_syslog_stay_nowhere() -> None:
    records = published([message(item, "failed") for item in SECRETS])

    assert {record.topic for record in records} == {Topic.INTAKE}
    assert left(records, SECRETS) == []


@pytest.mark.requirement("M2.6", "M8.5")
def test_two_hundred_secrets_in_messages_that_fit_nothing_stay_nowhere() -> None:
    records = published([message(item, item.text[:20].replace('"', "").replace("]", "")) for item in SECRETS])

    assert {record.topic for record in records} == {Topic.DEAD_LETTERS}
    assert left(records, SECRETS) == []
    assert any(headers.REDACTED in dict(record.headers) for record in records)


def test_what_a_host_calls_itself_is_no_way_for_a_secret_into_the_key() -> None:
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    item = Planted("", "", "", "nothing")
    [record] = published([message(item, "failed", host=token)])

    assert token.encode() not in record.key + record.value


@pytest.mark.requirement("M5.5")
def test_no_name_of_a_person_comes_over_syslog_be_it_in_a_record_or_in_none(tmp_path: Path) -> None:
    names = tmp_path / "names.db"
    grace = NameMap(names).pseudonym("grace.hopper@example.com")
    said = f'[deploytrail event_type="started" {PLACE} deployer="ada.lovelace@example.com"] Grace Hopper asked'
    broken = b"<134>1 no message of ada.lovelace and grace-hopper \xff"
    first, second = published([f"<134>1 2026-11-02T12:00:00Z build7 r 412 - {said}".encode(), broken], str(names))
    ada = NameMap(names).find("ada.lovelace@example.com")

    assert (first.topic, second.topic) == (Topic.INTAKE, Topic.DEAD_LETTERS)
    assert decode(first.value)[1]["deployer"] == ada
    assert second.value == f"<134>1 no message of {ada} and {grace} ".encode() + b"\xff"
    assert not [r for r in (first, second) if b"lovelace" in r.value.lower() or b"hopper" in r.value.lower()]
