"""Argo Rollouts: each revision of a Rollout is a deployment, its canary or green side a cohort.

The Rollout itself is read, what a watch gives (`{"type": …, "object": Rollout}`), or `{"rollout": Rollout}` with more
beside it, such as `"cluster"`. The template for it, of https://argoproj.github.io/argo-rollouts/features/notifications/:

    service.webhook.deploytrail: |
      url: https://gateway.example/webhooks/argo_rollouts?environment=production&region=eu-west-1
      headers:
      - {name: Content-Type, value: application/json}
      - {name: Authorization, value: Bearer $deploytrail-token}
    template.deploytrail: |
      webhook:
        deploytrail:
          method: POST
          body: '{"cluster": "prod-1", "rollout": {{toJson .rollout}}}'
    trigger.on-rollout-updated: |
      - send: [deploytrail]
    # the same of on-rollout-step-completed, on-rollout-paused, on-rollout-completed and on-rollout-aborted

Every event speaks of the cohort that gets the new version, with the weight that it has by then; where that is all and
it is healthy, the whole has succeeded. An aborted rollout has failed: Argo Rollouts gives the traffic back by itself,
and a retry of the same revision may still succeed. Degraded once the new version is the stable one is a health check
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._kubernetes import identity, image, place_of, said, unwrapped
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    instant,
    items,
    mapping,
    record,
    text,
    texts,
    usual,
)

NAME = "argo_rollouts"
# Phases, https://github.com/argoproj/argo-rollouts/blob/master/pkg/apis/rollouts/v1alpha1/types.go (RolloutPhase);
# /start: before its first step was done; /aborted: status.abort.
STATUSES = {
    "Progressing/start": "started",
    "Progressing": "progressed",
    "Paused": "progressed",
    "Healthy": "succeeded",
    "Degraded": "failed",
    "Degraded/aborted": "failed",
}
REVISION = "rollout.argoproj.io/revision"
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One event of the revision that is rolled out, and a health check where the phase says yes or no."""
    del headers
    rollout = unwrapped(payload, "rollout")
    metadata, status = mapping(rollout, "metadata"), mapping(rollout, "status")
    name, uid = text(metadata, "name"), identity(metadata)
    if not name or not mapping(rollout, "spec"):
        raise AdapterError("expected an Argo Rollouts Rollout, or a template that holds one as `rollout`")
    phase = text(status, "phase")
    if not phase:
        return Adapted(ignored="the Rollout has no phase yet")
    seen, generation = text(status, "observedGeneration"), text(metadata, "generation")
    # Before 1.0 it was a hash.
    if seen.isdecimal() and generation and seen != generation:
        return Adapted(ignored="the Rollout's status is of an earlier generation than its spec")
    cluster = text(payload, "cluster")
    place = place_of(metadata, defaults, NAME, name=name, host=cluster)
    known_as = uid if text(metadata, "uid") else f"{cluster}:{uid}"
    found = [_event(rollout, phase, place, known_as, received_at)] if _tells_of_a_rollout(phase, status) else []
    found += _health(rollout, phase, place, known_as, received_at)
    return Adapted(tuple(found), "" if found else "the version is the stable one: its replicas are being replaced")


def _tells_of_a_rollout(phase: str, status: Payload) -> bool:
    """Once the new version is the stable one, only that it is Healthy still belongs to its rollout."""
    done = bool(text(status, "stableRS")) and text(status, "stableRS") == text(status, "currentPodHash")
    return phase == "Healthy" or not done


def _event(
    rollout: Payload, phase: str, place: dict[str, str], known_as: str, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    metadata, status = mapping(rollout, "metadata"), mapping(rollout, "status")
    revision = first(text(metadata, "annotations", REVISION), text(status, "currentPodHash"))
    step = text(status, "currentStepIndex")
    word = phase
    if phase == "Degraded" and status.get("abort") is True:
        word = "Degraded/aborted"
    elif phase == "Progressing" and step in ("", "0"):
        word = "Progressing/start"
    event_type = STATUSES.get(word, "unknown")
    strategy, cohort, weight = _cohort(rollout, phase)
    at = _at(status, phase)
    # It begins and goes on many times, and ends once.
    when = str(at or "") if event_type in ("started", "progressed") else ""
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (known_as, revision, word, step, "" if weight is None else f"{weight:.4f}", when),
        place,
        event_type=event_type,
        deployment_id=f"{NAME}:{known_as}:{revision}",
        occurred_at=at or received_at,
        strategy=strategy,
        cohort=cohort,
        cohort_weight=weight,
        parent_deployment_id=said(metadata, "parent"),
        team=said(metadata, "team"),
        raw_status=phase,
        error=first(text(status, "message"), phase) if event_type == "failed" else "",
        tags=texts(namespace=text(metadata, "namespace"), rollout=text(metadata, "name"), step=step),
        **_artifact(rollout),
    )


