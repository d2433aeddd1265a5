"""The Confluent wire format, by a schema registry: 0, the schema's id in four bytes, the Avro body.

The body is the same as in single-object encoding, so records change their header only: `framed`
before they are written to Kafka, `plain` after they were read. Ids are looked up by the registry's
REST API (https://docs.confluent.io/platform/current/schema-registry/develop/api.html), once each. A
subject is named by topic and record, deploytrail.intake-io.deploytrail.v1.DeploymentEvent (Confluent's
TopicRecordNameStrategy), since one topic carries several kinds.

What the registry sends is not trusted: only the fingerprint of a schema counts, by which it is one
that ships here, or unknown.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from deploytrail_schemas.codec import CONFLUENT_MARKER, HEADER_BYTES, MARKER, DecodeError, writers
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.json_values import JsonError, parse_json
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fingerprint, schema_fingerprint, versions
from deploytrail_schemas.settings import Settings

if TYPE_CHECKING:
    from http.client import HTTPConnection

CONFLUENT_BYTES = 5
MAX_ANSWER_BYTES = 1 << 20
MAX_CACHED = 10_000
TIMEOUT = 2.0  # seconds of one answer
REST_SECONDS = 1.0  # after one that failed, nothing is asked
UNKNOWN_SECONDS = 60.0  # for so long an id that the registry does not know is not asked for again
LAG_SECONDS = 0.25  # a registry's followers know of a new schema a little later than its leader
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND = HTTPStatus.NOT_FOUND


class RegistryAway(RetryLater):
    """The schema registry gives no usable answer now: keep the record, and try the same again."""


class WireFormat(Protocol):
    """How records stand in Kafka."""

    def framed(self, data: bytes, topic: str) -> bytes:
        """A record in single-object encoding as a topic gets it; RegistryAway where its id cannot be learned now."""

    def plain(self, data: bytes | None) -> bytes | None:
        """A message's value in single-object encoding. DecodeError for a schema that is unknown, RegistryAway."""

    def is_prepared(self, kind: RecordType, topic: str) -> bool:
        """Whether records of this kind can be framed without asking."""

    def prepare(self, kind: RecordType, topic: str) -> None:
        """Ask for what `framed` needs; RegistryAway where there is no answer."""


class SingleObject:
    """Without a registry nothing changes."""

    def framed(self, data: bytes, topic: str) -> bytes:
        """See WireFormat."""
        del topic
        return data

    def plain(self, data: bytes | None) -> bytes | None:
        """See WireFormat."""
        return data

    def is_prepared(self, kind: RecordType, topic: str) -> bool:
        """See WireFormat."""
        del kind, topic
        return True

    def prepare(self, kind: RecordType, topic: str) -> None:
        """See WireFormat."""


def wire_format(settings: Settings) -> WireFormat:
    """The format that the settings ask for; ConfigurationError for a URL that is none."""
    if not settings.schema_registry:
        return SingleObject()
    return SchemaRegistry(settings.schema_registry, settings.schema_registry_auth)


