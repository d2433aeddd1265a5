"""Spinnaker: events of Echo's `rest` endpoints; each stage that deploys is a deployment of each of its clusters.

https://spinnaker.io/docs/setup/other_config/features/notifications/#event-types. Every event holds the whole execution,
so that each tells of all of its stages, and a lost or late one is made up for by the next. A pipeline itself deploys
nothing, and a stage that runs another pipeline neither: that pipeline's own stages do, and name their parent in the tag
`parent_execution`. The service is the application, the environment the account where the webhook's URL names none.

    rest:
      enabled: true
      endpoints:
      - wrap: false
        url: https://gateway.example/webhooks/spinnaker
        headers: {Authorization: Bearer TOKEN}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._kubernetes import image
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    first,
    instant,
    items,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "spinnaker"
# https://github.com/spinnaker/orca: ExecutionStatus.java. A stage that is NOT_STARTED is told of once it starts.
STATUSES = {
    "BUFFERED": "queued",
    "NOT_STARTED": "queued",
    "RUNNING": "started",
    "PAUSED": "progressed",
    "SUSPENDED": "progressed",
    "REDIRECT": "progressed",
    "SUCCEEDED": "succeeded",
    "FAILED_CONTINUE": "failed",
    "TERMINAL": "failed",
    "CANCELED": "cancelled",
    "STOPPED": "cancelled",
    "SKIPPED": "cancelled",
}
DEPLOYING = frozenset(
    {"deploy", "createServerGroup", "cloneServerGroup", "deployManifest", "patchManifest", "deployService"}
    | {"deployCloudFormation", "deployCloudrunManifest", "deployLambda", "Aws.LambdaDeploymentStage"}
)
ROLLING_BACK = frozenset({"rollbackCluster", "rollbackServerGroup", "undoRolloutManifest"})
# https://spinnaker.io/docs/concepts/#deployment-strategies, as `clusters[].strategy` says them.
STRATEGIES = {
    "redblack": "blue_green",
    "rollingredblack": "blue_green",
    "cfrollingredblack": "blue_green",
    "blue/green": "blue_green",
    "rollingpush": "rolling",
    "monitored": "rolling",
    "highlander": "recreate",
}
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout"})
COHORTS = frozenset({"canary", "baseline"})
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """Records of every stage that deploys and has begun, one a cluster or workload."""
    del headers
    event = mapping(payload, "payload") or mapping(payload)  # wrap: true
    name, content = text(event, "details", "type"), mapping(event, "content")
    if not name:
        raise AdapterError("a Spinnaker event is a JSON object with details and content")
    kind = name.split(":")
    if kind[0] != "orca" or kind[1:2] not in (["pipeline"], ["stage"], ["orchestration"]):
        return Adapted(ignored=f"Spinnaker's {name} is no event of a pipeline or a stage")
    execution = mapping(content, "execution")
    if not text(execution, "id"):
        raise AdapterError("the event's execution is missing or has no id")
    stages = [stage for stage in items(execution, "stages") if isinstance(stage, Mapping)]
    starting = text(content, "stageId") if kind[-1] == "starting" else ""
    at = instant(event, "details", "created") or received_at
    found = [
        _event(execution, stage, target, status, defaults, at)
        for stage in stages
        if _deploys(stage) and (now := _status(stage, starting)) != "NOT_STARTED"
        for target in _targets(stage, stages)
        for status in _known(stage, first(target["status"], now))
    ]
    return Adapted(tuple(found), "" if found else "no stage that deploys has begun")


def _deploys(stage: Payload) -> bool:
    """A synthetic stage is a part of the one that it belongs to."""
    return (
        text(stage, "type") in DEPLOYING | ROLLING_BACK
        and bool(text(stage, "id"))
        and not text(stage, "parentStageId")
        and not text(stage, "syntheticStageOwner")
    )


def _status(stage: Payload, starting: str) -> str:
    """Orca tells of the start of a stage before it writes it down."""
    status = text(stage, "status")
    return "RUNNING" if status in ("", "NOT_STARTED") and text(stage, "id") == starting else status


def _known(stage: Payload, status: str) -> tuple[str, ...]:
    """What an event tells: the present status, and that the stage had begun."""
    begun = instant(stage, "startTime") is not None and STATUSES.get(status) not in ("queued", "started")
    return ("RUNNING", status) if begun else (status,)


def _targets(stage: Payload, stages: list[Payload]) -> list[dict[str, Any]]:
    """What the stage deploys to: {key, account, region, cluster, strategy, cohort, status, image}.

    `key` tells targets of one stage apart; "" where it has one.
    """
    context = mapping(stage, "context")
    clusters = [cluster for cluster in items(context, "clusters") if isinstance(cluster, Mapping)]
    if clusters:
        children = [s for s in stages if text(s, "parentStageId") == text(stage, "id")]
        found = [_cluster(cluster, children) for cluster in clusters]
    else:
        # Manifests out of an artifact are only known later: one target from the first event to the last.
        given = items(context, "manifests") if text(context, "source") != "artifact" else []
        found = [_workload(m, context) for m in given if text(m, "kind") in WORKLOADS] or [_cluster(context, [])]
    if len(found) == 1:
        found[0]["key"] = ""
    return list({target["key"]: target for target in found}.values())


def _cluster(context: Payload, children: list[Payload]) -> dict[str, Any]:
    account = first(text(context, "account"), text(context, "credentials"))
    region = first(
        *(str(name) for name in mapping(context, "availabilityZones")),
        text(context, "region"),
        *(text(r) for r in items(context, "regions")),
    )
    details = text(context, "freeFormDetails")
    cluster = first(
        text(context, "cluster"),
        "-".join(filter(None, (text(context, "application"), text(context, "stack"), details))),
    )
    mine = [
        child
        for child in children
        if text(child, "type") == "createServerGroup"
        and _cluster(mapping(child, "context"), [])["key"] == f"{account}:{region}:{cluster}"
    ]
    return {
        "key": f"{account}:{region}:{cluster}",
        "account": account,
        "region": region,
        "name": "",
        "cluster": cluster,
        "strategy": "canary" if details in COHORTS else STRATEGIES.get(text(context, "strategy"), "unknown"),
        "cohort": details if details in COHORTS else "",
        "status": text(mine[0], "status").replace("NOT_STARTED", "") if mine else "",
        "image": first(*(text(c, "imageId") for c in items(context, "containers")), text(context, "imageId")),
    }


def _workload(manifest: Payload, context: Payload) -> dict[str, Any]:
    name, namespace = text(manifest, "metadata", "name"), text(manifest, "metadata", "namespace")
    containers = items(manifest, "spec", "template", "spec", "containers")
    strategy = text(context, "trafficManagement", "options", "strategy")
    return _cluster(context, []) | {
        "key": f"{text(manifest, 'kind')}:{namespace}/{name}",
        "name": name,
        "cluster": f"{namespace}/{name}",
        "strategy": STRATEGIES.get(strategy, "unknown"),
        "image": first(*(text(container, "image") for container in containers)),
    }


def _event(
    execution: Payload, stage: Payload, target: dict[str, Any], status: str, defaults: Defaults, heard_at: int
) -> tuple[RecordType, dict[str, Any]]:
    event_type = STATUSES.get(status, "unknown")
    trigger, number = mapping(execution, "trigger"), text(execution, "id")
    over = event_type in ("succeeded", "failed", "cancelled")
    at = instant(stage, "endTime" if over else "startTime") or heard_at
    known_as = ":".join(filter(None, (number, text(stage, "id"), target["key"])))
    # Told before Orca wrote down when it began: another event of the same deployment, a moment off.
    early = () if text(stage, "startTime") else ("early",)
    user = first(text(execution, "authentication", "user"), text(trigger, "user"))
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (known_as, status, *early),
        placed(
            defaults,
            NAME,
            region=target["region"],
            environment=first(defaults.environment, target["account"]),
            service=first(target["name"], defaults.service, text(execution, "application")),
        ),
        event_type=event_type,
        deployment_id=f"{NAME}:{known_as}",
        occurred_at=at,
        kind="rollback" if text(stage, "type") in ROLLING_BACK else "unknown",
        strategy=target["strategy"],
        cohort=target["cohort"],
        # A cohort is a deployment of its own, a part of what the pipeline deploys.
        parent_deployment_id=f"{NAME}:{number}" if target["cohort"] else "",
        build_system=NAME,
        build_id=number,
        pipeline=text(execution, "name"),
        stage=text(stage, "name"),
        raw_status=status,
        error=_error(stage) if event_type == "failed" else "",
        tags=texts(
            application=text(execution, "application"),
            account=target["account"],
            cluster=target["cluster"],
            stage_type=text(stage, "type"),
            trigger=text(trigger, "type"),
            parent_execution=first(text(trigger, "parentExecution", "id"), text(trigger, "parentPipelineId")),
        ),
        **_built(trigger, target["image"]),
        **deployer("" if user == "anonymous" else user, bot=text(trigger, "type") not in ("", "manual", "pipeline")),
    )


def _error(stage: Payload) -> str:
    details = mapping(stage, "context", "exception", "details")
    errors = [text(error) for error in items(details, "errors") if text(error)]
    return first("; ".join(errors)[:4096], text(details, "error"), f"the stage {text(stage, 'name')} failed")


def _built(trigger: Payload, uri: str) -> dict[str, str]:
    """Image, commit and version, as the target or else the trigger says them."""
    artifacts = [a for a in items(trigger, "artifacts") if text(a, "type") == "docker/image"]
    reference = first(uri, *(text(a, "reference") for a in artifacts))
    found = image(reference) if reference else {"version": ""}
    scm = mapping(next(iter(items(trigger, "buildInfo", "scm")), None))
    project, slug = text(trigger, "project"), text(trigger, "slug")
    return found | {
        "version": first(
            found["version"],
            *(text(a, "version") for a in artifacts),
            text(trigger, "tag"),
            text(trigger, "buildNumber"),
        ),
        "commit_sha": first(text(trigger, "hash"), text(scm, "sha1")),
        "repository": f"{project}/{slug}" if project and slug else "",
        "ref": first(text(trigger, "branch"), text(scm, "branch")),
        "build_number": first(text(trigger, "buildNumber"), text(trigger, "buildInfo", "number")),
        "build_url": text(trigger, "buildInfo", "url"),
    }


SOURCE = Source(
    name=NAME,
    title="Spinnaker",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "strategy", "cohort", "parent_deployment_id", "version", "artifact_uri", "artifact_digest"),
            *("commit_sha", "repository", "ref", "build_system", "build_id", "build_number", "build_url", "pipeline"),
            *("stage", "deployer", "deployer_type", "error", "raw_status", "tags"),
        )
    },
)
