"""The thread that follows a collection outlives whatever it finds there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from deploytrail.kubernetes.watcher import Watcher


class Cluster:
    """Lists one object, then tells of one change, whose object is given."""

    def __init__(self, changed: Any) -> None:
        self.changed, self.lists = changed, 0

    def list(self, _: str) -> tuple[list[dict[str, Any]], str]:
        self.lists += 1
        return [{"metadata": {"name": "a"}}], "1"

    def watch(self, _: str, version: str) -> Iterator[tuple[str, Any]]:
        yield "MODIFIED", self.changed


class Follower:
    """Reads names of objects, as long as they have one; `found` once it has been told of all of them twice."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.found = threading.Event()

    def replace(self, collection: str, objects: list[dict[str, Any]]) -> None:
        self.names += [obj["metadata"]["name"] for obj in objects]
        if len(self.names) > 1:
            self.found.set()

    def changed(self, collection: str, obj: dict[str, Any]) -> None:
        self.names.append(obj["metadata"]["name"].lower())

    deleted = changed


@pytest.mark.requirement("M8.6")
@pytest.mark.parametrize("changed", [{}, {"metadata": None}, {"metadata": {"name": 7}}, [], None])
def test_an_object_of_any_shape_ends_no_watch(changed: Any, caplog: pytest.LogCaptureFixture) -> None:
    follower, cluster = Follower(), Cluster(changed)
    watcher = Watcher(cluster, "deployments", follower, lambda: 0.0)  # type: ignore[arg-type]  # as far as it asks
    with caplog.at_level(logging.ERROR):
        watcher.start()
        listed_again = follower.found.wait(60)
    alive = watcher.is_alive()
    watcher.stopping.set()
    watcher.join(60)

    assert (listed_again, alive) == (True, True)
    assert follower.names[:2] == ["a", "a"]
    assert caplog.messages[0].startswith("deployments: something cannot be followed: ")
