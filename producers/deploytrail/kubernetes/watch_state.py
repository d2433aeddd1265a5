"""What a watch knows, and its file: a watch that starts again finds what happened meanwhile."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.kubernetes import rollouts
from deploytrail.kubernetes.rollouts import Place, Records, Seen
from deploytrail.kubernetes.watcher import uid_of
from deploytrail.kubernetes.workloads import SYSTEM_NAMESPACES, read_workload

log = logging.getLogger(__name__)
PODS = "/api/v1/pods"
COLLECTIONS = (
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/replicasets",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
    PODS,
)


class Trail:
    """Turns what a cluster tells into records. Told by several threads; `put` takes records without waiting."""

    def __init__(
        self,
        place_of: Callable[[], Place],
        put: Callable[[RecordType, dict[str, Any]], None],
        *,
        since_seconds: float,
        ignored: frozenset[str] = frozenset(),
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._place_of, self._put, self._now = place_of, put, now
        self._since = int(since_seconds * 1e6)
        self._ignored = SYSTEM_NAMESPACES | ignored
        self._seen: dict[str, Seen] = {}
        self._members: dict[str, dict[str, dict[str, Any]]] = {}
        self._running: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()
        self._dirty = False

    def replace(self, collection: str, objects: list[dict[str, Any]]) -> None:
        """See Follower."""
        with self._lock:
            at = self._now()
            known = self._members.get(collection)
            there = {uid_of(obj) for obj in objects}
            for uid, stub in list((known or {}).items()):
                if uid not in there:
                    self._gone(collection, stub, at)
            for obj in objects:
                # The first list of a process: what changed long ago is taken as it stands.
                self._change(collection, obj, at, since=at - self._since if known is None else None)
            self._members.setdefault(collection, {})

    def changed(self, collection: str, obj: dict[str, Any]) -> None:
        """See Follower."""
        with self._lock:
            self._change(collection, obj, self._now(), since=None)

    def deleted(self, collection: str, obj: dict[str, Any]) -> None:
        """See Follower."""
        with self._lock:
            self._gone(collection, obj, self._now())

    def load(self, path: Path) -> None:
        """Know what an earlier process knew; nothing where there is no such file."""
        try:
            self._seen = {
                uid: Seen(**{**value, "images": tuple(value["images"])})
                for uid, value in json.loads(path.read_text("utf-8")).items()
            }
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("%s cannot be read (%s): rollouts of the last hour are looked at instead", path, error)

    def save(self, path: Path) -> None:
        """Write what is known, where it changed; the file is replaced whole."""
        with self._lock:
            if not self._dirty:
                return
            if all(collection in self._members for collection in COLLECTIONS):
                there = {uid for members in self._members.values() for uid in members}
                self._seen = {uid: seen for uid, seen in self._seen.items() if uid in there}
            text = json.dumps({uid: asdict(seen) for uid, seen in self._seen.items()})
            self._dirty = False
        fresh = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            log.error("%s cannot be written: %s", path, error.strerror or error)

    def _change(self, collection: str, obj: dict[str, Any], at: int, *, since: int | None) -> None:
        workload = read_workload(obj)
        uid = workload.uid
        if not uid or workload.namespace in self._ignored:
            return
        place = self._place_of()
        self._members.setdefault(collection, {})[uid] = _stub(obj)
        if collection == PODS:
            self._running[uid], records = rollouts.running(obj, self._running.get(uid, frozenset()), place, at)
            self._tell(records)
        if workload.controller or not workload.images:
            return  # part of another's rollout
        before = self._seen.get(uid)
        seen, records = rollouts.judge(obj, before, place, at=at, since=since if before is None else None)
        if seen != before:
            self._seen[uid] = seen
            self._dirty = True
        self._tell(records)

    def _gone(self, collection: str, obj: dict[str, Any], at: int) -> None:
        uid = uid_of(obj)
        if self._members.get(collection, {}).pop(uid, None) is None:
            return
        place = self._place_of()
        if collection == PODS and self._running.pop(uid, frozenset()):
            self._tell(rollouts.pod_removed(obj, place, at))
        seen = self._seen.pop(uid, None)
        self._dirty = self._dirty or seen is not None
        if seen is not None:
            self._tell(rollouts.removed(obj, seen, place, at))

    def _tell(self, records: Records) -> None:
        for kind, value in records:
            self._put(kind, value)


def _stub(obj: dict[str, Any]) -> dict[str, Any]:
    """So much of an object as its removal tells."""
    meta = obj.get("metadata", {})
    kept = {name: meta[name] for name in ("name", "namespace", "uid", "generation", "labels") if name in meta}
    return {"kind": obj.get("kind", ""), "metadata": kept}
