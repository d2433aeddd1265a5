"""CircleCI webhooks: jobs that deploy, once they are over.

https://circleci.com/docs/reference/outbound-webhooks-reference/. CircleCI tells only of ends, and of no environment. A
job is a deployment where its name says that it deploys; the environment is the one in its name, or else the one in the
webhook's URL. A workflow is none: it fails where a test does, before anything is deployed. The start comes from
`started_at` of the same payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _repositories as repositories
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    environment_of,
    first,
    host_of,
    instant,
    mapping,
    moment,
    placed,
    record,
    says_deploy,
    text,
    texts,
    usual,
)

NAME = "circleci"
# https://circleci.com/docs/reference/outbound-webhooks-reference/#job, and those that the API knows besides
STATUSES = {
    "canceled": "cancelled",
    "error": "failed",
    "failed": "failed",
    "infrastructure_fail": "failed",
    "not_run": "cancelled",
    "running": "started",
    "success": "succeeded",
    "terminated-unknown": "unknown",
    "timedout": "failed",
    "unauthorized": "cancelled",  # it was not let begin
}

IGNORED = {"workflow-completed": "it fails where a test does; its jobs tell what was deployed"}


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The event's name is `type`."""
    del headers
    name, job = text(payload, "type"), mapping(payload, "job")
    if not name:
        raise AdapterError("a CircleCI webhook is a JSON object with type")
    if name != "job-completed":
        return Adapted(ignored=f"CircleCI's {name}: {IGNORED.get(name, 'it says nothing of a job that deploys')}")
    if not says_deploy(text(job, "name")):
        return Adapted(ignored="the job's name does not say that it deploys")
    environment = environment_of(text(job, "name"), defaults.environment)
    if not environment:
        return Adapted(ignored="neither the job's name nor the webhook's URL name an environment")
    number = text(job, "id")
    if not number:
        raise AdapterError("the payload's job has no id")
    url = text(payload, "workflow", "url")
    host = host_of(url)
    place = placed(
        defaults,
        NAME,
        environment=environment,
        service=first(defaults.service, text(payload, "project", "name")),
        host=host,
    )
    status = text(job, "status")
    event_type = STATUSES.get(status, "unknown")
    known = {"deployment_id": f"{NAME}:{host}:{number}", **_known(payload, job, url)}
    kind = RecordType.DEPLOYMENT_EVENT
    ended = instant(job, "stopped_at") or instant(payload, "happened_at") or received_at
    end = record(
        kind, NAME, (host, number, "end"), place, event_type=event_type, occurred_at=ended, raw_status=status, **known
    )
    began = instant(job, "started_at")
    # What was cancelled before it began has no start.
    if began is None or event_type == "started":
        return Adapted((end,))
    return Adapted(
        (record(kind, NAME, (host, number, "start"), place, event_type="started", occurred_at=began, **known), end)
    )


def _known(payload: Any, job: Mapping[str, Any], url: str) -> dict[str, Any]:
    pipeline = mapping(payload, "pipeline")
    vcs, given = mapping(pipeline, "vcs"), mapping(pipeline, "trigger_parameters")
    # Of GitLab, and of GitHub by its app, the trigger says what `vcs` says of others.
    git = mapping(given, "git")
    ref = first(text(vcs, "tag"), text(git, "tag"), text(vcs, "branch"), text(git, "branch"))
    return {
        "version": ref,
        "commit_sha": first(text(vcs, "revision"), text(git, "checkout_sha")),
        "repository": repositories.repository_of(first(text(vcs, "target_repository_url"), text(git, "repo_url"))),
        "ref": ref,
        "build_system": NAME,
        "build_id": text(payload, "workflow", "id"),
        "build_number": text(pipeline, "number"),
        "build_url": url,
        "pipeline": text(payload, "workflow", "name"),
        "job": text(job, "name"),
        "tags": texts(
            author=first(text(vcs, "commit", "author", "name"), text(git, "commit_author_name")),
            title=first(text(vcs, "commit", "subject"), text(git, "commit_title")),
            committed_at=moment(vcs, "commit", "committed_at"),
        ),
        **deployer(first(text(given, "gitlab", "user_username"), text(given, "github_app", "user_username"))),
    }


SOURCE = Source(
    name=NAME,
    title="CircleCI",
    adapt=adapt,
    signature="circleci",
    delivery=("/id",),
    statuses=STATUSES,
    ignored=IGNORED,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "commit_sha", "repository", "ref", "build_system", "build_id", "build_number", "build_url"),
            *("pipeline", "job", "deployer", "deployer_type", "raw_status", "tags"),
            never=("region",),
        )
    },
)
