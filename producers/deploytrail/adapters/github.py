"""GitHub and GitHub Enterprise webhooks: deployments, their statuses and approvals, jobs, runs and releases.

https://docs.github.com/en/webhooks/webhook-events-and-payloads. A deployment is known by its own id, which deployment,
deployment_status and workflow_job events all name: any or all of them may be sent. A run is a deployment of its own,
and so is a release, only where the webhook's URL names an environment: send workflow_run for repositories whose jobs
name none. The service is the repository's name, or the `service` of the deployment's payload; the region is in its
`region`, and how large the change is in its `lines_changed`. GitHub sends no webhook for `inactive`; who polls the API
sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    committed_at,
    environment_of,
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

NAME = "github"
# https://docs.github.com/en/rest/deployments/statuses, and of jobs and runs the status, or the conclusion once there is
# one: https://docs.github.com/en/rest/actions/workflow-runs. What waits for a person is registered, not queued: nobody
# may ever let it go on, and it is not lost then.
STATUSES = {
    "action_required": "registered",
    "cancelled": "cancelled",
    "completed": "unknown",  # a conclusion says how; a run without one has none of ours
    "error": "failed",
    "failure": "failed",
    "in_progress": "started",
    "inactive": "unknown",  # another deployment took its place, which says of itself how it went
    "neutral": "succeeded",
    "pending": "queued",
    "queued": "queued",
    "released": "succeeded",
    "requested": "queued",
    "skipped": "cancelled",
    "stale": "cancelled",
    "startup_failure": "failed",
    "success": "succeeded",
    "timed_out": "failed",
    "waiting": "registered",
}
REVIEWS = {"requested": "requested", "approved": "approved", "rejected": "rejected"}
# Actions of releases beside `released`, which alone tells once that a version is out.
RELEASES = {
    "created": "it may be a draft",
    "deleted": "what runs stays as it is",
    "edited": "its text changes nothing",
    "prereleased": "it is not for everybody yet",
    "published": "released tells of it, unless it is a pre-release",
    "unpublished": "what runs stays as it is",
}
_DEPLOYERS = {"User": "person", "Bot": "automation", "Organization": "automation"}
_RUN = re.compile(r"/actions/runs/(\d+)(?:/|$)", re.ASCII)
_PUBLIC = "api.github.com"

Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """`headers` by lower-case name; the event's name is in X-GitHub-Event."""
    if not isinstance(payload, Mapping):
        raise AdapterError("a GitHub webhook is a JSON object")
    name = headers.get("x-github-event", "") or _guess(payload)
    adapt_event = _EVENTS.get(name)
    if adapt_event is None:
        return Adapted(ignored=f"GitHub's {name or 'unnamed'} event says nothing of a deployment")
    return adapt_event(payload, _Sender(headers.get("x-github-enterprise-host", ""), defaults, received_at))


class _Sender:
    """What an event says besides its payload: which GitHub sent it, what its URL says, and when it came (µs)."""

    def __init__(self, enterprise: str, defaults: Defaults, received_at: int) -> None:
        self.defaults = defaults
        self.received_at = received_at
        self._enterprise = enterprise

    def host(self, thing: Payload) -> str:
        """Which GitHub it is: ids are unique only there."""
        return first(host_of(text(thing, "url")), self._enterprise, _PUBLIC)


def _guess(payload: Payload) -> str:
    # Enterprise proxies drop headers; the payload tells which event it is. A job and a rule come with their deployment.
    for name in ("deployment_status", "workflow_job", "release"):
        if name in payload:
            return name
    if "deployment_callback_url" in payload:
        return "deployment_protection_rule"
    if "deployment" in payload:
        return "deployment"
    if "workflow_run" in payload:
        return "deployment_review" if "approver" in payload or "reviewers" in payload else "workflow_run"
    return ""


def _deployment(payload: Payload, sender: _Sender) -> Adapted:
    deployment = mapping(payload, "deployment")
    number, host = _id_of(deployment, "deployment"), sender.host(deployment)
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, "deployment", number),
        _placed(payload, deployment, sender),
        event_type="queued",
        occurred_at=instant(deployment, "created_at") or sender.received_at,
        raw_status=first(text(payload, "action"), "created"),
        **_known(payload, deployment, host),
        **_of_run(payload),
    )
    return Adapted((event,))


def _status(payload: Payload, sender: _Sender) -> Adapted:
    status, deployment = mapping(payload, "deployment_status"), mapping(payload, "deployment")
    number, _ = _id_of(status, "deployment_status"), _id_of(deployment, "deployment")
    host, state = sender.host(deployment), text(status, "state")
    event_type = STATUSES.get(state, "unknown")
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, "deployment_status", number),
        _placed(payload, deployment, sender, text(status, "environment")),
        event_type=event_type,
        occurred_at=instant(status, "created_at") or sender.received_at,
        raw_status=state,
        build_url=first(text(status, "log_url"), text(status, "target_url")),
        job=text(payload, "check_run", "name"),
        error=text(status, "description") if event_type == "failed" else "",
        **_known(payload, deployment, host),
        **_of_run(payload),
    )
    return Adapted((event,))


