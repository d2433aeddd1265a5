"""A server that answers lists and watches as the Kubernetes API does: pages, streams in chunks, bookmarks, 410 Gone."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KINDS = {
    "/apis/apps/v1/deployments": "Deployment",
    "/apis/apps/v1/statefulsets": "StatefulSet",
    "/apis/apps/v1/daemonsets": "DaemonSet",
    "/apis/apps/v1/replicasets": "ReplicaSet",
    "/apis/batch/v1/jobs": "Job",
    "/apis/batch/v1/cronjobs": "CronJob",
    "/api/v1/pods": "Pod",
}
PATHS = {kind: path for path, kind in KINDS.items()}
PAGE = 2


class KubeApi:
    """A cluster. `requests` has the path and query of each that it answered with 200."""

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.refused = 0
        self._version = 100
        self._oldest = 0
        self._objects: dict[str, dict[str, dict[str, Any]]] = {path: {} for path in KINDS}
        self._log: list[tuple[int, str, str, dict[str, Any]]] = []
        self._changed = threading.Condition()
        self._cut: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self.closing = False

    def put(self, obj: dict[str, Any]) -> None:
        """Create an object or change it; watches are told."""
        with self._changed:
            path, name = PATHS[obj["kind"]], obj["metadata"]["uid"]
            word = "MODIFIED" if name in self._objects[path] else "ADDED"
            self._tell(path, word, obj)
            self._objects[path][name] = self._log[-1][3]

    def delete(self, obj: dict[str, Any]) -> None:
        """Remove an object; watches are told."""
        with self._changed:
            path = PATHS[obj["kind"]]
            del self._objects[path][obj["metadata"]["uid"]]
            self._tell(path, "DELETED", obj)

    def bookmark(self, kind: str) -> None:
        """Tell the watches of a kind how far they are."""
        with self._changed:
            self._tell(PATHS[kind], "BOOKMARK", {"kind": kind, "metadata": {}})

    def forget(self) -> None:
        """What was told so far can no longer be watched from: 410 Gone."""
        with self._changed:
            self._oldest = self._version
            self._log.clear()

    def cut(self, kind: str, *, after_bytes: int = 0) -> None:
        """End the connections of a kind's watches, in the middle of the next event where `after_bytes` says so."""
        with self._changed:
            self._cut[PATHS[kind]] = after_bytes
            self._changed.notify_all()

    def watches(self, kind: str) -> list[str]:
        """The versions that a kind was watched from."""
        return [q["resourceVersion"] for path, q in self.requests if path == PATHS[kind] and "watch" in q]

    def lists(self, kind: str) -> int:
        """How many pages of a kind were listed."""
        return sum(path == PATHS[kind] and "watch" not in q for path, q in self.requests)

    def has_told(self, kind: str) -> bool:
        """Whether a watch of a kind was sent all that there is to tell; the client reads it before the end of it."""
        told = [version for version, path, _, _ in self._log if path == PATHS[kind]]
        return not told or self._sent.get(PATHS[kind], 0) >= told[-1]

    def _tell(self, path: str, word: str, obj: dict[str, Any]) -> None:
        self._version += 1
        told = copy.deepcopy(obj)
        told["metadata"]["resourceVersion"] = str(self._version)
        self._log.append((self._version, path, word, told))
        self._changed.notify_all()

    def page(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """A page of a list; its objects do not say their kind."""
        with self._changed:
            begin = int(query.get("continue", "0"))
            found = list(self._objects[path].values())
            part = [
                {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in found[begin : begin + PAGE]
            ]
            meta = {"resourceVersion": str(self._version)}
            if begin + PAGE < len(found):
                meta["continue"] = str(begin + PAGE)
            return {"kind": f"{KINDS[path]}List", "metadata": meta, "items": part}

    def stream(self, path: str, since: int) -> Iterator[bytes]:
        """Events of a watch, each a line; ends where the connection is cut."""
        if since < self._oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": f"too old resource version: {since}"}
            yield json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"
            return
        while not self.closing:
            with self._changed:
                fresh = [entry for entry in self._log if entry[0] > since and entry[1] == path]
                if path in self._cut and (self._cut[path] == 0 or fresh):
                    half = self._cut.pop(path)
                    if half:
                        yield json.dumps({"type": fresh[0][2], "object": fresh[0][3]}).encode()[:half]
                    return
                if not fresh:
                    self._changed.wait(0.2)
                    continue
            for version, _, word, obj in fresh:
                since = version
                yield json.dumps({"type": word, "object": obj}).encode() + b"\n"
                self._sent[path] = version


@contextmanager
def kube_api(token: str = "") -> Iterator[KubeApi]:
    api = KubeApi()
    api.token = token

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            if api.token and self.headers["Authorization"] != f"Bearer {api.token}":
                api.refused += 1
                self._answer(401, {"kind": "Status", "code": 401, "message": "Unauthorized"})
            elif parts.path not in KINDS:
                self._answer(404, {"kind": "Status", "code": 404, "message": "not found"})
            elif query.get("watch"):
                api.requests.append((parts.path, query))
                self._stream(parts.path, int(query["resourceVersion"]))
            else:
                api.requests.append((parts.path, query))
                self._answer(200, api.page(parts.path, query))

        def _stream(self, path: str, since: int) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            whole = True
            for line in api.stream(path, since):
                whole = line.endswith(b"\n")
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            if whole:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield api
    finally:
        api.closing = True
        server.shutdown()
        server.server_close()
        thread.join()
