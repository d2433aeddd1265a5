"""What a cluster tells of its workloads, as records. Pure: objects, what was known, and the time in.

A rollout is a change of a pod template. One that shows a permit or a deployment id which it did not
show before is somebody's deployment: it is observed. Any other came in without one, and becomes a
deployment of its own, with `provenance` inferred and the tag `without_permit`.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.permits import Authority, Subject, verify_permit
from deploytrail_schemas.records import RecordType

from deploytrail._images import Image
from deploytrail.adapters.base import OTHER_REGION, instant, items, mapping, text, texts
from deploytrail.kubernetes.workloads import DEPLOYMENT_ID, Workload, environment_of, read_workload

SOURCE = "kubernetes_watch"
Records = list[tuple[RecordType, dict[str, Any]]]
NO_PERMIT, STALE_PERMIT = "no_permit", "stale_permit"
STARTED, SUCCEEDED, FAILED, CANCELLED = "started", "succeeded", "failed", "cancelled"
_LIVE, _FOUND_LATER = 0.9, 0.6  # how sure a time is that was watched, and one that was found in a list
_STRATEGIES = {"RollingUpdate": "rolling", "Recreate": "recreate"}


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster it is, and where. `authority`: whose permits are believed; None: that one is shown is enough."""

    cluster: str
    region: str
    environment: str = ""
    environments: Mapping[str, str] = field(default_factory=dict)
    authority: Authority | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a workload: digests of its pod template, and of what it showed when that came.

    `deployment_id`: of the rollout that was inferred for that template, `state` how far it is told; else empty.
    """

    template: str
    images: tuple[str, ...]
    shown: str
    deployment_id: str = ""
    state: str = ""


def judge(
    obj: Mapping[str, Any], seen: Seen | None, place: Place, *, at: int, since: int | None = None
) -> tuple[Seen, Records]:
    """What is known of a workload now, and the records to tell. `at`, `since` in µs.

    `since`: the object stood in a list and was not known before; what changed earlier than that is
    taken as it stands.
    """
    workload = read_workload(obj)
    now = Seen(_digest(workload.template), tuple(i.reference for i in workload.images), _shown(workload))
    records: Records = []
    if seen is None or seen.template != now.template:
        changed = _changed_at(obj, at)
        records.append(_declared(workload, place, at))
        why = _without_permit(workload, seen, now, place, changed)
        if why and (since is None or changed >= since):
            now = replace(now, deployment_id=_deployment_id(workload, place), state=STARTED)
            kind = "configuration_change" if seen and seen.images == now.images else "release"
            sure = _LIVE if since is None else _FOUND_LATER
            records.append(_event(STARTED, workload, now, place, changed, sure, kind, why, obj))
    else:
        # What it shows counts with the rollout that it is shown for: an annotation may come a moment earlier.
        now = replace(now, shown=seen.shown, deployment_id=seen.deployment_id, state=seen.state)
    if now.state == STARTED and (ended := end_of(obj)):
        records.append(_event(ended, workload, now, place, at, _LIVE, "", "", obj))
        now = replace(now, state=ended)
    return now, records


def removed(obj: Mapping[str, Any], seen: Seen | None, place: Place, at: int) -> Records:
    """The records of a workload that is gone: a rollout that was under way is cancelled by that."""
    workload = read_workload(obj)
    records: Records = []
    if seen is not None and seen.state == STARTED:
        records.append(_event(CANCELLED, workload, seen, place, at, _LIVE, "", "", obj))
    records.append(_observation("removed", workload, place, at, identity=(workload.uid, "removed")))
    return records


def end_of(obj: Mapping[str, Any]) -> str:
    """How the rollout of the present template ended; empty while it goes on."""
    kind, status, spec = text(obj, "kind"), mapping(obj, "status"), mapping(obj, "spec")
    if kind == "CronJob":
        return SUCCEEDED  # storing it is all there is
    if kind == "Pod":
        return {"Running": SUCCEEDED, "Succeeded": SUCCEEDED, "Failed": FAILED}.get(text(status, "phase"), "")
    conditions = {text(c, "type"): c for c in items(status, "conditions")}
    if kind == "Job":
        ends = {"Complete": SUCCEEDED, "Failed": FAILED}
        return next((end for name, end in ends.items() if text(conditions.get(name), "status") == "True"), "")
    if _count(status, "observedGeneration") < _count(mapping(obj, "metadata"), "generation"):
        return ""
    wanted = _count(spec, "replicas", 1)
    if kind == "Deployment":
        progress = text(conditions.get("Progressing"), "reason")
        if progress == "ProgressDeadlineExceeded":
            return FAILED
        done = progress == "NewReplicaSetAvailable" and _count(status, "updatedReplicas") >= wanted
    elif kind == "StatefulSet":
        same = text(status, "updateRevision") == text(status, "currentRevision")
        done = same and _count(status, "readyReplicas") >= wanted
    elif kind == "DaemonSet":
        wanted = _count(status, "desiredNumberScheduled")
        done = min(_count(status, "updatedNumberScheduled"), _count(status, "numberAvailable")) >= wanted
    else:
        done = _count(status, "readyReplicas") >= wanted
    return SUCCEEDED if done else ""


def running(pod: Mapping[str, Any], known: frozenset[str], place: Place, at: int) -> tuple[frozenset[str], Records]:
    """Container and digest of all that runs in a pod, and an observation of each that was not known."""
    workload = read_workload(pod)
    found: set[str] = set()
    records: Records = []
    for status in items(pod, "status", "containerStatuses"):
        started = instant(status, "state", "running", "startedAt")
        if not mapping(status, "state", "running"):
            continue
        image = Image(text(status, "image"))
        digest = _running_digest(text(status, "imageID")) or image.digest
        name = f"{text(status, 'name')} {digest or image.reference}"
        found.add(name)
        if name not in known:
            said = {"version": image.tag or workload.version, "artifact_digest": digest}
            identity = (workload.uid, name, str(_count(mapping(status), "restartCount")))
            records.append(
                _observation("running", workload, place, started or at, identity=identity, said=said, pod=True)
            )
    return frozenset(found), records


def pod_removed(pod: Mapping[str, Any], place: Place, at: int) -> Records:
    """The record of a pod that is gone."""
    workload = read_workload(pod)
    return [_observation("removed", workload, place, at, identity=(workload.uid, "removed"), pod=True)]


def _without_permit(workload: Workload, seen: Seen | None, now: Seen, place: Place, changed: int) -> str:
    """Why a rollout counts as one without a permit; empty where it is somebody's deployment."""
    if not workload.permit and not text(workload.annotations, DEPLOYMENT_ID):
        return NO_PERMIT
    if seen is not None and seen.shown == now.shown:
        return STALE_PERMIT  # the annotation is the earlier rollout's
    if not workload.permit or place.authority is None:
        return ""
    subject = Subject(
        next((image.digest for image in workload.images if image.digest), ""),
        workload.service,
        environment_of(workload.namespace, place.environments, place.environment),
        place.region,
        text(workload.annotations, DEPLOYMENT_ID) or None,
    )
    verdict = verify_permit(workload.permit, subject, place.authority, now=changed / 1e6)
    return ",".join(verdict.reasons)


