"""Argo CD: its applications, with their last operation and their history.

https://argo-cd.readthedocs.io/en/stable/developer-guide/api-docs/. An application object is what the adapter
reads; who misses notifications sees here what they would have told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploytrail.adapters.base import instant, items, mapping, text
from deploytrail.polling.api import Api
from deploytrail.polling.config import Watched
from deploytrail.polling.found import Asked, Found

EVERY_PROJECT = "*"


def headers(token: str) -> dict[str, str]:
    """What every request carries."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def poll(api: Api, watched: Watched, asked: Asked) -> Iterator[Found]:
    """Every application of a project, `*` for all: which of it is new, the ids of its records tell."""
    query = {} if asked.project == EVERY_PROJECT else {"projects": asked.project}
    latest = dict(thing.split("@", 1) for thing in asked.still_open if "@" in thing)
    for app in items(api.get("api/v1/applications", **query).value, "items"):
        if not isinstance(app, Mapping):
            continue
        uid = text(app, "metadata", "uid")
        for earlier in _earlier(app, asked.since, latest.get(uid, "")):
            yield Found({"app": earlier, "context": {"argocdUrl": watched.url}})
        # Never done with: the next round goes on behind the sync that this one saw last.
        mark = f"{uid}@{_mark(mapping(app, 'status', 'operationState'))}"
        yield Found({"app": app, "context": {"argocdUrl": watched.url}}, thing=mark, is_open=True)


def _mark(operation: Mapping[str, Any]) -> str:
    """When the latest sync began, and a sign behind it where it had ended."""
    return text(operation, "startedAt") + ("" if text(operation, "phase") in ("", "Running", "Terminating") else "!")


def _earlier(app: Mapping[str, Any], since: int, mark: str) -> Iterator[dict[str, Any]]:
    """The application as it was when each sync between the one of `mark` and the latest had succeeded.

    The history lists only syncs that succeeded, without the health behind them. Without a mark: those that ended since.
    """
    latest = text(app, "status", "operationState", "startedAt")
    seen = instant(mark.removesuffix("!"))
    for entry in items(app, "status", "history"):
        began = instant(entry, "deployStartedAt")
        if began is None or text(entry, "deployStartedAt") == latest:
            continue
        if seen is not None:
            is_new = began > seen or (began == seen and not mark.endswith("!"))
        else:
            is_new = (instant(entry, "deployedAt") or 0) >= since
        if is_new:
            operation = {
                "phase": "Succeeded",
                "startedAt": entry["deployStartedAt"],
                "finishedAt": entry.get("deployedAt"),
                "operation": {"initiatedBy": mapping(entry, "initiatedBy")},
                "syncResult": {name: entry[name] for name in _RESULT if name in entry},
            }
            yield {**app, "status": {"operationState": operation, "history": items(app, "status", "history")}}


_RESULT = ("revision", "revisions", "source", "sources")
