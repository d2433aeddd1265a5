"""Azure DevOps service hooks: stages of classic releases and of YAML pipelines, and their approvals.

https://learn.microsoft.com/azure/devops/service-hooks/events. A stage of a release is a deployment to the environment
of its name. A stage of a pipeline is one where its name says that it deploys, or where the webhook's URL names an
environment: give such a subscription the filter of that stage. Its environment is the one in its name, or that of the
URL, or its name. Runs, jobs and builds are parts of it or deploy nothing.
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
    items,
    mapping,
    placed,
    record,
    says_deploy,
    text,
    texts,
    usual,
)

NAME = "azure_devops"
# https://learn.microsoft.com/rest/api/azure/devops/release/releases/get-release#environmentstatus, and of pipelines the
# state of a stage, or its result once there is one; in lower case. What waits for a person is registered, not queued:
# nobody may ever let it go on, and it is not lost then.
STATUSES = {
    "abandoned": "cancelled",
    "canceled": "cancelled",
    "canceling": "progressed",
    "completed": "unknown",  # its result says how
    "failed": "failed",
    "inprogress": "started",
    "notstarted": "registered",
    "partiallysucceeded": "succeeded",
    "pending": "registered",
    "queued": "queued",
    "rejected": "failed",  # what a release calls a failed stage
    "running": "started",
    "scheduled": "queued",
    "skipped": "cancelled",
    "succeeded": "succeeded",
    "succeededwithissues": "succeeded",
    "undefined": "unknown",
    "waiting": "registered",
}
# A stage of a pipeline is rejected by a check or an approval, before it begins.
_STAGE = STATUSES | {"rejected": "cancelled"}
# https://learn.microsoft.com/rest/api/azure/devops/release/approvals/list#approvalstatus and
# https://learn.microsoft.com/rest/api/azure/devops/approvalsandchecks/approvals/get#approvalstatus
APPROVALS = {
    "approved": "approved",
    "canceled": "revoked",
    "deferred": "approved",  # for later
    "failed": "unknown",
    "pending": "requested",
    "reassigned": "requested",
    "rejected": "rejected",
    "skipped": "unknown",  # nobody approved
    "timedout": "expired",
    "undefined": "unknown",
    "uninitiated": "registered",
}

IGNORED = {
    "build.complete": "a build deploys nothing",
    "ms.vss-pipelines.job-state-changed-event": "a job is a part of its stage",
    "ms.vss-pipelines.run-state-changed-event": "a run deploys by its stages",
    "ms.vss-release.release-abandoned-event": "what runs stays as it is",
    "ms.vss-release.release-created-event": "a release deploys by its stages",
}

Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The event's name is `eventType`."""
    del headers
    name, resource = text(payload, "eventType"), mapping(payload, "resource")
    if not name:
        raise AdapterError("an Azure DevOps service hook is a JSON object with eventType")
    # Ids are unique in one organization, or one collection of a server.
    containers = mapping(payload, "resourceContainers")
    host = first(text(containers, "account", "id"), text(containers, "collection", "id"))
    at = instant(payload, "createdDate") or received_at
    # Microsoft's pages call the same event of releases by both names.
    name = name.replace("ms.azure-devops-release.", "ms.vss-release.")
    if name in ("ms.vss-release.deployment-started-event", "ms.vss-release.deployment-completed-event"):
        return _release(payload, resource, defaults, host, at)
    if name == "ms.vss-pipelines.stage-state-changed-event":
        return _stage(payload, resource, defaults, host, at)
    if name.startswith("ms.vss-release.deployment-approval-"):
        return _release_approval(resource, defaults, host, at)
    if name.startswith("ms.vss-pipelinechecks-events.approval-"):
        return _stage_approval(resource, defaults, host, at)
    return Adapted(ignored=f"Azure DevOps' {name}: {IGNORED.get(name, 'it says nothing of a deployment')}")