def _declared(workload: Workload, place: Place, at: int) -> tuple[RecordType, dict[str, Any]]:
    digest = next((image.digest for image in workload.images if image.digest), "")
    said = {"version": workload.version, "artifact_digest": digest}
    identity = (workload.uid, str(workload.generation), _digest(workload.template))
    return _observation("declared", workload, place, at, identity=identity, said=said)


def _observation(
    word: str,
    workload: Workload,
    place: Place,
    at: int,
    *,
    identity: tuple[str, ...],
    said: Mapping[str, str] | None = None,
    pod: bool = False,
) -> tuple[RecordType, dict[str, Any]]:
    value = {
        "observation_id": name_based_id(SOURCE, place.cluster, word, *identity),
        "observation_type": word,
        "occurred_at": at,
        **_place(workload, place),
        "cluster": place.cluster,
        "instance": f"{workload.namespace}/{workload.name}" if pod else workload.path,
        **(said or {}),
        "tags": texts(
            deployment_id=text(workload.annotations, DEPLOYMENT_ID),
            controller=workload.controller,
            image=workload.images[0].reference if workload.images else "",
        ),
    }
    return RecordType.OBSERVATION, {name: item for name, item in value.items() if item not in ("", {})}


def _event(
    word: str,
    workload: Workload,
    seen: Seen,
    place: Place,
    at: int,
    confidence: float,
    kind: str,
    why: str,
    obj: Mapping[str, Any],
) -> tuple[RecordType, dict[str, Any]]:
    value = {
        "event_id": name_based_id(SOURCE, place.cluster, seen.deployment_id, word),
        "event_type": word,
        "deployment_id": seen.deployment_id,
        "occurred_at": at,
        **_place(workload, place),
        "kind": kind,
        "strategy": _STRATEGIES.get(text(obj, "spec", "strategy", "type"), ""),
        "version": workload.version,
        "artifact_digest": next((image.digest for image in workload.images if image.digest), ""),
        "artifact_uri": workload.images[0].reference if workload.images else "",
        "provenance": "inferred",
        "confidence": confidence,
        "tags": texts(
            without_permit=why,
            cluster=place.cluster,
            namespace=workload.namespace,
            workload=f"{workload.kind}/{workload.name}",
            manager=_manager(obj),
        ),
    }
    return RecordType.DEPLOYMENT_EVENT, {name: item for name, item in value.items() if item not in ("", {})}


