"""Jenkins: builds of jobs, as the Notification plugin would have told of them.

https://www.jenkins.io/doc/book/using/remote-access-api/. The plugin tells only what happens while it is
set up and the network is there; the API keeps builds for as long as the job does.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from deploytrail.adapters.base import first, instant, items, mapping, text
from deploytrail.polling.api import Api, NotThere
from deploytrail.polling.config import Watched
from deploytrail.polling.found import Asked, Found

_BUILD = (
    "number,url,result,building,timestamp,duration,queueId,"
    "actions[parameters[name,value],causes[userId],lastBuiltRevision[SHA1,branch[name]],remoteUrls]"
)
MOST_BUILDS = 100


def headers(token: str) -> dict[str, str]:
    """What every request carries: `user:API token`, as HTTP Basic."""
    return {"Authorization": f"Basic {b64encode(token.encode()).decode()}"} if token else {}


def poll(api: Api, watched: Watched, asked: Asked) -> Iterator[Found]:
    """Builds begun since, newest first in Jenkins' list, and those that still ran."""
    del watched
    path = "/".join(f"job/{quote(part)}" for part in asked.project.split("/"))
    job = api.get(f"{path}/api/json", tree=f"name,fullName,url,builds[{_BUILD}]{{0,{MOST_BUILDS}}}").value
    seen = set()
    for build in items(job, "builds"):
        if (instant(build, "timestamp") or asked.since) < asked.since and text(build, "number") not in asked.still_open:
            continue
        seen.add(text(build, "number"))
        yield from _of_one(job, build)
    for number in asked.still_open:
        if number not in seen:
            with contextlib.suppress(NotThere):  # discarded meanwhile
                yield from _of_one(job, api.get(f"{path}/{number}/api/json", tree=_BUILD).value)


def _of_one(job: Mapping[str, Any], build: Mapping[str, Any]) -> Iterator[Found]:
    number = text(build, "number")
    running = build.get("building") is True or not text(build, "result")
    began = instant(build, "timestamp")
    yield Found(_payload(job, build, "STARTED", ""), at=began, thing=number, is_open=running)
    if not running:
        spent = build.get("duration")
        ended = began + int(spent) * 1000 if began is not None and isinstance(spent, (int, float)) else began
        yield Found(_payload(job, build, "COMPLETED", text(build, "result")), at=ended, thing=number)


def _payload(job: Mapping[str, Any], build: Mapping[str, Any], phase: str, status: str) -> dict[str, Any]:
    """As the plugin has it: https://plugins.jenkins.io/notification/."""
    actions = [action for action in items(build, "actions") if isinstance(action, Mapping)]
    parameters = {
        text(parameter, "name"): text(parameter, "value")
        for action in actions
        for parameter in items(action, "parameters")
        if text(parameter, "name")
    }
    causes = (text(cause, "userId") for action in actions for cause in items(action, "causes"))
    if user := first(*causes):
        parameters.setdefault("BUILD_USER_ID", user)
    scm: Mapping[str, Any] = next((action for action in actions if mapping(action, "lastBuiltRevision")), {})
    branches = items(scm, "lastBuiltRevision", "branch")
    told = {
        "full_url": text(build, "url"),
        "number": build.get("number"),
        "queue_id": build.get("queueId"),
        "timestamp": build.get("timestamp"),
        "phase": phase,
        "parameters": parameters,
        "scm": {
            "url": first(*(url for url in items(scm, "remoteUrls") if isinstance(url, str))),
            "branch": text(branches[0], "name").removeprefix("refs/remotes/") if branches else "",
            "commit": text(scm, "lastBuiltRevision", "SHA1"),
        },
    }
    return {"name": text(job, "name"), "url": text(job, "url"), "build": told | ({"status": status} if status else {})}
