"""Buildkite webhooks: jobs that deploy, builds of pipelines that deploy, and whoever unblocks a step.

https://buildkite.com/docs/apis/webhooks/pipelines. Where the pipeline's name says that it deploys, each of its builds
is a deployment and jobs are parts of it; else each job is one whose name says so. The environment is that of the
build's metadata `deploytrail:environment`, of the name, or of the webhook's URL; `deploytrail:service`, `…:region`
and `…:version` are read likewise. Builds of pull requests deploy nothing.
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
    instant,
    mapping,
    placed,
    record,
    says_deploy,
    text,
    texts,
    usual,
)

NAME = "buildkite"
# https://buildkite.com/docs/pipelines/configure/notifications#build-states and
# https://buildkite.com/docs/pipelines/configure/defining-steps#job-states. What waits for a person or another step is
# registered, not queued: nobody may ever let it go on, and it is not lost then.
STATUSES = {
    "accepted": "queued",
    "assigned": "queued",
    "blocked": "registered",
    "blocked_failed": "cancelled",
    "broken": "cancelled",  # its condition or its dependency left it out
    "canceled": "cancelled",
    "canceling": "progressed",
    "creating": "queued",
    "expired": "cancelled",
    "failed": "failed",
    "failing": "progressed",
    "finished": "unknown",  # passed or failed says how
    "limited": "queued",
    "limiting": "queued",
    "not_run": "cancelled",
    "passed": "succeeded",
    "pending": "registered",
    "platform_limited": "queued",
    "platform_limiting": "queued",
    "running": "started",
    "scheduled": "queued",
    "skipped": "cancelled",
    "started": "started",
    "timed_out": "failed",
    "timing_out": "progressed",
    "unblocked": "queued",
    "unblocked_failed": "cancelled",
    "waiting": "registered",
    "waiting_failed": "cancelled",
}
_TIMES = {"queued": "scheduled_at", "started": "started_at"} | dict.fromkeys(
    ("succeeded", "failed", "cancelled"), "finished_at"
)

Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The event's name is `event`."""
    del headers
    name, build, job = text(payload, "event"), mapping(payload, "build"), mapping(payload, "job")
    pipeline = mapping(payload, "pipeline")
    if not name:
        raise AdapterError("a Buildkite webhook is a JSON object with event")
    if not name.startswith(("build.", "job.")):
        return Adapted(ignored=f"Buildkite's {name} event says nothing of a deployment")
    if mapping(build, "pull_request"):
        return Adapted(ignored="a build of a pull request deploys nothing")
    names = (text(pipeline, "slug"), text(pipeline, "name"))
    thing = job if name.startswith("job.") else build
    if not text(thing, "id") or not text(build, "id"):
        raise AdapterError("the payload's build or job has no id")
    whole = says_deploy(*names)
    label = " ".join((text(job, "name") or text(job, "label"), text(job, "step_key"))) if thing is job else ""
    usual_one = environment_of(names[0], defaults.environment) if whole else defaults.environment
    environment = first(text(build, "meta_data", "deploytrail:environment"), environment_of(label, usual_one))
    if not environment:
        return Adapted(ignored="neither the build's metadata, the names nor the webhook's URL name an environment")
    place = placed(
        defaults,
        NAME,
        region=text(build, "meta_data", "deploytrail:region"),
        environment=environment,
        service=first(text(build, "meta_data", "deploytrail:service"), defaults.service, names[0]),
    )
    if name == "job.activated":
        return _unblocked(job, build, place, f"{NAME}:{text(build, 'id')}" if whole else "", received_at)
    if thing is job and whole:
        return Adapted(ignored="a job is a part of its build, which is the deployment")
    if thing is build and not whole:
        return Adapted(ignored="the pipeline's name does not say that it deploys: its jobs may")
    if thing is job and (text(job, "type") != "script" or not says_deploy(label)):
        return Adapted(ignored="the job runs nothing, or its name does not say that it deploys")
    return Adapted((_event(thing, build, pipeline, place, received_at),))


def _event(
    thing: Payload, build: Payload, pipeline: Payload, place: dict[str, str], received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    # A build that waits at a step is told as finished.
    status = "blocked" if thing.get("blocked") is True else text(thing, "state")
    event_type = STATUSES.get(status, "unknown")
    ref, exit_status = first(text(build, "tag"), text(build, "branch")), thing.get("exit_status")
    is_job = thing is not build
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (text(thing, "id"), status),
        place,
        event_type=event_type,
        deployment_id=f"{NAME}:{text(thing, 'id')}",
        occurred_at=instant(thing, _TIMES.get(event_type, "")) or received_at,
        version=first(text(build, "meta_data", "deploytrail:version"), ref),
        commit_sha=repositories.commit_in(text(build, "commit")),
        repository=repositories.repository_of(text(pipeline, "repository")),
        ref=ref,
        build_system=NAME,
        build_id=text(build, "id"),
        build_number=text(build, "number"),
        build_url=first(text(thing, "web_url"), text(build, "web_url")),
        pipeline=text(pipeline, "slug"),
        job=first(text(thing, "name"), text(thing, "step_key")) if is_job else "",
        raw_status=status,
        exit_code=exit_status if event_type in ("succeeded", "failed") and _is_code(exit_status) else None,
        tags=texts(message=text(build, "message")),
        # Of the sender it is known only that they set the webhook up.
        **deployer(text(build, "creator", "name"), bot=text(build, "source") == "schedule"),
    )


def _is_code(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _unblocked(job: Payload, build: Payload, place: dict[str, str], deployment_id: str, received_at: int) -> Adapted:
    return Adapted(
        (
            record(
                RecordType.APPROVAL,
                NAME,
                ("unblocked", text(job, "id")),
                place,
                approval_type="approved",
                deployment_id=deployment_id,
                occurred_at=instant(job, "unblocked_at") or received_at,
                approver=text(job, "unblocked_by", "name"),
                tags=texts(
                    step=first(text(job, "label"), text(job, "name"), text(job, "step_key")),
                    build=text(build, "id"),
                    commit=text(build, "commit"),
                ),
            ),
        )
    )


SOURCE = Source(
    name=NAME,
    title="Buildkite",
    adapt=adapt,
    signature="buildkite",
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "commit_sha", "repository", "ref", "build_system", "build_id", "build_number", "build_url"),
            *("pipeline", "job", "deployer", "deployer_type", "exit_code", "raw_status", "tags"),
        ),
        RecordType.APPROVAL: usual(RecordType.APPROVAL, "deployment_id", "approver", "tags"),
    },
)
