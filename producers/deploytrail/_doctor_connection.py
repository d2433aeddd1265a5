"""What `deploytrail doctor` learns of the way to the other side: a gateway, or Kafka."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.headers import bearer
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail._doctor_check import BROKEN, OK, WARNING, Check
from deploytrail._http import HttpTransport

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# A clock that is further off than this is worth a word; the intake app corrects it all the same.
_SKEW_SECONDS = 2.0
_CERTIFICATES = {
    "expired": "renew the gateway's certificate, and see that this host's clock is right",
    "not yet valid": "see that this host's clock is right",
    "self": "let this host trust the CA: set SSL_CERT_FILE to its certificate",
    "local issuer": "let this host trust the CA: set SSL_CERT_FILE to its certificate, or have the chain sent",
    "mismatch": "use the host name that stands in the certificate",
    "doesn't match": "use the host name that stands in the certificate",
    "not valid for": "use the host name that stands in the certificate",
}


def connection(settings: Settings, timeout: float) -> Iterator[Check]:
    """Whether events arrive, asked without sending one."""
    url = settings.url
    scheme = url.partition("://")[0].lower()
    if not url:
        fix = f"set DEPLOYTRAIL_URL to https://… (a gateway) or kafka://host:port{if_not_set('url', url)}"
        yield Check(WARNING, "connection", "DEPLOYTRAIL_URL is not set: events stay in the spool", fix)
    elif scheme in {"http", "https"}:
        yield from gateway(settings, timeout)
    elif scheme == "kafka":
        yield from kafka(settings, timeout)
    else:
        fix = "begin it with https:// or kafka://"
        yield Check(BROKEN, "connection", f"DEPLOYTRAIL_URL has the scheme {scheme!r}, which nothing serves", fix)


def gateway(settings: Settings, timeout: float) -> Iterator[Check]:
    """A gateway: proxy, TCP, TLS, its health, Kafka behind it, the token, and how its clock compares."""
    url = urlsplit(settings.url)
    where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    proxy = urllib.request.getproxies().get(url.scheme)
    through = ""
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        through = f" through the proxy {urlsplit(proxy).hostname or proxy}"
        yield Check(OK, "proxy", f"{url.scheme}_proxy is set: requests go{through}")
    if url.scheme == "http" and settings.token and url.hostname not in _LOOPBACK:
        fix = "use https://: who listens on the way reads the token"
        yield Check(WARNING, "token", f"it goes to {where} in clear text", fix)
    try:
        asked = _Asked(settings, timeout)
        status, _ = asked.get("/healthz")
    except ConfigurationError as error:
        yield Check(BROKEN, "token", str(error), "set DEPLOYTRAIL_TOKEN to the whole token, and nothing else")
        return
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield _unreachable(error, url, where + through, timeout)
        return
    if status != 200:
        fix = "see that DEPLOYTRAIL_URL names a deploytrail gateway, and the path under which it is served"
        yield Check(BROKEN, "gateway", f"{where}{through} answers /healthz with {status}", fix)
        return
    yield Check(OK, "gateway", f"{where}{through} answers")
    yield from _behind(asked, where, settings)


def _behind(asked: _Asked, where: str, settings: Settings) -> Iterator[Check]:
    try:
        status, _ = asked.get("/readyz")
        if status != 200:
            fix = "mend Kafka, or the gateway's DEPLOYTRAIL_KAFKA; events wait in the spool meanwhile"
            yield Check(BROKEN, "gateway", f"{where} is up and cannot take events: /readyz is {status}", fix)
            return
        yield Check(OK, "gateway", "it is ready to take events")
        before = time.time()
        status, answer = asked.post("/v1/events", [])
        after = time.time()
    except (OSError, http.client.HTTPException, ValueError) as error:
        fix = "try again; see the gateway's log"
        yield Check(BROKEN, "gateway", f"{where} broke off: {error or type(error).__name__}", fix)
        return
    if status in {401, 403}:
        fix = "set DEPLOYTRAIL_TOKEN to one that the gateway knows, with leave to report"
        what = "refuses the token" if settings.token else "wants a token, and none is set"
        yield Check(BROKEN, "token", f"the gateway {what} ({status}): events stay in the spool", fix)
    elif status >= 500 or status in {404, 405}:
        fix = "see that DEPLOYTRAIL_URL names a deploytrail gateway; see its log"
        yield Check(BROKEN, "token", f"the gateway answers /v1/events with {status}", fix)
    else:
        yield Check(OK, "token", "the gateway takes the token" if settings.token else "the gateway asks for none")
    received = answer.get("received_at") if isinstance(answer, dict) else None
    if isinstance(received, int):
        yield _skew(received / 1e6, before, after)


def _skew(received: float, before: float, after: float) -> Check:
    """The gateway received it between our asking and our having the answer: how far its clock lies outside."""
    off = before - received if received < before else min(after - received, 0.0)
    if abs(off) <= _SKEW_SECONDS:
        return Check(OK, "clock", f"agrees with the gateway's within {after - before + abs(off):.2f} s")
    which = "ahead of" if off > 0 else "behind"
    return Check(WARNING, "clock", f"{abs(off):.1f} s {which} the gateway's", "synchronise both; times are corrected")


class _Asked:
    """Requests to the gateway, by the way that the sender takes."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._transport = HttpTransport(settings)
        self._timeout = timeout
        self._base = urlsplit(settings.url).path.rstrip("/")
        self._headers = {"User-Agent": "deploytrail-doctor", **bearer(settings.token)}

    def get(self, path: str) -> tuple[int, object]:
        """Status and parsed answer."""
        return self._ask("GET", path, None)

    def post(self, path: str, value: object) -> tuple[int, object]:
        """Status and parsed answer."""
        return self._ask("POST", path, json.dumps(value).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, object]:
        connection = self._transport._connect()
        connection.timeout = self._timeout
        try:
            kind = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, self._base + path, body, self._headers | kind)
            response = connection.getresponse()
            data = response.read(1 << 20)
        finally:
            connection.close()
        try:
            return response.status, json.loads(data)
        except ValueError:
            return response.status, None