class SchemaRegistry:
    """A client of one registry, for all threads of a process.

    `urls`: http(s)://[user:password@]host[:port][/path], several separated by commas. `auth`:
    user:password, or a bearer token, for those that name none.
    """

    def __init__(self, urls: str, auth: str = "", *, timeout: float = TIMEOUT) -> None:
        self._servers = [_Server(url.strip(), auth, timeout) for url in urls.split(",") if url.strip()]
        self._asking = threading.Lock()  # one question at a time: most others then find their answer in the cache
        self._away_until, self._away = 0.0, ""
        self._ids: dict[tuple[str, bytes], int] = {}
        self._fingerprints: dict[int, bytes] = {}
        self._foreign: dict[int, str] = {}  # ids of schemas that are none of ours, and their names
        self._unknown: dict[int, float] = {}  # ids that the registry does not know, and until when that counts

    def framed(self, data: bytes, topic: str) -> bytes:
        """See WireFormat."""
        found = self._id_of(data[len(MARKER) : HEADER_BYTES], topic)
        return bytes((CONFLUENT_MARKER,)) + found.to_bytes(4, "big") + data[HEADER_BYTES:]

    def plain(self, data: bytes | None) -> bytes | None:
        """See WireFormat."""
        if not data or data[0] != CONFLUENT_MARKER:
            return data
        if len(data) < CONFLUENT_BYTES:
            raise DecodeError(DeadLetterReason.MALFORMED, "the header of the Confluent wire format is cut off")
        identity = int.from_bytes(data[1:CONFLUENT_BYTES], "big")
        found = self._fingerprints.get(identity)
        if found is None:
            with self._asking:
                found = self._fingerprint_of(identity)
        return MARKER + found + data[CONFLUENT_BYTES:]

    def is_prepared(self, kind: RecordType, topic: str) -> bool:
        """See WireFormat."""
        return (topic, fingerprint(kind)) in self._ids

    def prepare(self, kind: RecordType, topic: str) -> None:
        """See WireFormat."""
        self._id_of(fingerprint(kind), topic)

    def has(self, kind: RecordType, topic: str) -> bool:
        """Whether it has the schema that records of this kind are written with, asked without registering it.

        RegistryAway where it does not answer, or refuses us.
        """
        schema = versions(kind)[writers()[fingerprint(kind)].version]
        status, answer = self._ask("POST", *_lookup(f"{topic}-{name_of(schema)}", schema))
        if status not in (HTTPStatus.OK, _NOT_FOUND):
            raise self._refused(f"does not look up {name_of(schema)}", status, answer)
        return status == HTTPStatus.OK

    def _id_of(self, found: bytes, topic: str) -> int:
        if (known := self._ids.get((topic, found))) is not None:
            return known
        writer = writers()[found]
        schema = versions(writer.kind)[writer.version]
        with self._asking:
            if (topic, found) not in self._ids:
                self._ids[topic, found] = self._registered(f"{topic}-{name_of(schema)}", schema)
            return self._ids[topic, found]

    def _registered(self, subject: str, schema: dict[str, Any]) -> int:
        """The id of a schema: looked up, which readers may, and only else registered."""
        path, body = _lookup(subject, schema)
        status, answer = self._ask("POST", path, body)
        if status == _NOT_FOUND:
            status, answer = self._ask("POST", f"{path}/versions", body)
        identity = answer.get("id")
        if status != HTTPStatus.OK or not isinstance(identity, int) or not 0 <= identity < 1 << 31:
            raise self._refused(f"does not register {subject}", status, answer)
        return identity

    def _fingerprint_of(self, identity: int) -> bytes:
        if (known := self._fingerprints.get(identity)) is not None:
            return known
        if identity in self._foreign:
            raise _unknown(f"schema {identity} of the registry is {self._foreign[identity]}, no version known here")
        if time.monotonic() < self._unknown.get(identity, 0.0):
            raise _unknown(f"the registry has no schema {identity}")
        path = f"/schemas/ids/{identity}"
        status, answer = self._ask("GET", path)
        if status == _NOT_FOUND:
            time.sleep(LAG_SECONDS)
            status, answer = self._ask("GET", path)
        if status == _NOT_FOUND:
            _bounded(self._unknown)[identity] = time.monotonic() + UNKNOWN_SECONDS
            raise _unknown(f"the registry has no schema {identity}")
        if status != HTTPStatus.OK or not isinstance(answer.get("schema"), str):
            raise self._refused(f"does not tell schema {identity}", status, answer)
        found, name = _read_schema(answer)
        if found is None:
            _bounded(self._foreign)[identity] = name
            raise _unknown(f"schema {identity} of the registry is {name}, no version known here; upgrade this reader")
        _bounded(self._fingerprints)[identity] = found
        return found

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        if time.monotonic() < self._away_until:
            raise RegistryAway(self._away)
        problems = []
        for server in self._servers:
            try:
                status, answer = server.ask(method, path, body)
            except _NoAnswer as error:
                problems.append(str(error))
                continue
            if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                return status, answer
            problems.append(f"{server.place} answers {status}")
        raise self._rest(f"the schema registry does not answer: {'; '.join(problems)}")

    def _refused(self, what: str, status: int, answer: dict[str, Any]) -> RegistryAway:
        said = str(answer.get("message", ""))[:200]
        return self._rest(f"the schema registry {what}: it answers {status} {said}".rstrip())

    def _rest(self, why: str) -> RegistryAway:
        self._away, self._away_until = why, time.monotonic() + REST_SECONDS
        return RegistryAway(why)


