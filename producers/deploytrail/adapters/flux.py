"""Flux: events of the notification controller, of providers `generic` and `generic-hmac`.

https://fluxcd.io/flux/components/notification/events/. What is applied is a deployment: a Kustomization's revision, a
HelmRelease's chart version with its values. Sources and image automation only say what may be applied. Where it is
comes from the event's metadata (an Alert's `eventMetadata`, or annotations `event.toolkit.fluxcd.io/…` of the object):
`region`, `environment` or `env`, `service`, `team`, `cluster`, `deployment-id` (of what this is a part of), else from
the webhook's URL.

A Kustomization is reconciled again and again: of one revision the first success and the first failure of each kind
count. A revision that had succeeded and fails later counts as failed, until its health checks pass again.

    apiVersion: notification.toolkit.fluxcd.io/v1beta3
    kind: Provider
    metadata: {name: deploytrail, namespace: flux-system}
    spec:
      type: generic-hmac
      address: https://gateway.example/webhooks/flux
      secretRef: {name: deploytrail}
    ---
    apiVersion: notification.toolkit.fluxcd.io/v1beta3
    kind: Alert
    metadata: {name: deploytrail, namespace: flux-system}
    spec:
      providerRef: {name: deploytrail}
      eventMetadata: {region: eu-west-1, environment: production, cluster: prod-1}
      eventSources: [{kind: Kustomization, name: "*"}, {kind: HelmRelease, name: "*"}]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._kubernetes import identity
from deploytrail.adapters._repositories import commit_in
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    instant,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "flux"
# https://pkg.go.dev/github.com/fluxcd/kustomize-controller/api/v1 and .../helm-controller/api/v2: condition reasons,
# which are the reasons of events.
STATUSES = {
    # Kustomization
    "Progressing": "progressed",
    # Its event "Health check passed in …", sent on a new revision and on recovery
    "Progressing/healthy": "succeeded",
    "DependencyNotReady": "queued",
    "ReconciliationSucceeded": "succeeded",
    "ReconciliationFailed": "failed",
    "ArtifactFailed": "failed",
    "BuildFailed": "failed",
    "HealthCheckFailed": "failed",
    "HealthCheckCanceled": "cancelled",
    "PruneFailed": "failed",
    "ValidationFailed": "failed",
    "AccessDenied": "failed",
    "InvalidCELExpression": "failed",
    # HelmRelease
    "InstallSucceeded": "succeeded",
    "InstallFailed": "failed",
    "UpgradeSucceeded": "succeeded",
    "UpgradeFailed": "failed",
    "TestSucceeded": "succeeded",
    "TestFailed": "failed",
    "RollbackSucceeded": "succeeded",
    "RollbackFailed": "failed",
    "ValuesError": "failed",
    "InvalidChartReference": "failed",
}
ROLLBACKS = frozenset({"RollbackSucceeded", "RollbackFailed"})
# What they tell of is no deployment.
OTHERS = frozenset(
    {
        "DriftDetected",
        "DriftCorrected",
        "DriftCorrectionFailed",
        "ReconciliationSkipped",
        "Suspended",
        "UninstallFailed",
    }
    | {"HelmChartCreated", "HelmChartDeleted", "HelmChartInSync", "RollbackSkipped", "UninstallSkipped"}
)
DEPLOYING = frozenset({"Kustomization", "HelmRelease"})
# main@sha1:…, main/… before Flux 2, latest@sha256:…
_REVISION = re.compile(
    r"(?:(?P<ref>.*)@)?(?P<algorithm>sha(?:1|256|384|512)):(?P<hash>[0-9a-f]+)", re.ASCII | re.DOTALL
)
_RELEASE = re.compile(r"release (?P<release>\S+)\.v(?P<number>\d+) with chart (?P<chart>\S+)@", re.ASCII)
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One event of what was applied, and what its health checks found; of an uninstalled release, that it is gone."""
    del headers
    involved, reason = mapping(payload, "involvedObject"), text(payload, "reason")
    if not text(involved, "name") or not reason:
        raise AdapterError("a Flux event is a JSON object with involvedObject and reason")
    kind = text(involved, "kind")
    if kind not in DEPLOYING:
        return Adapted(ignored=f"Flux's {kind or 'unnamed kind'} says what may be applied, not that it was")
    if reason in OTHERS:
        return Adapted(ignored=f"Flux's {reason} says nothing of a deployment")
    place = placed(
        defaults,
        NAME,
        region=_said(payload, "region"),
        environment=first(_said(payload, "environment"), _said(payload, "env")),
        service=first(_said(payload, "service"), defaults.service, text(involved, "name")),
        host=_said(payload, "cluster"),
    )
    at = instant(payload, "timestamp") or received_at
    if reason == "UninstallSucceeded":
        return Adapted((_removed(payload, involved, place, at),))
    revision = first(_said(payload, "revision"), _said(payload, "originRevision"))
    if not revision:
        return Adapted(ignored=f"Flux's {reason} names no revision")
    event = _event(payload, involved, reason, revision, place, at)
    return Adapted((event, *_health(payload, involved, reason, place, at)))


