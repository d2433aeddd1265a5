"""The Kubernetes API by plain HTTP: lists and watches, with the service account's token.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS = 10.0
PAGE = 500
# A watch is asked to end after so long; asking again from where it stood costs the server next to nothing.
WATCH_SECONDS = 60
_LONGEST_LINE = 16 << 20


class ApiError(DeploytrailError):
    """The API server refused; 401 and 403 say what the account lacks."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"the API server answers {status}: {said}")
        self.status = status


class Gone(ApiError):
    """The place to go on from is too old: list again."""


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API server is. `token`: a file, read for every request, since it is replaced before it expires."""

    server: str
    token: Path | None = None
    context: ssl.SSLContext | None = None

    def list(self, path: str) -> tuple[list[dict[str, Any]], str]:
        """All objects of a collection, and the version to watch from. Gone where a page outlived its list."""
        found: list[dict[str, Any]] = []
        more = ""
        while True:
            query = {"limit": str(PAGE)} | ({"continue": more} if more else {})
            with self._get(path, query, TIMEOUT_SECONDS) as response:
                page = json.loads(response.read())
            kind = str(page.get("kind", "")).removesuffix("List")
            # Objects in a list do not say of which kind they are.
            found += [{"kind": kind, **item} for item in page.get("items") or []]
            meta = page.get("metadata") or {}
            more = meta.get("continue") or ""
            if not more:
                return found, str(meta.get("resourceVersion", ""))

    def watch(self, path: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """ADDED, MODIFIED, DELETED and BOOKMARK with their objects, until the server or the network ends it.

        Gone where `version` is too old; ApiError for another error that the stream tells.
        """
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        with self._get(path, query, WATCH_SECONDS + TIMEOUT_SECONDS) as response:
            while line := response.readline(_LONGEST_LINE):
                if not line.endswith(b"\n"):
                    return  # cut off in the middle: the next watch tells it whole
                event = json.loads(line)
                kind, obj = str(event.get("type", "")), event.get("object") or {}
                if kind == "ERROR":
                    raise _error(int(obj.get("code") or 0), str(obj.get("message", "")))
                yield kind, obj

    @contextlib.contextmanager
    def _get(self, path: str, query: Mapping[str, str], seconds: float) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.server)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=seconds, context=self.context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=seconds)
        )
        try:
            connection.connect()
            _keep_alive(connection.sock)
            headers = {"Accept": "application/json", "User-Agent": "deploytrail"}
            if self.token is not None:
                headers["Authorization"] = f"Bearer {self.token.read_text('ascii').strip()}"
            connection.request("GET", f"{parts.path.rstrip('/')}{path}?{urlencode(query)}", headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise _error(response.status, _message(response.read(1 << 16)))
            yield response
        finally:
            connection.close()


def in_cluster() -> Api:
    """The API server of the cluster that this pod runs in. ConfigurationError outside of one.

    https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigurationError("this is no pod (no KUBERNETES_SERVICE_HOST): give --server, e.g. of `kubectl proxy`")
    name = f"[{host}]" if ":" in host else host
    return Api(f"https://{name}:{port}", ACCOUNT / "token", context_of(ACCOUNT / "ca.crt"))


def context_of(authority: Path) -> ssl.SSLContext:
    """Trusts a cluster's own certificate authority and no other. ConfigurationError where the file is none."""
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{authority} holds no certificate authority: {error}") from error


def _error(status: int, said: str) -> ApiError:
    return (Gone if status == 410 else ApiError)(status, said[:300])


def _message(body: bytes) -> str:
    with contextlib.suppress(ValueError):
        told = json.loads(body)
        if isinstance(told, dict):
            return str(told.get("message", ""))
    return body.decode("utf-8", "replace").strip()


def _keep_alive(sock: socket.socket) -> None:
    """A peer that vanished without a word is noticed within half a minute, not after two hours."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