def _cohort(rollout: Payload, phase: str) -> tuple[str, str, float | None]:
    """Strategy, cohort of the new version, and its weight."""
    status, strategy = mapping(rollout, "status"), mapping(rollout, "spec", "strategy")
    if "blueGreen" in strategy:
        promoted = phase == "Healthy" or (
            bool(text(status, "currentPodHash"))
            and text(status, "blueGreen", "activeSelector") == text(status, "currentPodHash")
        )
        return "blue_green", "green", 1.0 if promoted else 0.0
    if "canary" not in strategy:
        return "unknown", "", None
    if phase == "Healthy":
        return "canary", "canary", 1.0
    return "canary", "canary", _canary_weight(status, items(strategy, "canary", "steps"))


def _canary_weight(status: Payload, steps: list[Any]) -> float | None:
    """What the traffic router was told, else what the steps say up to the present one."""
    routed = mapping(status, "canary", "weights", "canary").get("weight")
    if status.get("abort") is True:
        percent: Any = 0
    elif isinstance(routed, int) and not isinstance(routed, bool):
        percent = routed
    else:
        index = status.get("currentStepIndex")
        if isinstance(index, bool) or not isinstance(index, int) or not steps:
            return None
        done = [
            step["setWeight"]
            for step in steps[: max(index, 0) + 1]
            if isinstance(step, Mapping) and "setWeight" in step
        ]
        percent = 100 if index >= len(steps) else (done or [0])[-1]
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        return None
    return percent / 100


def _at(status: Payload, phase: str) -> int | None:
    """When the phase began, as far as the Rollout says it."""
    conditions = {text(c, "type"): c for c in items(status, "conditions") if isinstance(c, Mapping)}
    progress = instant(conditions.get("Progressing"), "lastUpdateTime")
    if phase == "Paused":
        began = [instant(c, "startTime") for c in items(status, "pauseConditions")]
        return next(filter(None, began), progress)
    if phase == "Healthy":
        healthy = conditions.get("Healthy")
        return (instant(healthy, "lastTransitionTime") if text(healthy, "status") == "True" else None) or progress
    return (instant(status, "abortedAt") if status.get("abort") is True else None) or progress


def _artifact(rollout: Payload) -> dict[str, str]:
    """Of the first container; what the others run is not what the Rollout is known for."""
    containers = [c for c in items(rollout, "spec", "template", "spec", "containers") if text(c, "image")]
    found = image(text(containers[0], "image")) if containers else {"version": ""}
    return found | {"version": first(said(mapping(rollout, "metadata"), "version"), found["version"])}


def _health(
    rollout: Payload, phase: str, place: dict[str, str], known_as: str, received_at: int
) -> tuple[tuple[RecordType, dict[str, Any]], ...]:
    status, name = mapping(rollout, "status"), text(rollout, "metadata", "name")
    if phase not in ("Healthy", "Degraded"):
        return ()
    at = _at(status, phase) or received_at
    check = record(
        RecordType.SIGNAL,
        NAME,
        (known_as, "health", phase, str(at)),
        place,
        signal_type="health_check",
        occurred_at=at,
        fingerprint=f"{known_as}:health",
        severity="info" if phase == "Healthy" else "error",
        title=f"{name} is {phase}",
        healthy=phase == "Healthy",
        labels=texts(rollout=name, message=text(status, "message")),
    )
    return (check,)


SOURCE = Source(
    name=NAME,
    title="Argo Rollouts",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("strategy", "cohort", "cohort_weight", "parent_deployment_id", "team", "version", "artifact_uri"),
            *("artifact_digest", "error", "raw_status", "tags"),
        ),
        RecordType.SIGNAL: usual(RecordType.SIGNAL, "fingerprint", "severity", "title", "healthy", "labels"),
    },
)