def _lookup(subject: str, schema: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Path and body that ask for the id of a subject's schema."""
    body = {"schema": json.dumps(schema, separators=(",", ":")), "schemaType": "AVRO"}
    return f"/subjects/{quote(subject, safe='')}", body


def name_of(schema: dict[str, Any]) -> str:
    """The full name of a record's schema."""
    return f"{schema['namespace']}.{schema['name']}"


def _read_schema(answer: dict[str, Any]) -> tuple[bytes | None, str]:
    """The fingerprint of a schema of ours, or None, and what it calls itself."""
    if answer.get("schemaType", "AVRO") != "AVRO":
        return None, f"of type {str(answer['schemaType'])[:20]!r}"
    try:
        schema = parse_json(answer["schema"].encode(), MAX_ANSWER_BYTES)
        name = f"{schema.get('namespace', '')}.{schema.get('name', '')}".strip(".")[:100]
        found = schema_fingerprint(schema)
    except Exception:  # a stranger's schema may be anything
        return None, "no Avro record"
    return (found if found in writers() else None), repr(name)


def _unknown(detail: str) -> DecodeError:
    return DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, detail)


def _bounded(cache: dict[int, Any]) -> dict[int, Any]:
    """The cache, without its oldest entry where it is full."""
    if len(cache) >= MAX_CACHED:
        del cache[next(iter(cache))]
    return cache


class _NoAnswer(DeploytrailError):
    """A server of a registry that cannot be asked, or says nothing that can be read."""


class _Server:
    """One URL of a registry. A connection for each question: there are a handful in the life of a process."""

    def __init__(self, url: str, auth: str, timeout: float) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigurationError("DEPLOYTRAIL_SCHEMA_REGISTRY is no URL; expected http(s)://host[:port], …")
        self._host, self._port, self._is_tls = host, port, parts.scheme == "https"
        self._path, self._timeout = parts.path.rstrip("/"), timeout
        self.place = f"{parts.scheme}://{host}{f':{port}' if port else ''}"
        given = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else auth
        self._headers = {"Accept": f"{_CONTENT_TYPE}, application/json", "Content-Type": _CONTENT_TYPE}
        if given:
            basic = base64.b64encode(given.encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}" if ":" in given else f"Bearer {given}"

    def ask(self, method: str, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer; _NoAnswer where there is none."""
        from http.client import HTTPException

        deadline = time.monotonic() + self._timeout
        connection = self._connect()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, self._path + path, text, self._headers)
            answer = connection.getresponse()
            data = _read(answer.read1, deadline)
            found = parse_json(data, MAX_ANSWER_BYTES) if data else {}
        except (OSError, HTTPException, JsonError) as error:
            raise _NoAnswer(f"{self.place}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if not isinstance(found, dict):
            raise _NoAnswer(f"{self.place} answers {answer.status} with no JSON object")
        return answer.status, found

    def _connect(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        made = HTTPSConnection if self._is_tls else HTTPConnection
        return made(self._host, self._port, timeout=self._timeout)


def _read(read: Callable[[int], bytes], deadline: float) -> bytes:
    """What comes until the end, bounded in size and time."""
    data = bytearray()
    while chunk := read(64 << 10):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise OSError(f"its answer has more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("its answer takes too long")
    return bytes(data)
