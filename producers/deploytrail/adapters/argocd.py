"""Argo CD: each sync of an Application is a deployment; its health is a health check.

Argo CD says what its users' templates say. Any of these is read: the Application itself; what a watch gives
(`{"type": …, "object": Application}`); `{"app": Application, "context": {"argocdUrl": …}}`, with or without more beside
it. The template for it, of https://argo-cd.readthedocs.io/en/stable/operator-manual/notifications/services/webhook/:

    service.webhook.deploytrail: |
      url: https://gateway.example/webhooks/argocd?environment=production&region=eu-west-1
      headers:
      - {name: Content-Type, value: application/json}
      - {name: Authorization, value: Bearer $deploytrail-token}
    template.deploytrail: |
      webhook:
        deploytrail:
          method: POST
          body: |
            {"context": {"argocdUrl": {{toJson .context.argocdUrl}}},
             "app": {
               "metadata": {
                 "name": {{toJson .app.metadata.name}}, "namespace": {{toJson .app.metadata.namespace}},
                 "uid": {{toJson .app.metadata.uid}}, "labels": {{toJson .app.metadata.labels}}},
               "spec": {
                 "project": {{toJson .app.spec.project}}, "destination": {{toJson .app.spec.destination}}},
               "status": {
                 "operationState": {{toJson .app.status.operationState}}, "sync": {{toJson .app.status.sync}},
                 "health": {{toJson .app.status.health}}, "history": {{toJson .app.status.history}},
                 "summary": {{toJson .app.status.summary}}}}}
    trigger.deploytrail: |
      - when: app.status.operationState != nil and app.status.operationState.phase == 'Running'
        oncePer: app.status.operationState.startedAt
        send: [deploytrail]
      - when: app.status.operationState != nil and app.status.operationState.phase in ['Failed', 'Error']
        oncePer: app.status.operationState.finishedAt
        send: [deploytrail]
      - when: app.status.operationState != nil and app.status.operationState.phase == 'Succeeded'
        oncePer: app.status.operationState.finishedAt + app.status.health.status
        send: [deploytrail]

A sync that succeeded is a deployment that succeeded once the Application is Healthy. Degraded soon after the sync is
the rollout's failure; later it is an alarm of a deployment that had succeeded, and only the health check says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._kubernetes import identity, image, place_of, said, unwrapped
from deploytrail.adapters._repositories import commit_in, repository_of
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    first,
    host_of,
    instant,
    items,
    mapping,
    record,
    text,
    texts,
    usual,
)

NAME = "argocd"
# Phases of an operation, and of one that Succeeded what the health is by then.
# https://github.com/argoproj/argo-cd/blob/master/pkg/apis/application/v1alpha1/types.go and gitops-engine's health.go
STATUSES = {
    "Running": "started",
    "Terminating": "progressed",
    "Failed": "failed",
    "Error": "failed",
    "Succeeded": "succeeded",
    "Succeeded/Healthy": "succeeded",
    "Succeeded/Degraded": "failed",
    "Succeeded/Progressing": "progressed",
    "Succeeded/Suspended": "progressed",
    "Succeeded/Missing": "progressed",
    "Succeeded/Unknown": "progressed",
}
# A Deployment gives up after progressDeadlineSeconds, 10 minutes by default: some times that long after its sync, what
# is Degraded had been well before.
ROLLOUT = 30 * 60 * 1_000_000
HEALTHY = {"Healthy": True, "Degraded": False}
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The start and the present state of the latest sync, and a health check where the health says yes or no."""
    del headers
    app = unwrapped(payload, "app", "application")
    metadata, operation = mapping(app, "metadata"), mapping(app, "status", "operationState")
    uid = identity(metadata)
    if not uid or not mapping(app, "status"):
        raise AdapterError("expected an Argo CD Application, or a template that holds one as `app`")
    host = host_of(first(text(payload, "context", "argocdUrl"), text(payload, "argocdUrl")))
    place = place_of(metadata, defaults, NAME, name=text(metadata, "name"), host=host)
    # A uid is one in the world, so that a template without argocdUrl gives the same ids.
    known_as = uid if text(metadata, "uid") else f"{host}:{uid}"
    checks = _health(app, place, known_as)
    if not text(operation, "startedAt"):
        return Adapted(checks, "" if checks else "the Application has not been synced")
    if mapping(operation, "operation", "sync").get("dryRun") is True:
        return Adapted(checks, "" if checks else "a dry run deploys nothing")
    return Adapted((*_sync(app, operation, place, known_as, received_at), *checks))


def _sync(
    app: Payload, operation: Payload, place: dict[str, str], known_as: str, received_at: int
) -> list[tuple[RecordType, dict[str, Any]]]:
    begun, phase = text(operation, "startedAt"), text(operation, "phase")
    ended = instant(operation, "finishedAt")
    health, changed = text(app, "status", "health", "status"), instant(app, "status", "health", "lastTransitionTime")
    status = f"{phase}/{health}" if phase == "Succeeded" and health else phase
    event_type = STATUSES.get(status, "unknown")
    at = max(filter(None, (ended, changed if phase == "Succeeded" else None)), default=received_at)
    fields = _fields(app, operation, known_as)
    found = [_event(known_as, begun, "Running", place, "started", instant(begun) or received_at, **fields)]
    if phase == "Running" or (status == "Succeeded/Degraded" and at > (ended or at) + ROLLOUT):
        return found
    message = text(operation, "message")
    ending = {"error": message if "/" not in status else f"{health} after the sync"} if event_type == "failed" else {}
    return [
        *found,
        _event(known_as, begun, status, place, event_type, at, **fields, **ending, **_image(app, event_type)),
    ]


