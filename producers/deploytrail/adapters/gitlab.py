"""GitLab webhooks: deployments, jobs, pipelines, releases and feature flags.

https://docs.gitlab.com/user/project/integrations/webhook_events/. A deployment is known by its job, which deployment,
job and pipeline events all name: any or all of them may be sent. Only where the webhook's URL names an environment is
a release a deployment of its own, and a pipeline one whose jobs name none, if its own name or one of its stages or jobs
says that it deploys; a child pipeline is a part of its parent. The service is the last part of the project's path; the
region comes from the webhook's URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    committed_at,
    deployer,
    first,
    host_of,
    instant,
    items,
    mapping,
    placed,
    record,
    says_deploy,
    text,
    texts,
    usual,
)

NAME = "gitlab"
# https://docs.gitlab.com/api/deployments/ and https://docs.gitlab.com/ci/jobs/#available-job-statuses. What waits for
# a person is registered, not queued: nobody may ever start it, and it is not lost then.
STATUSES = {
    "blocked": "registered",
    "canceled": "cancelled",
    "canceling": "progressed",
    "created": "registered",
    "failed": "failed",
    "manual": "registered",
    "pending": "queued",
    "preparing": "queued",
    "running": "started",
    "scheduled": "queued",
    "skipped": "cancelled",
    "success": "succeeded",
    "waiting_for_resource": "queued",
    # of feature flags
    "active": "succeeded",
    "inactive": "succeeded",
    # of releases
    "create": "succeeded",
}
# https://docs.gitlab.com/ci/yaml/#environmentaction
ACTIONS = {
    "access": "it only uses the environment",
    "prepare": "it makes the environment ready",
    "stop": "it takes the environment down",
    "verify": "it looks whether the environment is well",
}
RELEASES = {"delete": "what runs stays as it is", "update": "its text changes nothing"}
_ENDS = ("succeeded", "failed", "cancelled")
_OF_MERGE_REQUESTS = ("merge_request_event", "external_pull_request_event")
# https://docs.gitlab.com/user/project/settings/project_access_tokens/#bot-users-for-projects
_BOT = re.compile(r"(project|group)_\d+_bot(_\w+)?", re.ASCII)

Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The event's name is `object_kind`; a change of a flag is known by the header Idempotency-Key."""
    if not isinstance(payload, Mapping):
        raise AdapterError("a GitLab webhook is a JSON object")
    kind = text(payload, "object_kind")
    if kind == "deployment":
        return _deployment(payload, defaults, received_at)
    if kind == "build":
        return _job(payload, defaults, received_at)
    if kind == "pipeline":
        return _pipeline(payload, defaults, received_at)
    if kind == "release":
        return _release(payload, defaults, received_at)
    if kind == "feature_flag":
        return _feature_flag(payload, headers, defaults, received_at)
    return Adapted(ignored=f"GitLab's {kind or 'unnamed'} event says nothing of a deployment")


