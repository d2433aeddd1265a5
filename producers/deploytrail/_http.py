"""To a gateway: https://host[:port][/path], one connection kept open."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
from base64 import b64encode
from typing import Any, TypeGuard
from urllib.parse import unquote, urlsplit

from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.headers import HTTP_CLOCK, HTTP_ECHO, HTTP_SENT_AT, HTTP_SENT_MONOTONIC, bearer
from deploytrail_schemas.instants import check_range
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.settings import Settings

from deploytrail._backlog import Echo, Entry
from deploytrail._clock import monotonic, now
from deploytrail._reported import KINDS
from deploytrail._sender import Outcome, Times

TIMEOUT = 10.0  # seconds for connecting, and for each answer
BATCH = 500
GZIP_FROM = 1 << 10  # bytes from which a body is worth packing
ROUTES = {kind: f"/v1/{name}" for name, kind in KINDS.items()}
ANSWER_BYTES = 1 << 20
# The address or the credential is wrong, not the event: it is kept, and tried again once that is mended.
_NOT_THE_EVENT = {401, 404, 405, 407}
_LATER = {408, 425, 429}


class HttpTransport:
    """Posts lists of records to the route of their kind; an answer 2xx means that they are durable there."""

    def __init__(self, settings: Settings) -> None:
        self._url = urlsplit(settings.url)
        self._base = self._url.path.rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "deploytrail", **bearer(settings.token)}
        self._connection: http.client.HTTPConnection | None = None

    def send(self, entries: list[Entry], times: Times, stop: threading.Event) -> Outcome:
        """See Transport. A list that is refused is sent again one by one, so that one bad event stands alone."""
        done = 0
        echo = times.echo
        size = BATCH
        rejected: list[tuple[int, str]] = []
        while done < len(entries) and not stop.is_set():
            part = entries[done : done + size]
            try:
                kind, values = _of_one_kind(part)
            except DecodeError as error:
                rejected.append((done, str(error)))
                done += 1
                continue
            part = part[: len(values)]
            sent = now()
            try:
                status, answer = self._post(ROUTES[kind], values, _time_headers(sent, times, echo))
            except (OSError, http.client.HTTPException) as error:
                self.close()
                where = f"the gateway {self._url.hostname} cannot be reached"
                return Outcome(done, echo, tuple(rejected), f"{where} ({error or type(error).__name__})")
            if 200 <= status < 300:
                done += len(part)
                size = BATCH
                received = answer.get("received_at") if isinstance(answer, dict) else None
                if times.timed and _is_instant(received):
                    echo = Echo(sent, received, now())
            elif status in _NOT_THE_EVENT or status in _LATER or not 400 <= status < 500:
                return Outcome(done, echo, tuple(rejected), f"the gateway answers {status}{_why(answer)}")
            elif len(part) > 1:
                size = 1
            else:
                rejected.append((done, f"the gateway answers {status}{_why(answer)}"))
                done += 1
        return Outcome(done, echo, tuple(rejected))

    def close(self) -> None:
        """See Transport."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, route: str, values: list[dict[str, Any]], headers: dict[str, str]) -> tuple[int, Any]:
        body = json.dumps(values, separators=(",", ":")).encode()
        if len(body) >= GZIP_FROM:
            body = gzip.compress(body, 1)
            headers = headers | {"Content-Encoding": "gzip"}
        for fresh in (False, True):
            kept = self._connection is not None
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.request("POST", self._base + route, body, self._headers | headers)
                response = self._connection.getresponse()
                data = response.read(ANSWER_BYTES)
                if response.will_close or not response.isclosed():
                    self.close()
                return response.status, _parsed(data)
            except (ConnectionError, http.client.HTTPException):
                # The other side may close an idle connection at any time: that is no failure.
                self.close()
                if fresh or not kept:
                    raise
        raise AssertionError("unreachable")

    def _connect(self) -> http.client.HTTPConnection:
        import urllib.request

        host = self._url.hostname or ""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        proxy = urllib.request.getproxies().get(self._url.scheme)
        if proxy and not urllib.request.proxy_bypass(host):
            return self._through(proxy, host, port)
        return self._class()(host, port, timeout=TIMEOUT)

    def _through(self, proxy: str, host: str, port: int) -> http.client.HTTPConnection:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = self._class()(parts.hostname or "", parts.port or 80, timeout=TIMEOUT)
        headers = {}
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        connection.set_tunnel(host, port, headers)
        return connection

    def _class(self) -> type[http.client.HTTPConnection]:
        return http.client.HTTPSConnection if self._url.scheme == "https" else _PromptConnection


class _PromptConnection(http.client.HTTPConnection):
    """Sends small requests at once."""

    def connect(self) -> None:
        super().connect()
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _time_headers(sent: int, times: Times, echo: Echo | None) -> dict[str, str]:
    if not times.timed:
        return {}
    said = {HTTP_SENT_AT: str(sent)}
    if times.same_boot:
        said[HTTP_SENT_MONOTONIC] = str(monotonic())
    if echo:
        said[HTTP_ECHO] = echo.header()
    return said | {HTTP_CLOCK: times.clock} if times.clock else said


def _of_one_kind(entries: list[Entry]) -> tuple[RecordType, list[dict[str, Any]]]:
    """The first entries, as the gateway reads them, up to one of another kind or that cannot be read.

    DecodeError where that is the first.
    """
    values: list[dict[str, Any]] = []
    kind: RecordType | None = None
    for entry in entries:
        try:
            found, value = decode(entry.payload)
        except DecodeError:
            if kind is None:
                raise
            break
        if kind not in (None, found):
            break
        kind = found
        values.append(_reported(value))
    assert kind is not None
    return kind, values


def _reported(value: dict[str, Any]) -> dict[str, Any]:
    """The reporter's fields, those without content left out."""
    return {
        name: item
        for name, item in value.items()
        if name not in CANONICAL_FIELDS and item is not None and item != "" and item != {}
    }


def _is_instant(received: object) -> TypeGuard[int]:
    """Whether the other side says a time. Anything else would go with each event from now on, and be refused."""
    try:
        return type(received) is int and check_range(received) == received
    except ValueError:
        return False


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _why(answer: Any) -> str:
    """The problem details (RFC 9457) of an answer in a few words."""
    if not isinstance(answer, dict):
        return ""
    detail = str(answer.get("detail") or answer.get("title") or "")
    errors = answer.get("errors")
    if isinstance(errors, list) and errors:
        detail += f" {json.dumps(errors[0])}"
    return f": {detail[:300]}" if detail else ""
