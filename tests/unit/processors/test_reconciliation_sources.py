"""Reconciliation over what watches and adapters really tell of a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail.adapters import aws
from deploytrail.adapters.base import Defaults
from deploytrail.kubernetes.rollouts import Place
from deploytrail.kubernetes.watch_state import PODS, Trail
from deploytrail_processors.apps.reconciliation import Reconcile
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.records import RecordType
from support.apps import Handled, tick
from support.kubernetes import workload
from support.values import MINUTE, NOON, event, observation

Value = dict[str, Any]
DEPLOYMENTS = "/apis/apps/v1/deployments"
ONE, TWO = "sha256:" + "1a" * 32, "sha256:" + "2b" * 32
PLACE: Value = {"region": "eu-west-1", "environment": "production", "service": "checkout"}


def at(minutes: float) -> int:
    return NOON + int(minutes * MINUTE)


def on_trail(kind: RecordType, value: Value) -> Value:
    """A record as the intake app writes it to the trail."""
    times = {"received_at": value["occurred_at"], "corrected_at": value["occurred_at"], "uncertainty_ms": 20}
    return decode(encode(kind, value | times))[1]


class Cluster:
    """A watched cluster, and the app that reads what the watch tells."""

    def __init__(self) -> None:
        self.now = at(0)
        self.app = Handled(Reconcile)
        self._trail = Trail(
            lambda: Place("prod-1", "eu-west-1", "production"), self._put, since_seconds=60, now=lambda: self.now
        )
        self._trail.replace(DEPLOYMENTS, [])
        self._trail.replace(PODS, [])

    def _put(self, kind: RecordType, value: Value) -> None:
        self.app.tell(on_trail(kind, value))

    def comes_to(self, minutes: float) -> None:
        while self.now < at(minutes):
            self.now = min(self.now + MINUTE, at(minutes))
            self.app.tell(tick(self.now))

    def apply(self, generation: int, image: str, deployment_id: str) -> None:
        annotations = {"deploytrail.dev/deployment-id": deployment_id}
        self._trail.changed(DEPLOYMENTS, workload(generation=generation, annotations=annotations, **_image(image)))

    def start(self, name: str, image: str, digest: str) -> None:
        self._trail.changed(PODS, self._pod(name, image, digest))

    def stop(self, name: str, image: str, digest: str) -> None:
        self._trail.deleted(PODS, self._pod(name, image, digest))

    def _pod(self, name: str, image: str, digest: str) -> Value:
        owner = [{"kind": "ReplicaSet", "name": "checkout-7d4b9", "controller": True}]
        pod = workload("Pod", image, name=name, meta={"uid": name, "ownerReferences": owner})
        state = {"running": {"startedAt": format_instant(self.now)}}
        repository = image.partition(":")[0]
        status = {"name": "c0", "image": image, "imageID": f"{repository}@{digest}", "state": state, "restartCount": 0}
        return pod | {"status": {"containerStatuses": [status]}}

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(one["rule"], one["reason"]) for one in self.app.standing]


def _image(image: str) -> Value:
    template = workload("Deployment", image)["spec"]["template"]
    return {"spec": {"template": template}}


@pytest.mark.requirement("M3.5")
def test_a_watched_rollout_whose_pipeline_never_reported_is_inferred() -> None:
    cluster = Cluster()
    cluster.app.tell(
        event("started", at(0), deployment_id="run-1", version="4.2.0", artifact_digest=ONE, **PLACE),
        event("succeeded", at(3), deployment_id="run-1", version="4.2.0", artifact_digest=ONE, **PLACE),
    )
    cluster.comes_to(1)
    cluster.apply(1, "shop/checkout:4.2.0", "run-1")
    cluster.start("checkout-1", "shop/checkout:4.2.0", ONE)
    cluster.comes_to(60)
    assert cluster.app.written == []

    cluster.apply(2, "shop/checkout:4.3.0", "run-2")
    cluster.start("checkout-2", "shop/checkout:4.3.0", TWO)
    cluster.stop("checkout-1", "shop/checkout:4.2.0", ONE)
    cluster.comes_to(90)

    assert cluster.said == [("unreported_deployment", "runs_without_deployment")]
    inferred = [one for one in cluster.app.written if one.get("event_type") == "succeeded"]
    assert {(one["version"], one["artifact_digest"], one["confidence"]) for one in inferred} == {("4.3.0", TWO, 0.72)}


@pytest.mark.requirement("M3.5")
def test_git_says_more_than_the_watched_cluster_runs() -> None:
    cluster = Cluster()
    cluster.app.tell(
        *(event(word, at(0), deployment_id="run-1", version="4.2.0", **PLACE) for word in ("started", "succeeded"))
    )
    cluster.apply(1, "shop/checkout:4.2.0", "run-1")
    cluster.start("checkout-1", "shop/checkout:4.2.0", ONE)
    cluster.comes_to(30)
    declared = {"observation_type": "declared", "version": "4.3.0", "source": "git", "commit_sha": "1f" * 20}
    cluster.app.tell(observation(cluster.now, **declared, **PLACE))
    cluster.comes_to(50)

    [found] = cluster.app.standing
    assert (found["rule"], found["reason"]) == ("drift", "declared_but_not_running")
    assert found["explanation"] == (
        "git says 4.3.0, checkout in prod-1 runs 4.2.0 on 1 of 1 (shop/checkout-1): "
        "what is declared never came to run there"
    )


def task(name: str, image: str, state: str, minutes: float) -> Value:
    detail = {
        "taskArn": f"arn:aws:ecs:eu-west-1:1:task/prod-1/{name}",
        "clusterArn": "arn:aws:ecs:eu-west-1:1:cluster/prod-1",
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:1:task-definition/checkout:7",
        "group": "service:checkout",
        "lastStatus": state,
        "startedBy": "ecs-svc/1",
        "updatedAt": format_instant(at(minutes)),
        "containers": [{"name": "checkout", "image": image}, {"name": "proxy", "image": "proxy:9"}],
    }
    told = {"detail-type": "ECS Task State Change", "source": "aws.ecs", "region": "eu-west-1", "id": f"{name}{state}",
            "time": format_instant(at(minutes)), "detail": detail}  # fmt: skip
    defaults = Defaults(environment="production")
    [(kind, value)] = aws.adapt(told, {}, defaults, at(minutes)).records
    return on_trail(kind, value)


def test_tasks_of_ecs_that_no_deployment_explains_are_inferred() -> None:
    app = Handled(Reconcile)
    app.tell(*(event(word, at(-60), version="1.0", **PLACE) for word in ("started", "succeeded")))
    app.tell(task("a", "shop/checkout:1.0", "RUNNING", -60), tick(at(0)))
    app.tell(task("b", "shop/checkout:2.0", "RUNNING", 1), task("a", "shop/checkout:1.0", "STOPPED", 2))
    app.tell(tick(at(15)))
    assert app.written == []

    app.tell(tick(at(17)))

    assert [(one["event_type"], one["version"]) for one in app.written if "event_type" in one] == [
        ("started", "2.0"),
        ("succeeded", "2.0"),
    ]