def _deployment(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    job, number = text(payload, "deployable_id"), text(payload, "deployment_id")
    if not job and not number:
        raise AdapterError("the payload has neither deployable_id nor deployment_id")
    url = text(payload, "project", "web_url")
    event = _event(
        "deployment",
        job or f"deployment-{number}",
        text(payload, "status"),
        _placed(defaults, url, text(payload, "environment")),
        occurred_at=instant(payload, "status_changed_at") or received_at,
        version=text(payload, "ref"),
        commit_sha=text(payload, "commit_url").rpartition("/")[2],
        repository=_path(payload, url),
        ref=text(payload, "ref"),
        build_url=text(payload, "deployable_url"),
        tags=texts(environment_tier=text(payload, "environment_tier"), title=text(payload, "commit_title")),
        **_deployer(payload),
    )
    return Adapted((event,))


def _job(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    if reason := _deploys_nothing(payload):
        return Adapted(ignored=reason)
    if not text(payload, "build_id"):
        raise AdapterError("the payload has no build_id")
    url = text(payload, "repository", "homepage")
    said = {
        "id": payload.get("build_id"),
        "name": payload.get("build_name"),
        "stage": payload.get("build_stage"),
        "status": payload.get("build_status"),
        "created_at": payload.get("build_created_at"),
        "started_at": payload.get("build_started_at"),
        "finished_at": payload.get("build_finished_at"),
        "failure_reason": payload.get("build_failure_reason"),
        "environment": payload.get("environment"),
    }
    event = _job_event(
        said,
        _placed(defaults, url, text(payload, "environment", "name")),
        received_at,
        version=text(payload, "ref"),
        commit_sha=text(payload, "sha"),
        repository=_path(payload, url),
        ref=text(payload, "ref"),
        build_id=text(payload, "pipeline_id"),
        **_deployer(payload),
    )
    return Adapted((event,))


def _pipeline(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    """Of the jobs that deploy; where no job does, and the webhook's URL names an environment, of the pipeline."""
    pipeline, url = mapping(payload, "object_attributes"), text(payload, "project", "web_url")
    if not text(pipeline, "id"):
        raise AdapterError("the payload's pipeline has no id")
    when_committed = committed_at(payload.get("commit"), text(pipeline, "sha"))
    known = {
        "version": text(pipeline, "ref"),
        "commit_sha": text(pipeline, "sha"),
        "repository": _path(payload, url),
        "ref": text(pipeline, "ref"),
        "build_id": text(pipeline, "id"),
        "build_number": text(pipeline, "iid"),
    }
    jobs = [job for job in items(payload, "builds") if not _deploys_nothing(job) and text(job, "id")]
    if jobs:
        return Adapted(
            tuple(
                _job_event(
                    job,
                    _placed(defaults, url, text(job, "environment", "name")),
                    received_at,
                    when_committed,
                    **known,
                    **(_deployer(job) or _deployer(payload)),
                )
                for job in jobs
            )
        )
    if not defaults.environment:
        return Adapted(ignored="no job of the pipeline names an environment, and neither does the webhook's URL")
    if _is_child(payload):
        return Adapted(ignored="a child pipeline is a part of its parent")
    if text(pipeline, "source") in _OF_MERGE_REQUESTS:
        return Adapted(ignored="a pipeline of a merge request deploys nothing")
    names = (text(job, name) for job in items(payload, "builds") for name in ("name", "stage"))
    if not says_deploy(text(pipeline, "name"), *names):
        return Adapted(ignored="no name of the pipeline, its stages or its jobs says that it deploys")
    status = text(pipeline, "status")
    ended = instant(pipeline, "finished_at") if STATUSES.get(status) in _ENDS else None
    event = _event(
        "pipeline",
        f"pipeline-{text(pipeline, 'id')}",
        status,
        _placed(defaults, url),
        occurred_at=ended or (instant(pipeline, "created_at") if status == "created" else None) or received_at,
        build_system="gitlab_ci",
        build_url=text(pipeline, "url"),
        pipeline=text(pipeline, "name"),
        tags=texts(committed_at=when_committed),
        **known,
        **_deployer(payload, bot=text(pipeline, "source") == "schedule"),
    )
    return Adapted((event,))


def _release(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    if not defaults.environment:
        return Adapted(ignored="a release says what may be deployed; the webhook's URL names no environment for it")
    action = text(payload, "action")
    if action != "create":
        return Adapted(ignored=f"to {action or 'change'} a release: {RELEASES.get(action, 'it puts no version out')}")
    released = instant(payload, "released_at") or received_at
    if released > received_at:
        return Adapted(ignored="the release is planned for later")
    url = text(payload, "project", "web_url")
    if not text(payload, "id"):
        raise AdapterError("the payload's release has no id")
    event = _event(
        "release",
        f"release-{text(payload, 'id')}",
        action,
        _placed(defaults, url),
        occurred_at=released,
        kind="release",
        version=text(payload, "tag"),
        commit_sha=text(payload, "commit", "id"),
        repository=_path(payload, url),
        ref=text(payload, "tag"),
        artifact_uri=text(payload, "url"),
        tags=texts(committed_at=committed_at(payload.get("commit"), text(payload, "commit", "id"))),
    )
    return Adapted((event,))


def _feature_flag(payload: Payload, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    flag, url = mapping(payload, "object_attributes"), text(payload, "project", "web_url")
    name, number = text(flag, "name"), text(flag, "id")
    if not name or not number or not isinstance(flag.get("active"), bool):
        raise AdapterError("the payload's feature flag has no id, name or active")
    state = "active" if flag["active"] else "inactive"
    # GitLab gives a change of a flag neither id nor time: its delivery's key stays the same when it is tried again,
    # and older versions send none, so that the same state within one second is one change there.
    key = first(headers.get("idempotency-key", ""), headers.get("webhook-id", ""))[:64]
    event = _event(
        "feature_flag",
        f"flag-{number}-{key or received_at // 1_000_000}",
        state,
        _placed(defaults, url),
        occurred_at=received_at,
        kind="feature_flag",
        repository=_path(payload, url),
        config_changes={name: state},
        **_deployer(payload),
    )
    return Adapted((event,))


def _deploys_nothing(job: object) -> str:
    """Why a job, of a job or a pipeline event, deploys nothing; empty where it does."""
    environment = mapping(job, "environment")
    if not text(environment, "name"):
        return "a job without an environment deploys nothing"
    action = text(environment, "action")
    if action in ("", "start"):
        return ""
    return f"a job whose environment's action is {action}: {ACTIONS.get(action, 'it deploys nothing')}"


def _job_event(
    job: Payload, place: dict[str, str], received_at: int, when_committed: str = "", **known: str
) -> tuple[RecordType, dict[str, Any]]:
    """The same event, whether a job event or a pipeline event tells of it."""
    status = text(job, "status")
    means = STATUSES.get(status)
    moment = {"registered": "created_at", "started": "started_at"} | dict.fromkeys(_ENDS, "finished_at")
    return _event(
        "job",
        text(job, "id"),
        status,
        place,
        occurred_at=instant(job, moment.get(means or "", "")) or received_at,
        build_system="gitlab_ci",
        job=text(job, "name"),
        stage=text(job, "stage"),
        error=text(job, "failure_reason") if means == "failed" else "",
        tags=texts(environment_tier=text(job, "environment", "deployment_tier"), committed_at=when_committed),
        **known,
    )


def _event(
    told_by: str, number: str, status: str, place: dict[str, str], **fields: Any
) -> tuple[RecordType, dict[str, Any]]:
    host = place["producer_id"]
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, told_by, number, status),
        place,
        event_type=STATUSES.get(status, "unknown"),
        deployment_id=f"{host}:{number}",
        raw_status=status,
        **fields,
    )


def _placed(defaults: Defaults, url: str, environment: str = "") -> dict[str, str]:
    """Where a project at `url` is deployed."""
    service = first(defaults.service, url.rstrip("/").rpartition("/")[2])
    return placed(defaults, NAME, environment=environment, service=service, host=host_of(url))


def _path(payload: Payload, url: str) -> str:
    """group/project."""
    try:
        return first(text(payload, "project", "path_with_namespace"), urlsplit(url).path.strip("/"))
    except ValueError:
        return ""


def _is_child(payload: Payload) -> bool:
    """Whether the pipeline's parent is of the same project; one that another project triggers is no child."""
    if text(payload, "object_attributes", "source") == "parent_pipeline":
        return True
    parent = text(payload, "source_pipeline", "project", "id")
    return bool(parent) and parent == text(payload, "project", "id")


def _deployer(said: Payload, *, bot: bool = False) -> dict[str, str]:
    name = first(text(said, "user", "username"), text(said, "user", "name"))
    return deployer(name, bot=bot or bool(_BOT.fullmatch(name)))


SOURCE = Source(
    name=NAME,
    title="GitLab",
    adapt=adapt,
    signature="gitlab",
    # Not X-Gitlab-Event-UUID: hooks that a hook set off share it.
    delivery=("webhook-id", "idempotency-key"),
    statuses=STATUSES,
    ignored=ACTIONS | {f"release {action}": why for action, why in RELEASES.items()},
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "version", "artifact_uri", "commit_sha", "repository", "ref", "build_system", "build_id"),
            *("build_number", "build_url", "pipeline", "job", "stage", "deployer", "deployer_type", "error"),
            *("raw_status", "config_changes", "tags"),
            never=("region",),
        )
    },
)
