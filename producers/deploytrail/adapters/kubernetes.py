"""Kubernetes: what its controllers say of rollouts, whoever started them.

Read are Events of core/v1 and events.k8s.io/v1, as exporters post them or a watch gives them, and Deployments,
StatefulSets and DaemonSets of a watch: one, a list, or the `items` of a List. `clusterName` or `cluster` beside them
names the cluster.

- A Deployment that scales a ReplicaSet up from 0 has started to roll it out. How that ends is in no Event, only in the
  Deployment's condition `Progressing`; both name the ReplicaSet, which names the deployment here. A return to an
  earlier ReplicaSet continues its deployment: Kubernetes says nowhere that it is a rollback.
- Pods that a StatefulSet, DaemonSet or ReplicaSet creates and deletes are observations, since a failed node makes the
  same Events as a rollout. What cannot be created is an alert.

Nobody reported these deployments, they are inferred from what is seen.
https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/,
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._kubernetes import identity, image, place_of, said
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

NAME = "kubernetes"
# Reasons of Events of a Deployment, and of its condition Progressing; updated and updating: of StatefulSets and
# DaemonSets, by the numbers of their status.
# https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/deployment/util/deployment_util.go
STATUSES = {
    "ScalingReplicaSet": "started",
    "NewReplicaSetCreated": "progressed",
    "FoundNewReplicaSet": "progressed",
    "ReplicaSetUpdated": "progressed",
    "DeploymentPaused": "progressed",
    "DeploymentResumed": "progressed",
    "NewReplicaSetAvailable": "succeeded",
    "ProgressDeadlineExceeded": "failed",
    "ReplicaSetCreateError": "failed",
    "updating": "progressed",
    "updated": "succeeded",
}
# Reasons of Events of what creates pods.
PODS = {"SuccessfulCreate": "declared", "SuccessfulDelete": "removed"}
ALERTS = frozenset(
    {"FailedCreate", "FailedDelete", "FailedUpdate", "FailedDaemonPod", "FailedPlacement", "ReplicaSetCreateError"}
    | {"RecreatingFailedPod", "RecreatingTerminatedPod"}
)
STRATEGIES = {"RollingUpdate": "rolling", "Recreate": "recreate"}
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
CONTROLLERS = WORKLOADS | {"ReplicaSet"}
# Seen on the platform, not told by who did it; less where an old Kubernetes does not say from how many replicas, since
# the Event may then be of a mere scaling.
CONFIDENCE, GUESS = 0.9, 0.5
_SCALED = re.compile(
    r"Scaled (?P<way>up|down) replica set (?P<set>\S+)(?: from (?P<from>\d+))? to (?P<to>\d+)(?: from (?P<was>\d+))?",
    re.ASCII,
)
_REPLICA_SET = re.compile(r"replica ?set \"(?P<set>[^\"]+)\"", re.ASCII | re.IGNORECASE)
_POD = re.compile(r"(?:Created|Deleted) pod: (\S+)|(?:create|delete) Pod (\S+) in", re.ASCII)
Payload = Mapping[str, Any]
Records = list[tuple[RecordType, dict[str, Any]]]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """Records of each Event and object; what says nothing of a rollout is passed over."""
    del headers
    given = payload if isinstance(payload, list) else items(payload, "items") or [payload]
    found: Records = []
    for one in given:
        if not isinstance(one, Mapping):
            raise AdapterError("every Event is an object")
        thing = mapping(one, "object") or one
        cluster = first(*(text(where, key) for where in (thing, one, payload) for key in ("clusterName", "cluster")))
        gone = text(one, "type") == "DELETED" and thing is not one
        found += _records(thing, gone, cluster, defaults, received_at)
    return Adapted(tuple(found), "" if found else "nothing here tells of a rollout")


def _records(thing: Payload, gone: bool, cluster: str, defaults: Defaults, received_at: int) -> Records:
    kind = text(thing, "kind")
    involved = mapping(thing, "involvedObject") or mapping(thing, "regarding")
    if involved:
        # An Event that is deleted only grew old.
        return [] if gone else _of_event(thing, involved, cluster, defaults, received_at)
    if kind in WORKLOADS and text(thing, "metadata", "name"):
        return _of_workload(thing, gone, cluster, defaults, received_at)
    if kind or text(thing, "metadata", "name"):
        return []
    raise AdapterError("expected Kubernetes Events, with involvedObject or regarding, or workloads of a watch")


def _of_event(event: Payload, involved: Payload, cluster: str, defaults: Defaults, received_at: int) -> Records:
    reason, message = text(event, "reason"), first(text(event, "message"), text(event, "note"))
    kind = text(involved, "kind")
    if kind not in CONTROLLERS or not text(involved, "name"):
        return []
    place = place_of(involved, defaults, NAME, name=_workload_name(involved), host=cluster)
    at = _at(event) or received_at
    known_as = (
        cluster,
        first(text(event, "metadata", "uid"), identity(mapping(event, "metadata")), f"{identity(involved)}:{message}"),
        first(text(event, "count"), text(event, "deprecatedCount"), text(event, "series", "count")),
    )
    if kind == "Deployment" and (scaled := _SCALED.search(message)):
        return _of_scaling(scaled, involved, known_as, cluster, place, at)
    if reason in PODS:
        return [_observation(PODS[reason], involved, known_as, cluster, place, at, _pod(message), message)]
    if reason in ALERTS:
        return [_alert(reason, message, involved, known_as, place, at)]
    return []


def _of_scaling(
    scaled: re.Match[str],
    involved: Payload,
    known_as: tuple[str, ...],
    cluster: str,
    place: dict[str, str],
    at: int,
) -> Records:
    before = scaled["from"] or scaled["was"]
    if scaled["way"] == "down":
        if int(scaled["to"]):
            return []
        return [_observation("removed", involved, known_as, cluster, place, at, scaled["set"], scaled[0])]
    if before is not None and int(before):
        return []
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        known_as,
        place,
        event_type=STATUSES["ScalingReplicaSet"],
        deployment_id=_deployment(involved, cluster, scaled["set"]),
        occurred_at=at,
        team=said(involved, "team"),
        parent_deployment_id=said(involved, "parent"),
        version=said(involved, "version"),
        provenance="inferred",
        confidence=GUESS if before is None else CONFIDENCE,
        raw_status="ScalingReplicaSet",
        tags=_tags(involved, cluster, scaled["set"]),
    )
    return [event]


def _of_workload(thing: Payload, gone: bool, cluster: str, defaults: Defaults, received_at: int) -> Records:
    metadata, status = mapping(thing, "metadata"), mapping(thing, "status")
    place = place_of(metadata, defaults, NAME, name=text(metadata, "name"), host=cluster)
    if gone:
        # Kubernetes gives a deleted object a resourceVersion of its own.
        known_as = (cluster, identity(metadata), "deleted", text(metadata, "resourceVersion"))
        deleted_at = instant(metadata, "deletionTimestamp") or received_at
        return [_observation("removed", metadata, known_as, cluster, place, deleted_at, "", "deleted")]
    if text(status, "observedGeneration") != text(metadata, "generation"):
        return []
    revision, reason, at, message = _progress(thing, status)
    if not revision:
        return []
    event_type = STATUSES.get(reason, "unknown")
    strategy = first(text(thing, "spec", "strategy", "type"), text(thing, "spec", "updateStrategy", "type"))
    containers = [c for c in items(thing, "spec", "template", "spec", "containers") if text(c, "image")]
    artifact = image(text(containers[0], "image")) if containers else {"version": ""}
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (cluster, identity(metadata), revision, reason, str(at or "")),
        place,
        event_type=event_type,
        deployment_id=_deployment(metadata, cluster, revision),
        occurred_at=at or received_at,
        team=said(metadata, "team"),
        parent_deployment_id=said(metadata, "parent"),
        strategy=STRATEGIES.get(strategy, "unknown"),
        provenance="inferred",
        confidence=CONFIDENCE,
        raw_status=reason,
        error=first(message, reason) if event_type == "failed" else "",
        tags=_tags({**metadata, "kind": text(thing, "kind")}, cluster, revision),
        **(artifact | {"version": first(said(metadata, "version"), artifact["version"])}),
    )
    return [event]


def _progress(thing: Payload, status: Payload) -> tuple[str, str, int | None, str]:
    """Revision, reason, when and the message, of what is rolled out; no revision where nothing is said."""
    kind = text(thing, "kind")
    if kind == "Deployment":
        said_of = next((c for c in items(status, "conditions") if text(c, "type") == "Progressing"), None)
        message = text(said_of, "message")
        found = _REPLICA_SET.search(message)
        return found["set"] if found else "", text(said_of, "reason"), instant(said_of, "lastUpdateTime"), message
    if kind == "StatefulSet":
        revision, wanted = text(status, "updateRevision"), first(text(status, "replicas"), "0")
        numbers = (first(text(status, "updatedReplicas"), "0"), first(text(status, "readyReplicas"), "0"))
        done = text(status, "currentRevision") == revision and set(numbers) == {wanted}
    else:
        revision = text(thing, "metadata", "annotations", "deprecated.daemonset.template.generation")
        wanted = first(text(status, "desiredNumberScheduled"), "0")
        numbers = (first(text(status, "updatedNumberScheduled"), "0"), first(text(status, "numberAvailable"), "0"))
        done = set(numbers) == {wanted}
    return revision, "updated" if done else "updating", None, ""


def _observation(
    observation_type: str,
    involved: Payload,
    known_as: tuple[str, ...],
    cluster: str,
    place: dict[str, str],
    at: int,
    instance: str,
    message: str,
) -> tuple[RecordType, dict[str, Any]]:
    return record(
        RecordType.OBSERVATION,
        NAME,
        (*known_as, observation_type),
        place,
        observation_type=observation_type,
        occurred_at=at,
        cluster=cluster,
        instance=instance,
        version=said(involved, "version"),
        tags=texts(kind=text(involved, "kind"), namespace=text(involved, "namespace"), message=message),
    )


def _alert(
    reason: str, message: str, involved: Payload, known_as: tuple[str, ...], place: dict[str, str], at: int
) -> tuple[RecordType, dict[str, Any]]:
    kind, name = text(involved, "kind"), text(involved, "name")
    return record(
        RecordType.SIGNAL,
        NAME,
        (*known_as, "alert"),
        place,
        signal_type="alert_firing",
        occurred_at=at,
        fingerprint=f"{identity(involved)}:{reason}",
        severity="error" if reason.startswith("Failed") or reason.endswith("Error") else "warning",
        title=f"{kind} {name}: {reason}",
        labels=texts(kind=kind, name=name, namespace=text(involved, "namespace"), message=message),
    )


def _deployment(thing: Payload, cluster: str, revision: str) -> str:
    """A uid is one in the world; names only in their cluster."""
    owner = text(thing, "uid") or f"{cluster}:{identity(thing)}"
    return f"{NAME}:{owner}:{revision}"


def _tags(thing: Payload, cluster: str, revision: str) -> dict[str, str]:
    return texts(
        cluster=cluster,
        kind=text(thing, "kind"),
        name=text(thing, "name"),
        namespace=text(thing, "namespace"),
        revision=revision,
    )


def _workload_name(involved: Payload) -> str:
    """The name of what was deployed: a ReplicaSet's owner, else its own name without the hash."""
    if text(involved, "kind") != "ReplicaSet":
        return text(involved, "name")
    owners = (text(owner, "name") for owner in items(involved, "ownerReferences"))
    return first(*owners, text(involved, "name").rpartition("-")[0], text(involved, "name"))


def _pod(message: str) -> str:
    found = _POD.search(message)
    return first(found[1] or "", found[2] or "") if found else ""


def _at(event: Payload) -> int | None:
    """When it happened last."""
    given = (
        instant(event, "series", "lastObservedTime"),
        *(instant(event, name) for name in ("lastTimestamp", "deprecatedLastTimestamp", "eventTime", "firstTimestamp")),
        instant(event, "metadata", "creationTimestamp"),
    )
    return next((at for at in given if at is not None), None)


SOURCE = Source(
    name=NAME,
    title="Kubernetes Events and workloads",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("team", "parent_deployment_id", "strategy", "version", "artifact_uri", "artifact_digest", "error"),
            *("raw_status", "tags"),
        ),
        RecordType.SIGNAL: usual(RecordType.SIGNAL, "fingerprint", "severity", "title", "labels"),
        RecordType.OBSERVATION: usual(RecordType.OBSERVATION, "cluster", "instance", "version", "tags"),
    },
)
