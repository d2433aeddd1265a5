"""CDEvents of every version: what is told once is one deployment, and nothing is left out in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail.adapters import cdevents
from deploytrail.adapters.base import Adapted, AdapterError, Defaults
from support.golden import NOON

HERE = Defaults(region="eu-west-1", environment="production", service="checkout")
SHARED = Path(__file__).parents[5] / "shared/fixtures/cdevents"


def adapted(payload: Any, defaults: Defaults = HERE) -> Adapted:
    return cdevents.adapt(payload, {}, defaults, NOON)


def event(of: str, subject: str = "checkout", *, chain: str = "", where: str = "production", **custom: Any) -> Any:
    context = {"specversion": "0.5.1", "id": "e-1", "source": "/ci", "type": f"dev.cdevents.{of}.0.3.0"}
    return {
        "context": context | ({"chainId": chain} if chain else {}),
        "subject": {"id": subject, "content": {"environment": {"id": where}}},
        "customData": custom,
    }


def deployment_of(payload: Any) -> str:
    [(_, value)] = adapted(payload).records
    return str(value["deployment_id"])


@pytest.mark.requirement("M7.5")
@pytest.mark.parametrize("version", ["v0.4.1", "v0.5.1"])
def test_every_event_of_the_spec_is_a_record_or_has_a_reason(version: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared/fixtures/cdevents is missing")
    told, ignored = set(), set()
    for path in SHARED.glob(f"{version}/conformance/*.json"):
        found = adapted(json.loads(path.read_text("utf-8")))
        assert bool(found.records) != bool(found.ignored)
        (told if found.records else ignored).add(path.stem)

    services, incidents = ("deployed", "published", "removed", "rolledback", "upgraded"), ("detected", "reported")
    assert told == {f"service_{word}" for word in services} | {f"incident_{word}" for word in (*incidents, "resolved")}
    assert len(ignored) == 37


@pytest.mark.parametrize(
    ("outcome", "event_type"),
    [("success", "succeeded"), ("failure", "failed"), ("error", "failed"), ("cancel", "cancelled"), ("?", "unknown")],
)
def test_every_outcome_is_mapped_on_purpose(outcome: str, event_type: str) -> None:
    finished = event("deployment.finished", "d-1")
    finished["subject"]["content"]["outcome"] = outcome
    [(_, value)] = adapted(finished).records

    assert (value["event_type"], value["raw_status"]) == (event_type, outcome)


def test_a_run_its_task_and_the_service_of_one_chain_are_one_deployment() -> None:
    custom = {"environment": "production", "service": "checkout"}
    ids = {
        deployment_of(event("pipelinerun.started", "run-7", chain="c", **custom)),
        deployment_of(event("taskrun.finished", "task-9", chain="c", **custom)),
        deployment_of(event("service.deployed", chain="c")),
    }

    assert ids == {"cdevents:c:eu-west-1:production:checkout"}


def test_environments_and_regions_of_one_chain_are_deployments_of_their_own() -> None:
    ids = {
        deployment_of(event("service.deployed", chain="c")),
        deployment_of(event("service.deployed", chain="c", where="staging")),
        deployment_of(event("service.deployed", chain="c", region="us-east-1")),
        deployment_of(event("service.rolledback", chain="c")),
        deployment_of(event("service.deployed", chain="d")),
    }

    assert len(ids) == 5


def test_a_rollout_is_a_part_of_its_deployment() -> None:
    part = event("targetrollout.finished", "r-1")
    part["subject"]["content"] |= {"deploymentId": "d-1", "outcome": "success"}
    [(_, value)] = adapted(part).records

    assert value["event_type"] == "progressed"
    assert value["deployment_id"] == deployment_of(event("deployment.started", "d-1"))


def test_one_wrong_event_of_a_batch_is_refused_with_its_place() -> None:
    with pytest.raises(AdapterError, match=r"event 1: .* is 'com\.acme\.thing'"):
        adapted([event("service.deployed"), {"type": "com.acme.thing", "data": {"a": 1}}])