def _place(workload: Workload, place: Place) -> dict[str, str]:
    return {
        "region": place.region or OTHER_REGION,
        "environment": environment_of(workload.namespace, place.environments, place.environment),
        "service": workload.service,
        "producer_id": f"{SOURCE}:{place.cluster}",
        "source": SOURCE,
    }


def _deployment_id(workload: Workload, place: Place) -> str:
    return name_based_id(SOURCE, place.cluster, workload.uid, str(workload.generation), _digest(workload.template))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _shown(workload: Workload) -> str:
    return _digest([workload.permit, text(workload.annotations, DEPLOYMENT_ID)])


def _running_digest(image_id: str) -> str:
    """The digest of `repository@sha256:…`; a bare `sha256:…` names the image's configuration, which is another."""
    return image_id.rpartition("@")[2] if "@" in image_id else ""


def _templates_writers(obj: Mapping[str, Any]) -> list[tuple[int, str]]:
    """When and by whom the pod template was written, as the API server keeps it (whole seconds)."""
    found = []
    for entry in items(obj, "metadata", "managedFields"):
        wrote = mapping(entry, "fieldsV1", "f:spec")
        at = instant(entry, "time")
        if at is not None and not text(entry, "subresource") and wrote.keys() & {"f:template", "f:jobTemplate"}:
            found.append((at, text(entry, "manager")))
    return sorted(found)


def _changed_at(obj: Mapping[str, Any], at: int) -> int:
    wrote = [when for when, _ in _templates_writers(obj)]
    created = instant(obj, "metadata", "creationTimestamp")
    return min(max([*wrote, *([created] if created is not None else [])], default=at), at)


def _manager(obj: Mapping[str, Any]) -> str:
    return next((name for _, name in reversed(_templates_writers(obj))), "")


def _count(value: Mapping[str, Any], name: str, missing: int = 0) -> int:
    given = value.get(name)
    return given if isinstance(given, int) and not isinstance(given, bool) else missing
