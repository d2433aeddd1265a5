"""What a cluster tells: rollouts without a permit become deployments, with their ends; what runs is observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deploytrail.kubernetes.rollouts import Place, Records, Seen, end_of, judge, pod_removed, removed, running
from deploytrail_schemas.codec import encode
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType
from hypothesis import given
from hypothesis import strategies as st

NOON = 1_793_620_800_000_000  # 2026-11-02T12:00:00Z
DIGEST, OTHER = "sha256:" + "1b" * 32, "sha256:" + "2c" * 32
IMAGE, OTHER_IMAGE = f"registry.example/checkout:4.2.0@{DIGEST}", f"registry.example/checkout:4.3.0@{OTHER}"
PLACE = Place("prod-1", "eu-west-1", "production")
LABELS = {"app.kubernetes.io/name": "checkout"}


def deployment(
    image: str = IMAGE, generation: int = 1, status: dict[str, Any] | None = None, written: str = "", **annotations: str
) -> dict[str, Any]:
    said = {f"deploytrail.dev/{name.replace('_', '-')}": text for name, text in annotations.items()}
    meta: dict[str, Any] = {"name": "checkout", "namespace": "shop", "uid": "u-1", "generation": generation}
    if written:
        fields = {"f:spec": {"f:template": {}}}
        meta["managedFields"] = [{"manager": "kubectl-set", "operation": "Update", "time": written, "fieldsV1": fields}]
    return {
        "kind": "Deployment",
        "metadata": meta | {"labels": LABELS, "annotations": said},
        "spec": {
            "replicas": 2,
            "strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
        "status": status or {},
    }


def done(generation: int, reason: str = "NewReplicaSetAvailable", updated: int = 2) -> dict[str, Any]:
    progressing = {"type": "Progressing", "status": "True", "reason": reason}
    return {"observedGeneration": generation, "updatedReplicas": updated, "conditions": [progressing]}


def events(records: Records) -> list[dict[str, Any]]:
    assert all(encode(kind, value) for kind, value in records)
    assert [wrong for kind, value in records for wrong in validate(kind, value)[1]] == []
    return [value for kind, value in records if kind is RecordType.DEPLOYMENT_EVENT]


def known(obj: dict[str, Any]) -> Seen:
    return judge(obj, None, PLACE, at=NOON)[0]


@pytest.mark.requirement("M5.4", "M8.6")
def test_a_rollout_without_a_permit_is_an_inferred_deployment_that_ends() -> None:
    before = known(deployment(permit="p-1"))
    seen, records = judge(
        deployment(OTHER_IMAGE, 2, permit="p-1", written="2026-11-02T11:59:58Z"), before, PLACE, at=NOON
    )
    [started] = events(records)
    seen, none = judge(deployment(OTHER_IMAGE, 2, done(1), permit="p-1"), seen, PLACE, at=NOON + 1)
    seen, records = judge(deployment(OTHER_IMAGE, 2, done(2), permit="p-1"), seen, PLACE, at=NOON + 2)
    [ended] = events(records)
    _, nothing = judge(deployment(OTHER_IMAGE, 2, done(2), permit="p-1"), seen, PLACE, at=NOON + 3)

    assert (started["event_type"], started["provenance"], started["confidence"]) == ("started", "inferred", 0.9)
    assert (started["service"], started["environment"], started["region"]) == ("checkout", "production", "eu-west-1")
    assert (started["version"], started["artifact_digest"], started["kind"]) == ("4.3.0", OTHER, "release")
    assert started["occurred_at"] == NOON - 2_000_000
    assert started["tags"] == {
        "without_permit": "stale_permit",
        "cluster": "prod-1",
        "namespace": "shop",
        "workload": "Deployment/checkout",
        "manager": "kubectl-set",
    }
    assert (ended["event_type"], ended["deployment_id"]) == ("succeeded", started["deployment_id"])
    assert (none, nothing) == ([], [])


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "nothing shown": (deployment(), deployment(OTHER_IMAGE, 2), "no_permit"),
    "the permit of before": (deployment(permit="p"), deployment(OTHER_IMAGE, 2, permit="p"), "stale_permit"),
    "the id of before": (
        deployment(deployment_id="d-1"),
        deployment(OTHER_IMAGE, 2, deployment_id="d-1"),
        "stale_permit",
    ),
    "another permit": (deployment(permit="p"), deployment(OTHER_IMAGE, 2, permit="q"), ""),
    "another id": (deployment(deployment_id="d-1"), deployment(OTHER_IMAGE, 2, deployment_id="d-2"), ""),
    "scaled": (deployment(), deployment(generation=2) | {"spec": {**deployment()["spec"], "replicas": 9}}, ""),
}


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize("case", CASES)
def test_a_rollout_needs_a_permit_or_an_id_of_its_own(case: str) -> None:
    before, after, expected = CASES[case]
    _, records = judge(after, known(before), PLACE, at=NOON)

    assert [event["tags"]["without_permit"] for event in events(records)] == ([expected] if expected else [])


def test_a_permit_that_is_shown_a_moment_before_its_rollout_counts() -> None:
    seen, _ = judge(deployment(permit="q"), known(deployment(permit="p")), PLACE, at=NOON)
    _, records = judge(deployment(OTHER_IMAGE, 2, permit="q"), seen, PLACE, at=NOON)

    assert events(records) == []


def test_a_change_of_nothing_but_configuration_is_one() -> None:
    changed = deployment(generation=2)
    changed["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    _, records = judge(changed, known(deployment()), PLACE, at=NOON)

    assert [event["kind"] for event in events(records)] == ["configuration_change"]


def test_what_stood_in_the_first_list_is_looked_at_so_far_back() -> None:
    since = NOON - 3_600_000_000
    old, fresh = deployment(written="2026-11-02T09:00:00Z"), deployment(written="2026-11-02T11:30:00Z")
    found = [events(judge(obj, None, PLACE, at=NOON, since=since)[1]) for obj in (old, fresh)]

    assert [len(records) for records in found] == [0, 1]
    assert (found[1][0]["confidence"], found[1][0]["occurred_at"]) == (0.6, NOON - 1_800_000_000)


@pytest.mark.requirement("M5.4")
def test_with_the_gates_keys_a_permit_is_checked_and_not_only_seen() -> None:
    pytest.importorskip("jwt", reason="the producers alone issue no permits")
    from support.permits import AUTHORITY, permit

    place = replace(PLACE, authority=AUTHORITY)
    found = [
        [event["tags"]["without_permit"] for event in events(judge(obj, None, place, at=NOON + 60_000_000)[1])]
        for obj in (
            deployment(IMAGE, permit=permit()),
            deployment(OTHER_IMAGE, permit=permit()),
            deployment(IMAGE, permit=permit(environment="lab", service="cart")),
        )
    ]

    assert found == [[], ["other_artifact"], ["other_service,other_environment"]]


STATEFUL = {"observedGeneration": 2, "readyReplicas": 2, "updateRevision": "b", "currentRevision": "b"}
DAEMON = {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}
ENDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "replicas are there": ("Deployment", done(2), "succeeded"),
    "not all of them": ("Deployment", done(2, updated=1), ""),
    "not yet looked at": ("Deployment", done(1), ""),
    "takes too long": ("Deployment", done(2, "ProgressDeadlineExceeded"), "failed"),
    "stateful set": ("StatefulSet", STATEFUL, "succeeded"),
    "stateful set on its way": ("StatefulSet", STATEFUL | {"currentRevision": "a"}, ""),
    "daemon set": ("DaemonSet", DAEMON, "succeeded"),
    "daemon set on its way": ("DaemonSet", DAEMON | {"numberAvailable": 2}, ""),
    "job": ("Job", {"conditions": [{"type": "Complete", "status": "True"}]}, "succeeded"),
    "failed job": ("Job", {"conditions": [{"type": "Failed", "status": "True"}]}, "failed"),
    "job on its way": ("Job", {"active": 1}, ""),
    "cron job": ("CronJob", {}, "succeeded"),
    "pod": ("Pod", {"phase": "Running"}, "succeeded"),
    "pod that waits": ("Pod", {"phase": "Pending"}, ""),
    "replica set": ("ReplicaSet", {"observedGeneration": 2, "readyReplicas": 2}, "succeeded"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_rollout_ends_as_its_controller_says(case: str) -> None:
    kind, status, expected = ENDS[case]

    assert end_of(deployment(generation=2, status=status) | {"kind": kind}) == expected


def test_a_workload_that_is_removed_cancels_its_rollout() -> None:
    seen, _ = judge(deployment(), None, PLACE, at=NOON)
    records = removed(deployment(), seen, PLACE, NOON + 5)

    assert [event["event_type"] for event in events(records)] == ["cancelled"]
    assert [v["observation_type"] for kind, v in records if kind is RecordType.OBSERVATION] == ["removed"]


def pod(image_id: str = f"registry.example/checkout@{DIGEST}", restarts: int = 0) -> dict[str, Any]:
    status = {
        "name": "c",
        "image": "registry.example/checkout:4.2.0",
        "imageID": image_id,
        "restartCount": restarts,
        "state": {"running": {"startedAt": "2026-11-02T11:59:00Z"}},
    }
    return {
        "kind": "Pod",
        "metadata": {"name": "checkout-7d-x", "namespace": "shop", "uid": "u-2", "labels": LABELS},
        "spec": {"containers": [{"name": "c", "image": "registry.example/checkout:4.2.0"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


@pytest.mark.requirement("M8.6")
def test_what_runs_is_observed_once_by_the_digest_that_the_node_reports() -> None:
    found, records = running(pod(), frozenset(), PLACE, NOON)
    again, nothing = running(pod(), found, PLACE, NOON + 1)
    [(kind, value)] = records

    assert (again, nothing) == (found, [])
    assert encode(kind, value)
    assert value["observation_type"] == "running"
    assert (value["artifact_digest"], value["version"]) == (DIGEST, "4.2.0")
    assert (value["cluster"], value["instance"], value["service"]) == ("prod-1", "shop/checkout-7d-x", "checkout")
    assert value["occurred_at"] == NOON - 60_000_000
    assert pod_removed(pod(), PLACE, NOON)[0][1]["observation_type"] == "removed"


def test_the_id_of_an_images_configuration_is_no_digest_of_it() -> None:
    _, [(_, value)] = running(pod(OTHER), frozenset(), PLACE, NOON)

    assert "artifact_digest" not in value


def test_what_is_told_again_has_the_same_ids() -> None:
    one, other = (judge(deployment(), None, PLACE, at=at)[1] for at in (NOON, NOON + 9_000_000))

    assert [value[kind.id_field] for kind, value in one] == [value[kind.id_field] for kind, value in other]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, JSON, st.sampled_from(["Deployment", "Pod", "CronJob", "Job", "DaemonSet", "Odd"]))
def test_no_object_of_any_shape_crashes_it(meta: Any, spec: Any, status: Any, kind: str) -> None:
    obj = {"kind": kind, "metadata": meta, "spec": spec, "status": status}
    seen, records = judge(obj, None, PLACE, at=NOON)
    _, more = running(obj, frozenset(), PLACE, NOON)

    assert all(encode(k, value) for k, value in [*records, *more, *removed(obj, seen, PLACE, NOON)])
