"""A schema registry that answers as Confluent's does, in memory.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html: the routes that clients
use to register, look up and fetch Avro schemas, with its error codes.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from fastavro import parse_schema
from fastavro.schema import to_parsing_canonical_form

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
Answer = tuple[int, Any]


class Refusal(Exception):
    """An answer with an error code of the registry."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.answer: Answer = (status, {"error_code": code, "message": message})


class Registry:
    """Schemas by id and by subject; `down` answers 503, `read_only` registers nothing, `asked` are the requests."""

    def __init__(self) -> None:
        self.schemas: list[str] = []  # id - 1
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.down = self.read_only = False
        self.auth = ""  # what Authorization must be; empty: nothing
        self.url = ""
        self._lock = threading.Lock()

    def add(self, text: str) -> int:
        """The id of a schema; the same for the same text."""
        if text not in self.schemas:
            self.schemas.append(text)
        return self.schemas.index(text) + 1

    def answer(self, method: str, path: str, body: bytes, auth: str) -> Answer:
        """Status and JSON of a request."""
        with self._lock:
            self.asked.append(f"{method} {path}")
            if self.down:
                return 503, {"error_code": 50003, "message": "Error while forwarding the request to the primary"}
            if self.auth and auth != self.auth:
                return 401, {"error_code": 401, "message": "Unauthorized"}
            try:
                return self._route(method, path, body)
            except Refusal as refusal:
                return refusal.answer

    def _route(self, method: str, path: str, body: bytes) -> Answer:
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            identity = int(found[1])
            if method != "GET" or not 0 < identity <= len(self.schemas):
                raise Refusal(404, 40403, f"Schema {identity} not found")
            return 200, {"schema": self.schemas[identity - 1]}
        if found := re.fullmatch(r"/subjects/([^/]+)/versions", path):
            subject = unquote(found[1])
            if method == "GET":
                return 200, [number + 1 for number in range(len(self._versions(subject)))]
            return 200, {"id": self._register(subject, _schema(body))}
        if (found := re.fullmatch(r"/subjects/([^/]+)", path)) and method == "POST":
            subject, text = unquote(found[1]), _schema(body)
            versions = self._versions(subject)
            for number, identity in enumerate(versions, 1):
                if _canonical(self.schemas[identity - 1]) == _canonical(text):
                    answer = {"subject": subject, "version": number, "id": identity}
                    return 200, answer | {"schema": self.schemas[identity - 1]}
            raise Refusal(404, 40403, "Schema not found")
        if path == "/subjects" and method == "GET":
            return 200, sorted(self.subjects)
        raise Refusal(404, 404, "HTTP 404 Not Found")

    def _versions(self, subject: str) -> list[int]:
        if subject not in self.subjects:
            raise Refusal(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def _register(self, subject: str, text: str) -> int:
        if self.read_only:
            raise Refusal(403, 40301, "User is denied operation Write on Subject")
        versions = self.subjects.setdefault(subject, [])
        for identity in versions:
            if _canonical(self.schemas[identity - 1]) == _canonical(text):
                return identity
        if versions and (problem := _incompatibility(self.schemas[versions[-1] - 1], text)):
            raise Refusal(409, 409, f"Schema being registered is incompatible with an earlier schema: {problem}")
        identity = self.add(text)
        versions.append(identity)
        return identity


def _schema(body: bytes) -> str:
    try:
        given = json.loads(body)
        text = given["schema"]
        parse_schema(json.loads(text))
    except Exception as error:
        raise Refusal(422, 42201, f"Invalid schema: {error}") from error
    assert isinstance(text, str)
    return text


def _canonical(text: str) -> str:
    return str(to_parsing_canonical_form(json.loads(text)))


def _incompatibility(old: str, new: str) -> str:
    """Why a reader of the new schema cannot read the old one (BACKWARD, the default); records of flat fields."""
    before, after = json.loads(old), json.loads(new)
    if before.get("name") != after.get("name"):
        return "NAME_MISMATCH"
    known = {field["name"]: field["type"] for field in before.get("fields", [])}
    for field in after.get("fields", []):
        if field["name"] not in known and "default" not in field:
            return f"READER_FIELD_MISSING_DEFAULT_VALUE: {field['name']}"
        if field["name"] in known and known[field["name"]] != field["type"]:
            return f"TYPE_MISMATCH: {field['name']}"
    return ""


@contextmanager
def schema_registry(port: int = 0) -> Iterator[Registry]:
    """A registry that listens on 127.0.0.1."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            auth = self.headers["Authorization"] or ""
            status, found = registry.answer(self.command, urlsplit(self.path).path, body, auth)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_request

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def basic(user: str, password: str) -> str:
    """The Authorization of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