def _event(
    known_as: str, begun: str, status: str, place: dict[str, str], event_type: str, at: int, **more: Any
) -> tuple[RecordType, dict[str, Any]]:
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        # Of a past sync the history tells a poller that it succeeded, and no health.
        (known_as, begun, "Succeeded" if event_type == "succeeded" else status, event_type),
        place,
        event_type=event_type,
        deployment_id=_deployment(known_as, begun),
        occurred_at=at,
        raw_status=status,
        **more,
    )


def _deployment(known_as: str, begun: str) -> str:
    return f"{NAME}:{known_as}:{begun}"


def _fields(app: Payload, operation: Payload, known_as: str) -> dict[str, Any]:
    revision = _revision(mapping(operation, "syncResult")) or _revision(mapping(operation, "operation", "sync"))
    source = _source(mapping(operation, "syncResult")) or _source(mapping(app, "spec"))
    by = mapping(operation, "operation", "initiatedBy")
    automated = by.get("automated") is True
    destination = mapping(app, "spec", "destination")
    return {
        "version": revision,
        "commit_sha": first(*map(commit_in, revision.split(","))),
        "repository": repository_of(text(source, "repoURL")),
        "ref": text(source, "targetRevision"),
        "team": said(mapping(app, "metadata"), "team"),
        "parent_deployment_id": said(mapping(app, "metadata"), "parent"),
        "tags": {
            **_info(operation),
            **texts(
                application=text(app, "metadata", "name"),
                project=text(app, "spec", "project"),
                cluster=first(text(destination, "name"), text(destination, "server")),
                namespace=text(destination, "namespace"),
            ),
        },
        **deployer(first(text(by, "username"), NAME if automated else ""), bot=automated),
        **_before(app, operation, revision, known_as),
    }


def _before(app: Payload, operation: Payload, revision: str, known_as: str) -> dict[str, str]:
    """What was there before, by the history; a rollback where this revision was there even earlier.

    Argo CD's own rollback is a sync to the revision of an earlier entry; nothing else marks it.
    """
    now = instant(operation, "startedAt") or 0
    earlier = [entry for entry in items(app, "status", "history") if 0 < (instant(entry, "deployStartedAt") or 0) < now]
    if not earlier:
        return {}
    *older, last = sorted(earlier, key=lambda entry: (instant(entry, "deployedAt") or 0, text(entry, "id")))
    found = {"previous_version": _revision(last)}
    if revision and revision != _revision(last) and revision in map(_revision, older):
        found |= {"kind": "rollback", "rollback_of": _deployment(known_as, _began(last))}
    return found


def _began(entry: Payload) -> str:
    return text(entry, "deployStartedAt")


def _revision(thing: Payload) -> str:
    """The revision; of an Application with several sources all of them."""
    several = [r for r in items(thing, "revisions") if isinstance(r, str) and r]
    return first(text(thing, "revision"), ",".join(several)[:1024])


def _source(thing: Payload) -> Payload:
    return mapping(thing, "source") or mapping(next(iter(items(thing, "sources")), None))


def _info(operation: Payload) -> dict[str, str]:
    return {
        text(entry, "name"): text(entry, "value")
        for entry in items(operation, "operation", "info")
        if text(entry, "name") and text(entry, "value")
    }


def _image(app: Payload, event_type: str) -> dict[str, str]:
    """The image, where there is one and it is the new one."""
    images = [i for i in items(app, "status", "summary", "images") if isinstance(i, str)]
    if event_type != "succeeded" or len(images) != 1:
        return {}
    found = image(images[0])
    return {name: found[name] for name in ("artifact_uri", "artifact_digest")}


def _health(app: Payload, place: dict[str, str], known_as: str) -> tuple[tuple[RecordType, dict[str, Any]], ...]:
    health = mapping(app, "status", "health")
    status, at = text(health, "status"), instant(health, "lastTransitionTime")
    if at is None or status not in HEALTHY:
        return ()
    name = text(app, "metadata", "name")
    check = record(
        RecordType.SIGNAL,
        NAME,
        (known_as, "health", status, text(health, "lastTransitionTime")),
        place,
        signal_type="health_check",
        occurred_at=at,
        fingerprint=f"{known_as}:health",
        severity="info" if HEALTHY[status] else "error",
        title=f"{name} is {status}",
        healthy=HEALTHY[status],
        labels=texts(application=name, message=text(health, "message")),
    )
    return (check,)


SOURCE = Source(
    name=NAME,
    title="Argo CD",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *(
                "kind",
                "version",
                "previous_version",
                "commit_sha",
                "repository",
                "ref",
                "artifact_uri",
                "artifact_digest",
            ),
            *(
                "team",
                "parent_deployment_id",
                "rollback_of",
                "deployer",
                "deployer_type",
                "error",
                "raw_status",
                "tags",
            ),
        ),
        RecordType.SIGNAL: usual(RecordType.SIGNAL, "fingerprint", "severity", "title", "healthy", "labels"),
    },
)