def _event(
    payload: Payload, involved: Payload, reason: str, revision: str, place: dict[str, str], at: int
) -> tuple[RecordType, dict[str, Any]]:
    message, healthy = text(payload, "message"), _is_healthy(payload, reason) is True
    event_type = STATUSES.get("Progressing/healthy" if healthy else reason, "unknown")
    known_as = _known_as(payload, involved)
    deployment = ":".join(filter(None, (NAME, known_as, revision, _said(payload, "token"))))
    more: dict[str, Any] = {}
    if reason in ROLLBACKS:
        # The revision is the one that it went back to; which release that undid Flux does not say.
        deployment, more = f"{NAME}:{known_as}:rollback:{text(payload, 'timestamp')}", {"kind": "rollback"}
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (deployment, reason, *(("healthy", text(payload, "timestamp")) if healthy else ())),
        place,
        event_type=event_type,
        deployment_id=deployment,
        occurred_at=at,
        team=_said(payload, "team"),
        parent_deployment_id=_said(payload, "deployment-id"),
        raw_status=reason,
        deployer=text(payload, "reportingController"),
        deployer_type="automation",
        error=message if event_type == "failed" else "",
        tags=texts(
            kind=text(involved, "kind"),
            name=text(involved, "name"),
            namespace=text(involved, "namespace"),
            cluster=_said(payload, "cluster"),
            summary=_said(payload, "summary"),
            app_version=_said(payload, "app-version"),
            **(found.groupdict() if (found := _RELEASE.search(message)) else {}),
        ),
        **more,
        **_version(revision, _said(payload, "originRevision"), _said(payload, "oci-digest")),
    )


def _is_healthy(payload: Payload, reason: str) -> bool | None:
    """What a Kustomization's health checks found; None where it is not about them."""
    if reason == "Progressing" and text(payload, "message").startswith("Health check passed"):
        return True
    return False if reason == "HealthCheckFailed" else None


def _health(
    payload: Payload, involved: Payload, reason: str, place: dict[str, str], at: int
) -> tuple[tuple[RecordType, dict[str, Any]], ...]:
    healthy, name = _is_healthy(payload, reason), text(involved, "name")
    if healthy is None:
        return ()
    known_as = _known_as(payload, involved)
    check = record(
        RecordType.SIGNAL,
        NAME,
        (known_as, "health", str(healthy), text(payload, "timestamp")),
        place,
        signal_type="health_check",
        occurred_at=at,
        fingerprint=f"{known_as}:health",
        severity="info" if healthy else "error",
        title=f"{name} is {'healthy' if healthy else 'not healthy'}",
        healthy=healthy,
        labels=texts(name=name, namespace=text(involved, "namespace"), message=text(payload, "message")),
    )
    return (check,)


def _known_as(payload: Payload, involved: Payload) -> str:
    """The object's uid, which is one in the world; else cluster, kind, namespace and name."""
    if text(involved, "uid"):
        return text(involved, "uid")
    return ":".join((_said(payload, "cluster"), text(involved, "kind"), identity(involved)))


def _said(payload: Payload, name: str) -> str:
    """Metadata, with the object's API group before the name or, as the controller passes it on, without."""
    group = text(payload, "involvedObject", "apiVersion").partition("/")[0]
    metadata = mapping(payload, "metadata")
    return first(*(text(metadata, key) for key in (name, f"{group}/{name}", f"event.toolkit.fluxcd.io/{name}")))


def _version(revision: str, origin: str, digest: str) -> dict[str, str]:
    """Commit, digest and ref of a revision; of a chart its version."""
    found = {"version": revision, "artifact_digest": digest}
    for given in filter(None, (revision, origin)):
        if parts := _REVISION.fullmatch(given):
            ref = {"ref": parts["ref"].removeprefix("refs/heads/").removeprefix("refs/tags/")} if parts["ref"] else {}
            if commit := commit_in(parts["hash"]) if parts["algorithm"] == "sha1" else "":
                found |= {"commit_sha": commit, **ref}
            else:
                found |= {"artifact_digest": f"{parts['algorithm']}:{parts['hash']}"}
        elif commit := commit_in(given.rpartition("/")[2]):
            found |= {"commit_sha": commit, "ref": given.rpartition("/")[0]}
    return found


def _removed(payload: Payload, involved: Payload, place: dict[str, str], at: int) -> tuple[RecordType, dict[str, Any]]:
    return record(
        RecordType.OBSERVATION,
        NAME,
        (_known_as(payload, involved), "removed", text(payload, "timestamp")),
        place,
        observation_type="removed",
        occurred_at=at,
        cluster=_said(payload, "cluster"),
        version=_said(payload, "revision"),
        tags=texts(
            name=text(involved, "name"), namespace=text(involved, "namespace"), message=text(payload, "message")
        ),
    )


SOURCE = Source(
    name=NAME,
    title="Flux",
    adapt=adapt,
    signature="flux",
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "team", "parent_deployment_id", "version", "artifact_digest", "commit_sha", "ref", "deployer"),
            *("deployer_type", "error", "raw_status", "tags"),
        ),
        RecordType.SIGNAL: usual(RecordType.SIGNAL, "fingerprint", "severity", "title", "healthy", "labels"),
        RecordType.OBSERVATION: usual(RecordType.OBSERVATION, "cluster", "version", "tags"),
    },
)
