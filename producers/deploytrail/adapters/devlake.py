"""Apache DevLake's webhooks: its bodies of deployments and incidents, for those who used to send them there.

https://devlake.apache.org/docs/Plugins/webhook: POST …/deployments and …/issues, with a bearer token. A deployment is
sent once it has finished, so that it becomes its start and its end. Each repository of `deploymentCommits` is a
component of its own, whose name is the repository's; the names of before v1.0 (`start_time`, `repo_url`, …) are read
too. As in DevLake, the environment is PRODUCTION where neither the body nor the webhook's URL names one. Of issues only
incidents are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._repositories import repository_of
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    instant,
    items,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "devlake"
# https://github.com/apache/incubator-devlake: core/models/domainlayer/devops. No result is a success.
STATUSES = {
    "": "succeeded",
    "SUCCESS": "succeeded",
    "FAILURE": "failed",
    "ABORT": "cancelled",
    "MANUAL": "queued",
}
# Statuses of issues, and what each is of the incident.
ISSUES = {"TODO": "incident_opened", "IN_PROGRESS": "incident_opened", "DONE": "incident_resolved"}
SEVERITIES = {"blocker": "critical", "critical": "critical", "highest": "critical", "high": "error", "major": "error",
              "error": "error", "medium": "warning", "warning": "warning", "minor": "warning", "low": "info",
              "lowest": "info", "trivial": "info", "info": "info"}  # fmt: skip
PRODUCTION = "PRODUCTION"
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """Two events of each repository that was deployed; of an incident one signal, and one more where it is done."""
    del headers
    if _said(payload, "issueKey", "issue_key"):
        return _issue(payload, defaults, received_at)
    begun = _time(payload, "startedDate", "start_time")
    if begun is None:
        raise AdapterError("expected a DevLake deployment with startedDate, or an issue with issueKey")
    given = items(payload, "deploymentCommits") or items(payload, "deployment_commits")
    commits = [commit for commit in given if _said(commit, "repoUrl", "repo_url")]
    if not commits and _said(payload, "repoUrl", "repo_url"):
        commits = [payload]
    if not commits:
        raise AdapterError("the deployment names no repository: deploymentCommits is empty")
    # Several commits of one repository are one change of one component; the last is what was deployed.
    by_repository = {repository_of(_said(commit, "repoUrl", "repo_url")): commit for commit in commits}
    return Adapted(
        tuple(
            event
            for repository, commit in by_repository.items()
            for event in _deployment(payload, commit, repository, len(by_repository) == 1, defaults)
        )
    )


def _deployment(
    payload: Payload, commit: Payload, repository: str, alone: bool, defaults: Defaults
) -> list[tuple[RecordType, dict[str, Any]]]:
    sha = _said(commit, "commitSha", "commit_sha")
    number = first(text(payload, "id"), text(payload, "pipeline_id"))
    begun = _time(commit, "startedDate", "start_time") or _time(payload, "startedDate", "start_time")
    ended = _time(commit, "finishedDate", "end_time") or _time(payload, "finishedDate", "end_time")
    known_as = ":".join(filter(None, (number or str(begun), repository, "" if number else sha)))
    result = first(text(commit, "result"), text(payload, "result")).upper()
    event_type = STATUSES.get(result, "unknown")
    running = text(commit, "status").upper() == "IN_PROGRESS" or ended is None
    times = [("started", begun, "")] + ([] if running else [(event_type, ended, result)])
    name = first(text(payload, "displayTitle"), text(payload, "name"))
    return [
        record(
            RecordType.DEPLOYMENT_EVENT,
            NAME,
            (known_as, kind, raw),
            placed(
                defaults,
                NAME,
                environment=first(
                    text(payload, "environment"),
                    text(payload, "originalEnvironment"),
                    defaults.environment,
                    PRODUCTION,
                ),
                service=first(defaults.service if alone else "", repository.rpartition("/")[2]),
            ),
            event_type=kind,
            deployment_id=f"{NAME}:{known_as}",
            occurred_at=at,
            version=first(_said(commit, "refName", "ref_name"), sha),
            commit_sha=sha,
            repository=repository,
            ref=_said(commit, "refName", "ref_name"),
            build_url=text(payload, "url"),
            raw_status=raw,
            tags=texts(
                deployment=number,
                name=name,
                title=first(text(commit, "displayTitle"), _said(commit, "commitMsg", "commit_msg")),
            ),
        )
        for kind, at, raw in times
    ]


def _issue(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    kind, key = text(payload, "type").upper(), _said(payload, "issueKey", "issue_key")
    if kind != "INCIDENT":
        return Adapted(ignored=f"an issue of type {kind or 'none'} is no incident")
    status = text(payload, "status").upper()
    begun = _time(payload, "createdDate", "created_date")
    signal_type = ISSUES.get(status, "unknown")
    ended = None
    if signal_type == "incident_resolved":
        ended = _time(payload, "resolutionDate", "resolution_date") or _time(payload, "updatedDate", "updated_date")
        ended = ended or received_at
    opened = "incident_opened" if signal_type == "incident_resolved" else signal_type
    times = [(opened, begun or received_at)] + ([] if ended is None else [(signal_type, ended)])
    severity = first(text(payload, "severity"), text(payload, "priority"))
    place = placed(
        defaults,
        NAME,
        environment=first(defaults.environment, PRODUCTION),
        service=first(text(payload, "component"), defaults.service),
    )
    return Adapted(
        tuple(
            record(
                RecordType.SIGNAL,
                NAME,
                (key, what, "" if what != "unknown" else status),
                place,
                signal_type=what,
                occurred_at=at,
                fingerprint=key,
                severity=SEVERITIES.get(severity.lower(), "unknown"),
                title=first(text(payload, "title"), key),
                started_at=begun,
                ended_at=ended if what == "incident_resolved" else None,
                incident_id=key,
                ticket_id=key,
                labels=texts(
                    status=status,
                    original_status=_said(payload, "originalStatus", "original_status"),
                    severity=severity,
                    url=text(payload, "url"),
                ),
            )
            for what, at in times
        )
    )


def _said(value: object, name: str, older: str) -> str:
    return first(text(value, name), text(value, older))


def _time(value: object, name: str, older: str) -> int | None:
    found = instant(value, name)
    return instant(value, older) if found is None else found


SOURCE = Source(
    name=NAME,
    title="Apache DevLake webhooks",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "commit_sha", "repository", "ref", "build_url", "raw_status", "tags"),
            never=("region",),
        ),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "incident_id", "ticket_id", "labels"),
            never=("region",),
        ),
    },
)
