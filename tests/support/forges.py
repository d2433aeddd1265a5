"""Local servers that answer as the APIs of GitHub, GitLab, Jenkins and Argo CD do, as far as pollers ask.

Conditional requests and limits follow https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
(a 304 costs nothing) and https://docs.gitlab.com/security/rate_limits/; pages are linked by RFC 8288.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

TOKEN = "let-me-in"
Query = dict[str, str]
Answer = Callable[..., Any]


def stamp(seconds: float, offset: str = "Z") -> str:
    """Seconds since the epoch as the APIs write them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + offset


@dataclass
class Forge:
    """One server. `routes`: pattern of a path → function of its groups and the query. `asked`: (path, status) of every
    request. `limit`: requests that are still granted; `trouble`: statuses to answer next, before all else."""

    routes: list[tuple[str, Answer]]
    credential: tuple[str, str]
    url: str = ""
    asked: list[tuple[str, int]] = field(default_factory=list)
    limit: int = 5000
    reset_in: float = 1.0
    limit_header: str = "X-RateLimit"
    clock: Callable[[], float] = time.time
    trouble: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    def statuses(self, path: str = "") -> list[int]:
        """What the requests for a path were answered."""
        return [status for asked, status in self.asked if path in asked]


def github(deployments: list[dict[str, Any]], statuses: dict[int, list[dict[str, Any]]]) -> Forge:
    """Deployments of any repository, and the statuses of each; both are listed newest first."""

    def listed(_: str, query: Query) -> list[dict[str, Any]]:
        return sorted(deployments, key=lambda d: str(d["created_at"]), reverse=True)

    def one(_: str, number: str, query: Query) -> dict[str, Any] | None:
        return next((d for d in deployments if d["id"] == int(number)), None)

    def of_one(_: str, number: str, query: Query) -> list[dict[str, Any]]:
        return sorted(statuses.get(int(number), []), key=lambda s: int(s["id"]), reverse=True)

    base = r"/repos/([^/]+/[^/]+)/deployments"
    routes: list[tuple[str, Answer]] = [(base, listed), (rf"{base}/(\d+)", one), (rf"{base}/(\d+)/statuses", of_one)]
    return Forge(routes, ("authorization", f"Bearer {TOKEN}"))


def gitlab(project: dict[str, Any], deployments: list[dict[str, Any]]) -> Forge:
    """One project."""

    def listed(_: str, query: Query) -> list[dict[str, Any]] | int:
        if "updated_after" in query and query.get("order_by") != "updated_at":
            return 400  # "updated_at filter and updated_at sorting must be paired"
        after = query.get("updated_after", "")
        return sorted((d for d in deployments if d["updated_at"] >= after[:19]), key=lambda d: str(d["updated_at"]))

    base = r"/api/v4/projects/([^/]+)"
    return Forge(
        [(base, lambda *_, **__: project), (rf"{base}/deployments", listed)],
        ("private-token", TOKEN),
        limit_header="RateLimit",
    )


def jenkins(job: dict[str, Any]) -> Forge:
    """One job."""

    def builds(_: str, query: Query) -> dict[str, Any]:
        return job

    def one(_: str, number: str, query: Query) -> dict[str, Any] | None:
        return next((b for b in job["builds"] if b["number"] == int(number)), None)

    base = r"/((?:job/[^/]+/?)+?)"
    routes: list[tuple[str, Answer]] = [(rf"{base}/api/json", builds), (rf"{base}/(\d+)/api/json", one)]
    return Forge(routes, ("authorization", f"Basic {b64encode(f'bot:{TOKEN}'.encode()).decode()}"))


def argocd(applications: list[dict[str, Any]]) -> Forge:
    """Applications of any project."""
    return Forge(
        [("/api/v1/applications", lambda **_: {"metadata": {}, "items": applications})],
        ("authorization", f"Bearer {TOKEN}"),
    )


@contextmanager
def serving(forge: Forge) -> Iterator[Forge]:
    """The forge behind a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, value, headers = _answer(forge, parts.path, query, {k.lower(): v for k, v in self.headers.items()})
            forge.asked.append((unquote(self.path), status))
            body = b"" if status == 304 else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Type", "application/json")
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(forge: Forge, path: str, query: Query, given: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
    if forge.trouble:
        status, headers = forge.trouble.pop(0)
        return status, {"message": "trouble"}, headers
    name, expected = forge.credential
    if given.get(name) != expected:
        return 401, {"message": "Bad credentials"}, {}
    reset = {f"{forge.limit_header}-Reset": str(int(forge.clock() + forge.reset_in) + 1)}
    if forge.limit <= 0:
        return 403, {"message": "API rate limit exceeded"}, {f"{forge.limit_header}-Remaining": "0", **reset}
    for pattern, answer in forge.routes:
        if found := re.fullmatch(pattern, path):
            value = answer(*map(unquote, found.groups()), query=query)
            break
    else:
        value = None
    if value is None or isinstance(value, int):
        forge.limit -= 1
        return value or 404, {"message": "no"}, {f"{forge.limit_header}-Remaining": str(forge.limit), **reset}
    headers = dict(reset)
    if isinstance(value, list):
        value, more = _page(forge, path, query, value)
        headers |= more
    tag = f'W/"{hashlib.sha256(json.dumps(value).encode()).hexdigest()}"'
    fresh = given.get("if-none-match") != tag
    forge.limit -= fresh
    headers |= {"ETag": tag, f"{forge.limit_header}-Remaining": str(forge.limit)}
    return (200, value, headers) if fresh else (304, None, headers)


def _page(forge: Forge, path: str, query: Query, value: list[Any]) -> tuple[list[Any], dict[str, str]]:
    size, number = int(query.get("per_page", "20")), int(query.get("page", "1"))
    part = value[(number - 1) * size : number * size]
    if number * size >= len(value):
        return part, {}
    following = urlencode({**query, "page": str(number + 1)})
    return part, {"Link": f'<{forge.url}{path}?{following}>; rel="next", <{forge.url}{path}?page=9>; rel="last"'}
