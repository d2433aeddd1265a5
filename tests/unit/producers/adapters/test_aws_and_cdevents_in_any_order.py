"""AWS delivers at least once and in no order, and so does whoever sends CDEvents: the deployment is the same."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import Defaults
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from support.golden import NOON

ACCOUNT = "111122223333"
SERVICE = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:service/production/shop"


def aws(minute: int, kind: str, *resources: str, **detail: Any) -> dict[str, Any]:
    at = f"2026-11-02T11:{minute:02}:00Z"
    place = {"account": ACCOUNT, "region": "eu-west-1", "time": at, "resources": resources}
    return {"id": f"e-{minute}", "detail-type": kind, "detail": detail} | place


def codedeploy(minute: int, state: str, instance: str = "") -> dict[str, Any]:
    what = "Instance" if instance else "Deployment"
    names = {"deploymentId": "d-1", "application": "shop", "deploymentGroup": "production", "state": state}
    return aws(minute, f"CodeDeploy {what} State-change Notification", **names, instanceId=instance)


def codepipeline(minute: int, level: str, state: str, **more: Any) -> dict[str, Any]:
    names = {"pipeline": "shop", "execution-id": "e-1", "state": state} | more
    return aws(minute, f"CodePipeline {level} Execution State Change", **names)


def ecs(minute: int, word: str) -> dict[str, Any]:
    names = {"deploymentId": "ecs-svc/1", "eventName": f"SERVICE_DEPLOYMENT_{word}"}
    return aws(minute, "ECS Deployment State Change", SERVICE, **names)


def cdevent(minute: int, of: str, subject: str, chain: str = "", **content: Any) -> dict[str, Any]:
    at = f"2026-11-02T11:{minute:02}:00Z"
    context = {"specversion": "0.5.1", "id": f"e-{minute}", "source": "/ci", "type": f"dev.cdevents.{of}.0.3.0"}
    place = {"environment": {"id": "production"}, "artifactId": "pkg:generic/shop@4.2.0"}
    return {
        "context": context | {"timestamp": at} | ({"chainId": chain} if chain else {}),
        "subject": {"id": subject, "content": place | content},
        "customData": {"environment": "production", "service": "shop"},
    }


STORIES = {
    "aws codedeploy": (
        [codedeploy(1, "START"), codedeploy(2, "SUCCESS", "i-1"), codedeploy(3, "READY"), codedeploy(4, "SUCCESS")],
        "succeeded",
    ),
    "aws codedeploy stopped": ([codedeploy(1, "START"), codedeploy(2, "STOP")], "cancelled"),
    "aws codepipeline tried again": (
        [
            codepipeline(1, "Pipeline", "STARTED"),
            codepipeline(2, "Action", "FAILED", stage="Prod", action="Deploy"),
            codepipeline(3, "Pipeline", "FAILED"),
            codepipeline(4, "Pipeline", "RESUMED"),
            codepipeline(5, "Pipeline", "SUCCEEDED"),
        ],
        "succeeded",
    ),
    "aws ecs": ([ecs(1, "IN_PROGRESS"), ecs(2, "FAILED")], "failed"),
    "cdevents of a deployment": (
        [
            cdevent(1, "deployment.queued", "d-1"),
            cdevent(2, "deployment.started", "d-1"),
            cdevent(3, "targetrollout.finished", "r-1", deploymentId="d-1", outcome="success"),
            cdevent(4, "deployment.finished", "d-1", outcome="success"),
        ],
        "succeeded",
    ),
    "cdevents of a chain": (
        [
            cdevent(1, "pipelinerun.started", "run-7", "c", pipelineName="ship"),
            cdevent(2, "taskrun.finished", "task-9", "c", outcome="failure"),
            cdevent(3, "service.deployed", "shop", "c"),
        ],
        "succeeded",
    ),
}


@pytest.mark.requirement("M2.3", "M7.5")
@pytest.mark.parametrize("story", STORIES)
def test_a_deployment_ends_the_same_in_whatever_order_and_however_often_it_is_told(story: str) -> None:
    lifecycle = pytest.importorskip("deploytrail_processors.rules.lifecycle", reason="needs the processors")
    payloads, state = STORIES[story]
    source, place = adapters.load(story.partition(" ")[0]), Defaults("eu-west-1", "production")
    told = [decode(encode(*one))[1] for given in payloads for one in source.adapt(given, {}, place, NOON).records]
    [known_as] = {event["deployment_id"] for event in told}

    contents = []
    for order in permutations(told):
        facts = lifecycle.new_facts(known_as)
        for event in {event["event_id"]: event for event in (*order, *order)}.values():  # intake drops repeats
            facts = lifecycle.add(facts, event | {"corrected_at": event["occurred_at"], "uncertainty_ms": 0})
        contents.append(lifecycle.derive(facts, NOON, None))

    assert len(told) == len(payloads)
    assert all(content == contents[0] for content in contents)
    assert (contents[0]["state"], contents[0]["environment"]) == (state, "production")
    assert contents[0]["started_at"] is not None


def test_the_kinds_of_these_stories_are_deployments() -> None:
    for story, (payloads, _) in STORIES.items():
        source = adapters.load(story.partition(" ")[0])
        for given in payloads:
            [(kind, _)] = source.adapt(given, {}, Defaults("eu-west-1", "production"), NOON).records

            assert kind is RecordType.DEPLOYMENT_EVENT
