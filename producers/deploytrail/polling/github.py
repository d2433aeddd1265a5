"""GitHub and GitHub Enterprise: deployments of repositories and their statuses.

https://docs.github.com/en/rest/deployments. A list is asked newest first and read until it is older
than what is wanted. `inactive` is left out: GitHub sends no webhook for it, it says of an older
deployment that a newer one succeeded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from deploytrail.adapters.base import instant, text
from deploytrail.polling.api import Api, NotThere
from deploytrail.polling.config import Watched
from deploytrail.polling.found import Asked, Found

_ENDS = {"success", "failure", "error", "inactive"}


def headers(token: str) -> dict[str, str]:
    """What every request carries."""
    said = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    return said | ({"Authorization": f"Bearer {token}"} if token else {})


def poll(api: Api, watched: Watched, asked: Asked) -> Iterator[Found]:
    """Deployments created since, and those that were open, each with its statuses in the order of their making."""
    del watched
    repository = {"name": asked.project.rpartition("/")[2], "full_name": asked.project}
    seen = set()
    for deployment in _since(api, asked):
        seen.add(text(deployment, "id"))
        yield from _of_one(api, repository, deployment)
    for number in asked.still_open:
        if number not in seen:
            with contextlib.suppress(NotThere):  # deleted meanwhile
                yield from _of_one(api, repository, api.get(f"repos/{asked.project}/deployments/{number}").value)


def _since(api: Api, asked: Asked) -> Iterator[Mapping[str, Any]]:
    for page in api.pages(f"repos/{asked.project}/deployments", per_page=100):
        for deployment in page.value:
            if (instant(deployment, "created_at") or asked.since) < asked.since:
                return
            yield deployment


def _of_one(api: Api, repository: Mapping[str, str], deployment: Mapping[str, Any]) -> Iterator[Found]:
    number = text(deployment, "id")
    path = f"repos/{repository['full_name']}/deployments/{number}/statuses"
    statuses = [status for page in api.pages(path, per_page=100) for status in page.value]
    ended = any(text(status, "state") in _ENDS for status in statuses)
    common = {"action": "created", "deployment": deployment, "repository": repository}
    payloads = [("deployment", common)]
    payloads += [
        ("deployment_status", common | {"deployment_status": status})
        for status in reversed(statuses)
        if text(status, "state") != "inactive"
    ]
    for event, payload in payloads:
        yield Found(payload, {"x-github-event": event}, thing=number, is_open=not ended)