def _release(payload: Any, resource: Payload, defaults: Defaults, host: str, at: int) -> Adapted:
    deployment = mapping(resource, "deployment")
    environment = mapping(resource, "environment") or mapping(deployment, "environment")
    number, attempt = text(environment, "id"), _attempt(resource.get("attemptId"))
    if not number:
        raise AdapterError("the payload's release environment has no id")
    releases = [mapping(resource, "release"), mapping(deployment, "release"), mapping(environment, "release")]
    definition = first(
        text(environment, "releaseDefinition", "name"),
        *(text(release, "releaseDefinition", "name") for release in releases),
    )
    status = first(text(environment, "status"), text(deployment, "status"))
    # The event says that it started; the environment may still be said to be queued.
    started = text(payload, "eventType").endswith("started-event")
    event_type = "started" if started else STATUSES.get(status.lower(), "unknown")
    artifact = _artifact(releases)
    creators = (mapping(environment, "releaseCreatedBy"), *(mapping(release, "createdBy") for release in releases))
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        # The event's own id tells attempts apart where nobody counts them.
        (host, "release-environment", number, attempt, "started" if started else status, text(payload, "id")),
        placed(
            defaults,
            NAME,
            environment=text(environment, "name"),
            service=first(
                defaults.service,
                definition,
                text(resource, "project", "name"),
                *(text(release, "project", "name") for release in releases),
            ),
            host=host,
        ),
        event_type=event_type,
        deployment_id=_release_id(host, number, attempt),
        occurred_at=at,
        version=first(*(text(release, "name") for release in releases)),
        commit_sha=repositories.commit_in(text(artifact, "definitionReference", "sourceVersion", "id")),
        build_system="azure_pipelines",
        build_id=next((found for r in releases if (found := text(r, "id")) not in ("", "0")), ""),
        build_url=first(
            *(text(release, "_links", "web", "href") for release in releases),
            *(text(release, "url") for release in releases),
        ),
        pipeline=definition,
        stage=text(environment, "name"),
        raw_status=status,
        error=text(payload, "message", "text") if event_type == "failed" else "",
        tags=texts(artifact=text(artifact, "definitionReference", "version", "name")),
        **_deployer(mapping(deployment, "requestedFor"), mapping(deployment, "requestedBy"), *creators),
    )
    return Adapted((event,))


def _artifact(releases: list[Payload]) -> Payload:
    """The primary one of a release."""
    found = (artifact for release in releases for artifact in items(release, "artifacts"))
    return next((one for one in found if isinstance(one, Mapping) and one.get("isPrimary") is True), {})


def _stage(payload: Any, resource: Payload, defaults: Defaults, host: str, at: int) -> Adapted:
    stage, run = mapping(resource, "stage"), mapping(resource, "run")
    name, shown = text(stage, "name"), text(stage, "displayName")
    if not defaults.environment and not says_deploy(name, shown):
        return Adapted(ignored="the stage's name does not say that it deploys, and the webhook's URL names nothing")
    if not name or not text(run, "id"):
        raise AdapterError("the payload's stage has no name or its run has no id")
    status = first(text(stage, "result"), text(stage, "state"))
    event_type = _STAGE.get(status.lower(), "unknown")
    pipeline = first(text(resource, "pipeline", "name"), text(run, "pipeline", "name"))
    sources = [mapping(source) for source in items(resource, "repositories")]
    # Whoever began the run is not told; the author of the commit need not be the one.
    source = sources[0] if sources else {}
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (host, "stage", text(run, "id"), text(stage, "id"), status, text(payload, "id")),
        placed(
            defaults,
            NAME,
            environment=first(environment_of(f"{name} {shown}", defaults.environment), shown, name),
            service=first(defaults.service, pipeline),
            host=host,
        ),
        event_type=event_type,
        deployment_id=_stage_id(host, text(run, "id"), name),
        occurred_at=at,
        version=text(run, "name"),
        commit_sha=repositories.commit_in(text(source, "change", "version")),
        repository=repositories.repository_of(text(source, "url")).replace("/_git/", "/"),
        build_system="azure_pipelines",
        build_id=text(run, "id"),
        build_number=text(run, "name"),
        build_url=text(stage, "_links", "web", "href"),
        pipeline=pipeline,
        stage=first(shown, name),
        raw_status=status,
        error=text(payload, "message", "text") if event_type == "failed" else "",
        tags=texts(author=text(source, "change", "author", "name")),
    )
    return Adapted((event,))


