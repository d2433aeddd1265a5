"""GitHub and GitHub Enterprise webhooks: deployments, their statuses and reviews.

https://docs.github.com/en/webhooks/webhook-events-and-payloads. The service is the repository's
name, or the `service` of the deployment's payload; the region is in its `region`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    OTHER_REGION,
    UNKNOWN_PLACE,
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    instant,
    mapping,
    text,
)

NAME = "github"
# https://docs.github.com/en/rest/deployments/statuses; GitHub sends no webhook for inactive.
STATUSES = {
    "error": "failed",
    "failure": "failed",
    "in_progress": "started",
    "inactive": "unknown",
    "pending": "queued",
    "queued": "queued",
    "success": "succeeded",
    "waiting": "queued",
}
REVIEWS = {"requested": "requested", "approved": "approved", "rejected": "rejected"}
_DEPLOYERS = {"User": "person", "Bot": "automation", "Organization": "automation"}


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """`headers` by lower-case name; the event's name is in X-GitHub-Event."""
    if not isinstance(payload, Mapping):
        raise AdapterError("a GitHub webhook is a JSON object")
    name = headers.get("x-github-event", "") or _guess(payload)
    if name == "deployment_status":
        return _status(payload, defaults, received_at)
    if name == "deployment":
        return _deployment(payload, defaults, received_at)
    if name == "deployment_review":
        return _review(payload, defaults, received_at)
    return Adapted(ignored=f"GitHub's {name or 'unnamed'} event says nothing of a deployment")


def _guess(payload: Mapping[str, Any]) -> str:
    # Enterprise proxies drop headers; the payload tells which event it is.
    if "deployment_status" in payload:
        return "deployment_status"
    return "deployment" if "deployment" in payload and "workflow_job" not in payload else ""


def _deployment(payload: Mapping[str, Any], defaults: Defaults, received_at: int) -> Adapted:
    deployment = mapping(payload, "deployment")
    number = _id_of(deployment, "deployment")
    event = _common(payload, deployment, defaults)
    event |= {
        "event_id": name_based_id(NAME, _host(deployment), "deployment", number),
        "event_type": "queued",
        "occurred_at": instant(deployment, "created_at") or received_at,
        "raw_status": first(text(payload, "action"), "created"),
    }
    return Adapted(((RecordType.DEPLOYMENT_EVENT, event),))


def _status(payload: Mapping[str, Any], defaults: Defaults, received_at: int) -> Adapted:
    status, deployment = mapping(payload, "deployment_status"), mapping(payload, "deployment")
    number, _ = _id_of(status, "deployment_status"), _id_of(deployment, "deployment")
    state = text(status, "state")
    event = _common(payload, deployment, defaults)
    event |= {
        "event_id": name_based_id(NAME, _host(deployment), "deployment_status", number),
        "event_type": STATUSES.get(state, "unknown"),
        "occurred_at": instant(status, "created_at") or received_at,
        "raw_status": state,
        "build_url": first(text(status, "log_url"), text(status, "target_url")),
    }
    if event["event_type"] == "failed":
        event["error"] = text(status, "description")
    if environment := text(status, "environment"):
        event["environment"] = environment
    return Adapted(((RecordType.DEPLOYMENT_EVENT, event),))


def _review(payload: Mapping[str, Any], defaults: Defaults, received_at: int) -> Adapted:
    action = text(payload, "action")
    if action not in REVIEWS:
        return Adapted(ignored=f"GitHub's deployment_review action {action!r} is no step of an approval")
    run = mapping(payload, "workflow_run")
    environment = first(text(payload, "environment"), defaults.environment, UNKNOWN_PLACE)
    repository = text(payload, "repository", "name")
    approval = {
        "approval_id": name_based_id(NAME, _host(run), "deployment_review", text(run, "id"), environment, action),
        "approval_type": REVIEWS[action],
        "occurred_at": instant(payload, "since") or received_at,
        "region": defaults.region or OTHER_REGION,
        "environment": environment,
        "service": first(defaults.service, repository, UNKNOWN_PLACE),
        "producer_id": f"{NAME}:{_host(run)}",
        "approver": text(payload, "approver", "login"),
        "justification": text(payload, "comment"),
        "source": NAME,
        "tags": _tags({"workflow_run": text(run, "id"), "requestor": text(payload, "requestor", "login")}),
    }
    return Adapted(((RecordType.APPROVAL, approval),))


def _common(payload: Mapping[str, Any], deployment: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    own = _own_payload(deployment.get("payload"))
    repository = mapping(payload, "repository")
    task = text(deployment, "task")
    run = mapping(payload, "workflow_run")
    host = _host(deployment)
    return {
        "deployment_id": f"{NAME}:{host}:{text(deployment, 'id')}",
        "region": first(text(own, "region"), defaults.region, OTHER_REGION),
        "environment": first(text(deployment, "environment"), defaults.environment, UNKNOWN_PLACE),
        "service": first(text(own, "service"), defaults.service, text(repository, "name"), UNKNOWN_PLACE),
        "producer_id": f"{NAME}:{host}",
        "kind": "rollback" if task.startswith("rollback") else "release" if task == "deploy" else "unknown",
        "version": first(text(own, "version"), text(deployment, "ref")),
        "commit_sha": text(deployment, "sha"),
        "repository": text(repository, "full_name"),
        "ref": text(deployment, "ref"),
        "build_system": "github_actions" if run else "",
        "build_id": text(run, "id"),
        "pipeline": text(mapping(payload, "workflow"), "name"),
        "deployer": text(deployment, "creator", "login"),
        "deployer_type": _DEPLOYERS.get(text(deployment, "creator", "type"), "unknown"),
        "source": NAME,
        "tags": _tags({"task": task, "description": text(deployment, "description")}),
    }


def _own_payload(given: object) -> Mapping[str, Any]:
    """What the deployment's creator put into it: an object, or the text of one."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    return given if isinstance(given, Mapping) else {}


def _id_of(thing: Mapping[str, Any], name: str) -> str:
    number = text(thing, "id")
    if not number:
        raise AdapterError(f"the payload's {name} has no id")
    return number


def _host(thing: Mapping[str, Any]) -> str:
    """Which GitHub it is: ids are unique only there."""
    try:
        return urlsplit(text(thing, "url")).hostname or "api.github.com"
    except ValueError:
        return "api.github.com"


def _tags(given: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if value}


SOURCE = Source(
    name=NAME,
    title="GitHub and GitHub Enterprise",
    adapt=adapt,
    signature="github",
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: frozenset(
            {
                *("event_id", "event_type", "deployment_id", "occurred_at", "region", "environment", "service"),
                *("producer_id", "kind", "version", "commit_sha", "repository", "ref", "build_system", "build_id"),
                *("build_url", "pipeline", "deployer", "deployer_type", "source", "error", "raw_status", "tags"),
            }
        ),
        RecordType.APPROVAL: frozenset(
            {
                *("approval_id", "approval_type", "occurred_at", "region", "environment", "service", "producer_id"),
                *("approver", "justification", "source", "tags"),
            }
        ),
    },
)
