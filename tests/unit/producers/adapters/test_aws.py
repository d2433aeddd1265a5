"""AWS: however an event is carried it is the same record, and whatever its state is called it is mapped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deploytrail.adapters import _aws_code, _aws_running, aws
from deploytrail.adapters.base import Adapted, AdapterError, Defaults
from support.golden import NOON

NOWHERE = Defaults()
IN_PRODUCTION = Defaults(environment="production")
ACCOUNT = "111122223333"
TOPIC = f"arn:aws:sns:eu-west-1:{ACCOUNT}:deployments"


def event(kind: str, *resources: str, **detail: Any) -> dict[str, Any]:
    return {
        "id": "6f0d1f6e",
        "detail-type": kind,
        "account": ACCOUNT,
        "region": "eu-west-1",
        "time": "2026-11-02T12:00:00Z",
        "resources": resources,
        "detail": detail,
    }


def codedeploy(state: str) -> dict[str, Any]:
    kind = "CodeDeploy Deployment State-change Notification"
    return event(kind, deploymentId="d-1", application="shop", deploymentGroup="production", state=state)


def codepipeline(level: str, state: str, **more: Any) -> dict[str, Any]:
    names = {"pipeline": "shop", "execution-id": "e-1", "state": state} | more
    return event(f"CodePipeline {level} Execution State Change", **names)


def notification(message: Any) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": TOPIC, "Message": json.dumps(message)}


def adapted(payload: Any, defaults: Defaults = NOWHERE) -> Adapted:
    return aws.adapt(payload, {}, defaults, NOON)


def value_of(payload: Any, defaults: Defaults = NOWHERE) -> dict[str, Any]:
    [(_, value)] = adapted(payload, defaults).records
    return value


@pytest.mark.requirement("M7.5", "M8.6")
@pytest.mark.parametrize(
    "wrap",
    [
        notification,
        lambda given: [given],
        lambda given: {"Records": [{"EventSource": "aws:sns", "Sns": notification(given)}]},
        lambda given: {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(given)}]},
        lambda given: {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(notification(given))}]},
    ],
    ids=["sns", "list", "lambda_of_sns", "lambda_of_sqs", "lambda_of_sqs_of_sns"],
)
def test_whoever_carries_an_event_it_is_the_same_record(wrap: Any) -> None:
    assert adapted(wrap(codedeploy("SUCCESS"))) == adapted(codedeploy("SUCCESS"))


def test_wrapping_has_an_end() -> None:
    payload: Any = codedeploy("SUCCESS")
    for _ in range(9):
        payload = [payload]

    with pytest.raises(AdapterError, match="wrapped at most 5 times"):
        adapted(payload)


@pytest.mark.parametrize(("state", "event_type"), [*_aws_code.CODEDEPLOY.items(), ("DANCING", "unknown")])
def test_every_state_of_codedeploy_is_mapped_on_purpose(state: str, event_type: str) -> None:
    found = value_of(codedeploy(state))

    assert (found["event_type"], found["raw_status"]) == (event_type, state)


@pytest.mark.parametrize(("state", "event_type"), [*_aws_code.CODEPIPELINE.items(), ("DANCING", "unknown")])
def test_every_state_of_a_pipeline_is_mapped_on_purpose(state: str, event_type: str) -> None:
    found = value_of(codepipeline("Pipeline", state), IN_PRODUCTION)

    assert (found["event_type"], found["raw_status"]) == (event_type, state)


@pytest.mark.parametrize(("state", "approval_type"), [*_aws_code.APPROVAL.items(), ("DANCING", "unknown")])
def test_every_state_of_an_approval_is_mapped_on_purpose(state: str, approval_type: str) -> None:
    found = value_of(codepipeline("Action", state, stage="Prod", action="Ask", type={"category": "Approval"}))

    assert (found["approval_type"], found["environment"]) == (approval_type, "Prod")


@pytest.mark.parametrize(("state", "event_type"), [*_aws_code.CODEBUILD.items(), ("DANCING", "unknown")])
def test_every_state_of_a_build_that_deploys_is_mapped_on_purpose(state: str, event_type: str) -> None:
    variables = [{"name": "DEPLOYTRAIL_ENVIRONMENT", "value": "production", "type": "PLAINTEXT"}]
    more = {"environment": {"environment-variables": variables}}
    detail = {"build-id": "b:1", "project-name": "shop", "build-status": state, "additional-information": more}
    found = value_of(event("CodeBuild Build State Change", **detail))

    assert (found["event_type"], found["raw_status"]) == (event_type, state)


@pytest.mark.parametrize(("name", "event_type"), [*_aws_running.ECS_DEPLOYMENT.items(), ("DANCING", "unknown")])
def test_every_state_of_an_ecs_deployment_is_mapped_on_purpose(name: str, event_type: str) -> None:
    service = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:service/production/shop"
    found = value_of(event("ECS Deployment State Change", service, deploymentId="ecs-svc/1", eventName=name))

    assert (found["event_type"], found["raw_status"]) == (event_type, name)


@pytest.mark.parametrize("state", [*_aws_running.ECS_TASK, *_aws_running.ECS_TASK_ON_THE_WAY, "DANCING"])
def test_a_task_runs_or_is_gone_or_is_no_record(state: str) -> None:
    found = adapted(event("ECS Task State Change", taskArn="arn:task/1", group="service:shop", lastStatus=state))

    assert [value["observation_type"] for _, value in found.records] == (
        [_aws_running.ECS_TASK[state]] if state in _aws_running.ECS_TASK else []
    )
    assert bool(found.records) != bool(found.ignored)


def test_a_pipeline_its_stages_and_its_actions_are_one_deployment_where_the_url_names_the_environment() -> None:
    deploy = {"category": "Deploy", "provider": "ECS"}
    told = [
        codepipeline("Pipeline", "STARTED"),
        codepipeline("Stage", "STARTED", stage="Prod"),
        codepipeline("Action", "STARTED", stage="Prod", action="Deploy", type=deploy),
        codepipeline("Action", "SUCCEEDED", stage="Prod", action="Deploy", type=deploy),
        codepipeline("Stage", "SUCCEEDED", stage="Prod"),
        codepipeline("Pipeline", "SUCCEEDED"),
    ]
    values = [value for _, value in adapted(told, IN_PRODUCTION).records]

    assert len({value["deployment_id"] for value in values}) == 1
    assert len({value["event_id"] for value in values}) == 6
    assert [value["event_type"] for value in values] == ["started", *["progressed"] * 4, "succeeded"]


def test_without_it_each_deploy_action_is_one_in_the_environment_of_its_stage() -> None:
    deploy = {"category": "Deploy", "provider": "ECS"}
    told = [
        codepipeline("Pipeline", "STARTED"),
        codepipeline("Stage", "STARTED", stage="Staging"),
        codepipeline("Action", "SUCCEEDED", stage="Build", action="Compile", type={"category": "Build"}),
        codepipeline("Action", "SUCCEEDED", stage="Staging", action="Deploy", type=deploy),
        codepipeline("Action", "FAILED", stage="Prod", action="Deploy", region="us-east-1", type=deploy),
    ]
    values = [value for _, value in adapted(told).records]

    assert [(v["environment"], v["region"], v["event_type"]) for v in values] == [
        ("Staging", "eu-west-1", "succeeded"),
        ("Prod", "us-east-1", "failed"),
    ]
    assert len({value["deployment_id"] for value in values}) == 2


def test_the_url_may_say_what_of_a_pipeline_is_a_deployment() -> None:
    told = [
        codepipeline("Pipeline", "SUCCEEDED"),
        codepipeline("Action", "SUCCEEDED", stage="Prod", action="Deploy", type={"category": "Deploy"}),
    ]

    def types(**options: str) -> list[tuple[str, str]]:
        given = Defaults(environment="production", options=options)
        return [(value["event_type"], value["environment"]) for _, value in adapted(told, given).records]

    assert types() == types(pipelines="executions") == [("succeeded", "production"), ("progressed", "production")]
    assert types(pipelines="actions") == [("succeeded", "production")]
    assert types(pipelines="none") == []
    with pytest.raises(AdapterError, match="pipelines of the URL is 'all'; expected executions, actions, none"):
        types(pipelines="all")


def test_the_token_of_an_approval_is_not_kept() -> None:
    token = "1f1f2d4a-approve-it"  # no real one
    wanted = {"approval": {"pipelineName": "shop", "stageName": "Prod", "actionName": "Ask", "token": token}}

    assert token not in repr(adapted(notification(wanted)))


def test_eventbridge_and_a_trigger_of_codedeploy_tell_of_one_event() -> None:
    trigger = {"region": "eu-west-1", "accountId": ACCOUNT, "eventTriggerName": "t", "deploymentId": "d-1"}
    by_trigger = value_of(notification(trigger | {"status": "SUCCEEDED", "applicationName": "shop"}))
    by_event = value_of(codedeploy("SUCCESS"))

    assert by_trigger["event_id"] == by_event["event_id"]
    assert by_trigger["deployment_id"] == by_event["deployment_id"]


def test_accounts_and_regions_have_deployments_of_their_own() -> None:
    here = codedeploy("SUCCESS")
    ids = {
        value_of(given)["deployment_id"] for given in (here, here | {"region": "us-east-1"}, here | {"account": "9"})
    }

    assert len(ids) == 3


def test_firing_and_resolved_share_their_fingerprint() -> None:
    def alarm(state: str) -> dict[str, Any]:
        arn = f"arn:aws:cloudwatch:eu-west-1:{ACCOUNT}:alarm:shop-5xx"
        return event("CloudWatch Alarm State Change", arn, alarmName="shop-5xx", state={"value": state})

    firing, resolved = value_of(alarm("ALARM")), value_of(alarm("OK"))

    assert (firing["signal_type"], resolved["signal_type"]) == ("alert_firing", "alert_resolved")
    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["signal_id"] != resolved["signal_id"]