def _job(payload: Payload, sender: _Sender) -> Adapted:
    job, deployment = mapping(payload, "workflow_job"), mapping(payload, "deployment")
    if not deployment:
        return Adapted(ignored="a job without an environment deploys nothing")
    number, _ = _id_of(job, "workflow_job"), _id_of(deployment, "deployment")
    host, state = sender.host(deployment), _state(payload, job)
    event_type = STATUSES.get(state, "unknown")
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, "workflow_job", number, state),
        _placed(payload, deployment, sender),
        event_type=event_type,
        occurred_at=_moment(job, event_type) or sender.received_at,
        raw_status=state,
        build_system="github_actions",
        build_id=text(job, "run_id"),
        build_url=text(job, "html_url"),
        pipeline=text(job, "workflow_name"),
        job=text(job, "name"),
        error=_failed_step(job) if event_type == "failed" else "",
        **_known(payload, deployment, host),
    )
    return Adapted((event,))


def _state(payload: Payload, thing: Payload) -> str:
    # Enterprise payloads may lack the action.
    return first(text(thing, "conclusion"), text(payload, "action"), text(thing, "status"))


def _moment(job: Payload, event_type: str) -> int | None:
    if event_type in ("queued", "registered"):
        return instant(job, "created_at")
    return instant(job, "started_at" if event_type == "started" else "completed_at")


def _failed_step(job: Payload) -> str:
    failed = (text(step, "name") for step in items(job, "steps") if text(step, "conclusion") == "failure")
    return f"the step {name} failed" if (name := next(failed, "")) else ""


def _run(payload: Payload, sender: _Sender) -> Adapted:
    run, workflow = mapping(payload, "workflow_run"), mapping(payload, "workflow")
    if not sender.defaults.environment:
        return Adapted(ignored="the webhook's URL names no environment, so a run is no deployment")
    name = first(text(workflow, "name"), text(run, "name"))
    if not says_deploy(name, text(run, "path")):
        return Adapted(ignored="neither the workflow's name nor its file says that it deploys")
    number, host, state = _id_of(run, "workflow_run"), sender.host(run), _state(payload, run)
    attempt = first(text(run, "run_attempt"), "1")
    event_type = STATUSES.get(state, "unknown")
    began = instant(run, "run_started_at") or instant(run, "created_at")
    actor = mapping(run, "triggering_actor") or mapping(run, "actor")
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, "workflow_run", number, attempt, state),
        _placed(payload, run, sender, environment_of(name, sender.defaults.environment)),
        event_type=event_type,
        deployment_id=f"{NAME}:{host}:run-{number}-{attempt}",
        occurred_at=(began if event_type == "queued" else instant(run, "updated_at")) or sender.received_at,
        raw_status=state,
        version=text(run, "head_branch"),
        commit_sha=text(run, "head_sha"),
        repository=text(payload, "repository", "full_name"),
        ref=text(run, "head_branch"),
        build_url=text(run, "html_url"),
        tags=texts(title=text(run, "display_title"), committed_at=_committed(run, text(run, "head_sha"))),
        **_of_run(payload),
        **_person(actor),
    )
    return Adapted((event,))


def _release(payload: Payload, sender: _Sender) -> Adapted:
    """`released` alone tells once that a version is out, and of no pre-release or draft."""
    release, action = mapping(payload, "release"), text(payload, "action")
    if not sender.defaults.environment:
        return Adapted(ignored="a release says what may be deployed; the webhook's URL names no environment for it")
    if action != "released":
        return Adapted(
            ignored=f"a release that is {action or 'changed'}: {RELEASES.get(action, 'it puts no version out')}"
        )
    number, host = _id_of(release, "release"), sender.host(release)
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, "release", number, action),
        _placed(payload, release, sender),
        event_type="succeeded",
        deployment_id=f"{NAME}:{host}:release-{number}",
        occurred_at=instant(release, "published_at") or sender.received_at,
        kind="release",
        raw_status=action,
        version=text(release, "tag_name"),
        artifact_uri=text(release, "html_url"),
        repository=text(payload, "repository", "full_name"),
        ref=text(release, "tag_name"),
        **_person(mapping(release, "author")),
    )
    return Adapted((event,))


def _review(payload: Payload, sender: _Sender) -> Adapted:
    """One step of approval for each environment that the review is about."""
    action = text(payload, "action")
    if action not in REVIEWS:
        return Adapted(ignored=f"GitHub's deployment_review action {action!r} is no step of an approval")
    run = mapping(payload, "workflow_run")
    jobs = [*items(payload, "workflow_job_runs"), mapping(payload, "workflow_job_run")]
    named = (text(payload, "environment"), *(text(job, "environment") for job in jobs))
    environments = list(dict.fromkeys(filter(None, named))) or [""]
    return Adapted(tuple(_step(payload, run, action, environment, sender) for environment in environments))


