"""Following collections of a cluster: list, watch, and list again where the thread was lost."""

from __future__ import annotations

import http.client
import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.redaction import redact_text

from deploytrail.adapters.base import text
from deploytrail.kubernetes.api import Api, ApiError, Gone

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
# A collection that is missing or forbidden: somebody must act first.
_SLOW = {401, 403, 404}


class Follower(Protocol):
    """Is told of a collection."""

    def replace(self, collection: str, objects: list[dict[str, Any]]) -> None:
        """These are all objects of the collection; those that were known and are missing are gone."""
        ...

    def changed(self, collection: str, obj: dict[str, Any]) -> None:
        """An object was added or changed."""
        ...

    def deleted(self, collection: str, obj: dict[str, Any]) -> None:
        """An object is gone; it is told as it was last."""
        ...


class Watcher(threading.Thread):
    """Follows one collection until it is stopped."""

    def __init__(
        self, api: Api, collection: str, follower: Follower, clock: Callable[[], float] = random.random
    ) -> None:
        super().__init__(name=f"deploytrail-watch {collection}", daemon=True)
        self._api, self._collection, self._follower, self._chance = api, collection, follower, clock
        self._version = ""
        self._said = ""
        self.listed = threading.Event()
        self.stopping = threading.Event()

    def run(self) -> None:
        """List and watch; what goes wrong is said once and tried again, later each time."""
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            try:
                self._follow()
                pause = FIRST_PAUSE
                continue
            except Gone:
                self._version = ""
                why = ""
            except ApiError as error:
                why = str(error)
                if error.status in _SLOW:
                    pause = max(pause, 5.0)
            except (OSError, http.client.HTTPException, json.JSONDecodeError, DeploytrailError) as error:
                why = f"the API server cannot be reached: {error or type(error).__name__}"
            except Exception as error:  # an object of a shape that nobody thought of must not end the watch, unseen
                self._version = ""
                why = redact_text(f"something cannot be followed: {type(error).__name__}: {error}")
            self._say(why)
            self.stopping.wait(pause * (0.5 + self._chance() / 2))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _follow(self) -> None:
        if not self._version:
            objects, version = self._api.list(self._collection)
            self._follower.replace(self._collection, objects)
            self._version = version
            self.listed.set()
        for word, obj in self._api.watch(self._collection, self._version):
            if self.stopping.is_set():
                return
            if word in ("ADDED", "MODIFIED"):
                self._follower.changed(self._collection, obj)
            elif word == "DELETED":
                self._follower.deleted(self._collection, obj)
            self._said = ""
            self._version = text(obj, "metadata", "resourceVersion") or self._version

    def _say(self, why: str) -> None:
        if why and why != self._said:
            log.error("%s: %s; it is tried again", self._collection, why)
        self._said = why


def uid_of(obj: Mapping[str, Any]) -> str:
    """What Kubernetes calls an object, for good."""
    return text(obj, "metadata", "uid")
