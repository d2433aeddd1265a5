"""Syslog messages (RFC 5424) as our records, and their framing over TCP (RFC 6587). Pure.

What speaks of a deployment is in the structured data element `deploytrail` (or `deploytrail@NUMBER`,
as RFC 5424 6.3.2 wants of private ones), or is a message that is a JSON object from the application
`deploytrail`:

    <134>1 2026-11-02T12:00:00Z build7 release 412 - [deploytrail event_type="succeeded" service="checkout"
    environment="production" region="eu-west-1" deployment_id="checkout-42"] rolled out
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.json_values import JsonError, Violation, parse_json, validate
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.text_values import from_texts

from deploytrail.adapters.base import instant

ELEMENT = "deploytrail"
MAX_MESSAGE = 64 << 10
# How far a message is trusted: anybody can send one; over UDP it may be forged, lost or cut as well.
CONFIDENCE = {"tcp": 0.7, "udp": 0.5}
_HEADER = re.compile(
    r"<(\d{1,3})>1 (-|\S+) (-|[!-~]{1,255}) (-|[!-~]{1,48}) (-|[!-~]{1,128}) (-|[!-~]{1,32}) (?=-|\[)", re.ASCII
)
_ELEMENT_ID = re.compile(r'\[([^ =\]"]{1,64})')
_PARAMETER = re.compile(r' ([^ =\]"]{1,64})="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_KINDS = {"deployment": RecordType.DEPLOYMENT_EVENT, "signal": RecordType.SIGNAL}


class SyslogError(ValueError):
    """A message that is none of RFC 5424, or whose record does not fit."""


@dataclass(frozen=True, slots=True)
class Message:
    """The parts that matter: when (µs, None where it does not say), who, and the element `deploytrail`."""

    at: int | None
    host: str
    app: str
    process: str
    message_id: str
    parameters: tuple[tuple[str, str], ...] | None
    text: str


def parse(data: bytes) -> Message:
    """The parts of one message; SyslogError for what RFC 5424 does not allow."""
    if len(data) > MAX_MESSAGE:
        raise SyslogError(f"has {len(data)} bytes; at most {MAX_MESSAGE} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SyslogError(f"is not UTF-8 at byte {error.start}") from None
    header = _HEADER.match(text)
    if not header or int(header[1]) > 191:
        raise SyslogError("is no RFC 5424 message; expected <PRI>1 TIME HOST APP PROCID MSGID STRUCTURED-DATA")
    parameters, rest = _structured_data(text, header.end())
    known = [part if part != "-" else "" for part in header.groups()[1:]]
    return Message(
        at=instant({"at": known[0]}, "at") if known[0] else None,
        host=known[1],
        app=known[2],
        process=known[3],
        message_id=known[4],
        parameters=parameters,
        text=rest.removeprefix("\ufeff"),
    )


def _structured_data(text: str, at: int) -> tuple[tuple[tuple[str, str], ...] | None, str]:
    ours: list[tuple[str, str]] | None = None
    if text.startswith("-", at):
        at += 1
    while text.startswith("[", at):
        element = _ELEMENT_ID.match(text, at)
        if not element:
            raise SyslogError(f"has no name of an element at character {at + 1}")
        at = element.end()
        found: list[tuple[str, str]] = []
        while parameter := _PARAMETER.match(text, at):
            found.append((parameter[1], re.sub(r'\\(["\\\]])', r"\1", parameter[2])))
            at = parameter.end()
        if not text.startswith("]", at):
            raise SyslogError(f"has an element that does not end at character {at + 1}")
        at += 1
        if element[1].partition("@")[0] == ELEMENT:
            ours = [*(ours or []), *found]
    if at < len(text) and text[at] != " ":
        raise SyslogError(f"has no space before its text, at character {at + 1}")
    return (None if ours is None else tuple(ours)), text[at + 1 :]


def record(message: Message, transport: str, received_at: int) -> tuple[RecordType, dict[str, Any]] | None:
    """The record that a message carries; None where it speaks of nothing that concerns us.

    SyslogError names every violation. A message that arrives again gives the same ids.
    """
    if message.parameters is not None:
        given = dict(message.parameters)
        kind = _KINDS.get(given.pop("kind_of_record", "deployment"), RecordType.DEPLOYMENT_EVENT)
        said = from_texts(kind, given.items())
    elif message.app == ELEMENT and message.text.lstrip().startswith("{"):
        kind = RecordType.DEPLOYMENT_EVENT
        try:
            said = parse_json(message.text.encode())
        except JsonError as error:
            raise SyslogError(f"carries no JSON: {error.detail}") from None
    else:
        return None
    identity = name_based_id(
        "syslog", message.host, message.app, message.process, str(message.at), message.message_id, repr(said)
    )
    usual: dict[str, Any] = {
        kind.id_field: identity,
        "occurred_at": message.at or received_at,
        "producer_id": f"syslog:{message.host}",
        "source": "syslog",
    }
    if kind is RecordType.DEPLOYMENT_EVENT:
        usual["confidence"] = CONFIDENCE[transport]
    value, wrong = validate(kind, usual | said)
    if wrong:
        raise SyslogError("carries a record that does not fit: " + "; ".join(map(_words, wrong)))
    return kind, value


def _words(violation: Violation) -> str:
    return f"{violation.pointer} {violation.detail}"


class Framing:
    """Messages out of a TCP stream: counted (`57 <134>1 …`) or one a line, whatever each message uses (RFC 6587)."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now; SyslogError where no more can be found in this stream."""
        self._data += data
        while self._data:
            if self._data[:1].isdigit():
                count, space, _ = bytes(self._data[:11]).partition(b" ")
                if not space:
                    if len(self._data) > 10 or not count.isdigit():
                        raise SyslogError("a message's count of bytes is no number")
                    return
                if not count.isdigit() or int(count) > MAX_MESSAGE:
                    raise SyslogError(f"a message's count of bytes is {count!r}; at most {MAX_MESSAGE} are read")
                end = len(count) + 1 + int(count)
                if len(self._data) < end:
                    return
                message = bytes(self._data[len(count) + 1 : end])
            else:
                at = self._data.find(b"\n")
                if at < 0:
                    if len(self._data) > MAX_MESSAGE:
                        raise SyslogError(f"a line has more than {MAX_MESSAGE} bytes")
                    return
                end, message = at + 1, bytes(self._data[:at]).rstrip(b"\r")
            del self._data[:end]
            if message.strip(b"\0 "):
                yield message