def _release_approval(resource: Payload, defaults: Defaults, host: str, at: int) -> Adapted:
    approval = mapping(resource, "approval")
    number, environment = text(approval, "id"), mapping(approval, "releaseEnvironment")
    if not number:
        raise AdapterError("the payload's approval has no id")
    release, status = mapping(approval, "release") or mapping(resource, "release"), text(approval, "status")
    step = record(
        RecordType.APPROVAL,
        NAME,
        (host, "release-approval", number, status),
        placed(
            defaults,
            NAME,
            environment=text(environment, "name"),
            service=first(defaults.service, text(approval, "releaseDefinition", "name")),
            host=host,
        ),
        approval_type=APPROVALS.get(status.lower(), "unknown"),
        deployment_id=_release_id(host, text(environment, "id"), _attempt(approval.get("attempt"))),
        occurred_at=instant(approval, "createdOn" if status == "pending" else "modifiedOn") or at,
        approver=text(approval, "approvedBy", "displayName") if status != "pending" else "",
        justification=text(approval, "comments"),
        tags=texts(
            status=status,
            release=text(release, "name"),
            when=text(approval, "approvalType"),
            asked=text(approval, "approver", "displayName"),
            automated="true" if approval.get("isAutomated") is True else "",
        ),
    )
    return Adapted((step,))


def _stage_approval(resource: Payload, defaults: Defaults, host: str, at: int) -> Adapted:
    approval, run = mapping(resource, "approval"), mapping(resource, "run")
    number, status = text(approval, "id"), text(approval, "status")
    if not number:
        raise AdapterError("the payload's approval has no id")
    steps = [mapping(step) for step in items(approval, "steps")]
    said = [step for step in steps if text(step, "status") not in ("", "pending", "uninitiated")]
    guarded, stage = mapping(resource, "resource"), first(text(resource, "stageName"), text(resource, "stage", "name"))
    step = record(
        RecordType.APPROVAL,
        NAME,
        (host, "stage-approval", number, status),
        placed(
            defaults,
            NAME,
            environment=text(guarded, "name") if text(guarded, "type") in ("", "environment") else "",
            service=first(defaults.service, text(resource, "pipeline", "name")),
            host=host,
        ),
        approval_type=APPROVALS.get(status.lower(), "unknown"),
        deployment_id=_stage_id(host, text(run, "id"), stage) if text(run, "id") and stage else "",
        occurred_at=instant(approval, "createdOn" if status == "pending" else "lastModifiedOn") or at,
        approver=_people(said, "actualApprover") or _people(said, "assignedApprover"),
        justification=", ".join(filter(None, (text(step, "comment") for step in said))),
        tags=texts(status=status, run=text(run, "name"), stage=stage, asked=_people(steps, "assignedApprover")),
    )
    return Adapted((step,))


def _people(steps: list[Payload], role: str) -> str:
    names = dict.fromkeys(text(step, role, "displayName") for step in steps)
    return ", ".join(filter(None, names))


def _release_id(host: str, environment: str, attempt: str) -> str:
    return f"{NAME}:{host}:release-environment-{environment}-{attempt}"


def _stage_id(host: str, run: str, stage: str) -> str:
    return f"{NAME}:{host}:run-{run}-{stage}"


def _attempt(number: object) -> str:
    # Events of which nobody counts the attempts say 0.
    return str(number) if isinstance(number, int) and number > 0 else "1"


def _deployer(*identities: Payload) -> dict[str, str]:
    name = first(*(text(identity, "displayName") for identity in identities))
    # Service identities: "shop Build Service (acme)", "Microsoft.VisualStudio.Services.TFS"
    return deployer(name, bot="Build Service" in name or name.startswith("Microsoft."))


SOURCE = Source(
    name=NAME,
    title="Azure DevOps",
    adapt=adapt,
    signature="basic",
    delivery=("/id",),
    ignored=IGNORED,
    statuses=STATUSES | {f"approval {status}": means for status, means in APPROVALS.items()},
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "commit_sha", "repository", "build_system", "build_id", "build_number", "build_url"),
            *("pipeline", "stage", "deployer", "deployer_type", "error", "raw_status", "tags"),
            never=("region",),
        ),
        RecordType.APPROVAL: usual(
            RecordType.APPROVAL, "deployment_id", "approver", "justification", "tags", never=("region",)
        ),
    },
)