def _unreachable(error: Exception, url: SplitResult, where: str, timeout: float) -> Check:
    detail, fix = str(error), "see that the gateway runs, and that a firewall lets this host reach it"
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"its certificate is not accepted: {error.verify_message}"
        known = (text for word, text in _CERTIFICATES.items() if word in error.verify_message)
        fix = next(known, "see that the certificate is for this host, in date and of a CA that this host trusts")
    elif isinstance(error, ssl.SSLError):
        detail = f"it does not speak TLS here ({error.reason or error})"
        fix = "is it http://? See that the port is the TLS one"
    elif isinstance(error, socket.gaierror):
        detail, fix = f"the name {url.hostname!r} cannot be resolved", "correct DEPLOYTRAIL_URL, or this host's DNS"
    elif isinstance(error, ConnectionRefusedError):
        detail = "the connection is refused: nothing listens on that port"
        fix = "start the gateway, or correct host and port in DEPLOYTRAIL_URL"
    elif isinstance(error, TimeoutError):
        detail = f"no answer within {timeout:g} s"
        fix = "a firewall may swallow the packets, or the process hangs; from inside a network, set https_proxy"
    elif isinstance(error, http.client.HTTPException):
        detail, fix = f"it does not speak HTTP here: {error or type(error).__name__}", "correct DEPLOYTRAIL_URL's port"
    elif "Tunnel connection failed" in detail:
        fix = "let the proxy pass this host, correct its user, or set no_proxy for the gateway's name"
    return Check(BROKEN, "gateway", f"{where} cannot be reached: {detail}", fix)


def kafka(settings: Settings, timeout: float, name: str = "DEPLOYTRAIL_URL") -> Iterator[Check]:
    """Kafka: whether it answers, and whether the intake topic is what the settings say. `name`: of their setting."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient
    from deploytrail_schemas.kafka import client_config

    brokers = settings.url.partition("://")[2].rstrip("/")
    said: list[str] = []
    try:
        config: dict[str, Any] = {**client_config(replace(settings, kafka=brokers)), "log_level": 0}
        admin = AdminClient(config | {"error_cb": lambda error: said.append(error.str())})
        topics = admin.list_topics(timeout=timeout).topics
    except ConfigurationError as error:
        yield Check(BROKEN, "kafka", str(error), "correct DEPLOYTRAIL_KAFKA_CLIENT")
        return
    except KafkaException as error:
        admin.poll(0)  # lets error_cb tell why
        yield _kafka_unreachable(brokers, said[0] if said else error.args[0].str(), settings, name)
        return
    yield Check(OK, "kafka", f"{brokers} answers")
    name = Topic.INTAKE.value
    if name not in topics:
        fix = "start a processor or the gateway once, which make the topics; or ask for leave to see it (ACL)"
        yield Check(BROKEN, "kafka", f"there is no topic {name}", fix)
    elif (count := len(topics[name].partitions)) != settings.partitions:
        fix = f"set DEPLOYTRAIL_PARTITIONS={count}, and see that DEPLOYTRAIL_REGIONS fits"
        detail = f"{name} has {counted(count, 'partition')}, the settings say {settings.partitions}"
        yield Check(BROKEN, "kafka", detail, fix)
    else:
        yield Check(OK, "kafka", f"{name} has {counted(count, 'partition')}, as the settings say")


def _kafka_unreachable(brokers: str, why: str, settings: Settings, name: str) -> Check:
    fix = "see that Kafka runs at host:port, and that a firewall lets this host reach it"
    lower = why.lower()
    if "ssl" in lower:
        fix = "set security.protocol=SSL and ssl.ca.location in DEPLOYTRAIL_KAFKA_CLIENT as the broker needs them"
    elif "sasl" in lower or "authentic" in lower:
        fix = "correct the SASL mechanism, user and password in DEPLOYTRAIL_KAFKA_CLIENT"
    elif "resolve" in lower:
        fix = f"correct the host in {name}, or this host's DNS"
    elif "refused" not in lower and "security.protocol" not in settings.kafka_client:
        fix += "; a broker that wants TLS answers nothing to clear text: see DEPLOYTRAIL_KAFKA_CLIENT"
    return Check(BROKEN, "kafka", f"kafka://{brokers} cannot be reached: {why}", fix)