def _step(
    payload: Payload, run: Payload, action: str, environment: str, sender: _Sender
) -> tuple[RecordType, dict[str, Any]]:
    host, number = sender.host(run), text(run, "id")
    reviewers = [mapping(asked, "reviewer") for asked in items(payload, "reviewers")]
    return record(
        RecordType.APPROVAL,
        NAME,
        (host, "deployment_review", number, text(run, "run_attempt"), environment, action),
        _placed(payload, {}, sender, environment, host=host),
        approval_type=REVIEWS[action],
        occurred_at=instant(payload, "since") or sender.received_at,
        approver=text(payload, "approver", "login"),
        justification=text(payload, "comment"),
        tags=texts(
            workflow_run=number,
            commit=text(run, "head_sha"),
            requestor=text(payload, "requestor", "login"),
            reviewers=", ".join(filter(None, (first(text(r, "login"), text(r, "slug")) for r in reviewers))),
        ),
    )


def _protection_rule(payload: Payload, sender: _Sender) -> Adapted:
    action, deployment = text(payload, "action"), mapping(payload, "deployment")
    if action not in ("", "requested"):
        return Adapted(ignored=f"GitHub's deployment_protection_rule action {action!r} is no step of an approval")
    number, host = _id_of(deployment, "deployment"), sender.host(deployment)
    run = _RUN.search(text(payload, "deployment_callback_url"))
    approval = record(
        RecordType.APPROVAL,
        NAME,
        (host, "deployment_protection_rule", number),
        _placed(payload, deployment, sender, text(payload, "environment")),
        approval_type="requested",
        deployment_id=f"{NAME}:{host}:{number}",
        occurred_at=instant(deployment, "updated_at") or instant(deployment, "created_at") or sender.received_at,
        tags=texts(
            workflow_run=run[1] if run else "",
            commit=text(deployment, "sha"),
            requestor=first(text(deployment, "creator", "login"), text(payload, "sender", "login")),
        ),
    )
    return Adapted((approval,))


def _placed(
    payload: Payload, thing: Payload, sender: _Sender, environment: str = "", *, host: str = ""
) -> dict[str, str]:
    own = _own_payload(thing.get("payload"))
    return placed(
        sender.defaults,
        NAME,
        region=text(own, "region"),
        environment=first(environment, text(thing, "environment")),
        service=first(text(own, "service"), sender.defaults.service, text(payload, "repository", "name")),
        host=host or sender.host(thing),
    )


def _known(payload: Payload, deployment: Payload, host: str) -> dict[str, Any]:
    """What every event of a deployment says of it."""
    own, task = _own_payload(deployment.get("payload")), text(deployment, "task")
    return {
        "deployment_id": f"{NAME}:{host}:{text(deployment, 'id')}",
        "kind": "rollback" if task.startswith("rollback") else "release" if task == "deploy" else "unknown",
        "version": first(text(own, "version"), text(deployment, "ref")),
        "commit_sha": text(deployment, "sha"),
        "repository": text(payload, "repository", "full_name"),
        "ref": text(deployment, "ref"),
        "tags": texts(
            task=task,
            description=text(deployment, "description"),
            committed_at=_committed(mapping(payload, "workflow_run"), text(deployment, "sha")),
            lines_changed=text(own, "lines_changed"),
        ),
        **_person(mapping(deployment, "creator")),
    }


def _committed(run: Payload, sha: str) -> str:
    # A deployment may be of another commit than the run that made it.
    return committed_at(run.get("head_commit"), sha)


def _of_run(payload: Payload) -> dict[str, str]:
    """What is said of the run of a workflow, where one made the deployment."""
    run = mapping(payload, "workflow_run")
    if not run:
        return {}
    return {
        "build_system": "github_actions",
        "build_id": text(run, "id"),
        "build_number": text(run, "run_number"),
        "pipeline": first(text(payload, "workflow", "name"), text(run, "name")),
    }


def _person(actor: Payload) -> dict[str, str]:
    return {"deployer": text(actor, "login"), "deployer_type": _DEPLOYERS.get(text(actor, "type"), "unknown")}


def _own_payload(given: object) -> Payload:
    """What the deployment's creator put into it: an object, or the text of one."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    return given if isinstance(given, Mapping) else {}


def _id_of(thing: Payload, name: str) -> str:
    number = text(thing, "id")
    if not number:
        raise AdapterError(f"the payload's {name} has no id")
    return number


_EVENTS = {
    "deployment": _deployment,
    "deployment_protection_rule": _protection_rule,
    "deployment_review": _review,
    "deployment_status": _status,
    "release": _release,
    "workflow_job": _job,
    "workflow_run": _run,
}

SOURCE = Source(
    name=NAME,
    title="GitHub and GitHub Enterprise",
    adapt=adapt,
    signature="github",
    delivery=("x-github-delivery",),
    statuses=STATUSES | {f"review {action}": means for action, means in REVIEWS.items()},
    ignored={f"release {action}": why for action, why in RELEASES.items()},
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "version", "artifact_uri", "commit_sha", "repository", "ref", "build_system", "build_id"),
            *("build_number", "build_url", "pipeline", "job", "deployer", "deployer_type", "error", "raw_status"),
            "tags",
        ),
        RecordType.APPROVAL: usual(RecordType.APPROVAL, "deployment_id", "approver", "justification", "tags"),
    },
)
