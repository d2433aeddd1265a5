"""What CD platforms send: every status on purpose, the same whatever the order, and nothing counted twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import Defaults
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from support.golden import FOLDER, NOON, cases

CD = ("argo_rollouts", "argocd", "datadog_deployments", "devlake", "flux", "harness", "kubernetes", "spinnaker",
      "terraform_cloud")  # fmt: skip
ACCEPTED = [path for path in cases() if path.parent.name in CD and "error" not in json.loads(path.read_text("utf-8"))]
Value = dict[str, Any]


def payload(source: str, case: str) -> Any:
    return json.loads((FOLDER / source / f"{case}.json").read_text("utf-8"))["payload"]


def values(source: str, given: Any, at: int = NOON, defaults: Defaults | None = None) -> list[tuple[RecordType, Value]]:
    """The records as they are read back."""
    place = defaults or Defaults("eu-west-1", "production")
    return [decode(encode(*one)) for one in adapters.load(source).adapt(given, {}, place, at).records]


def deployments(source: str, given: Any, at: int = NOON) -> list[Value]:
    return [value for kind, value in values(source, given, at) if kind is RecordType.DEPLOYMENT_EVENT]


def _argocd(status: str) -> Any:
    given = payload("argocd", "template_in_full")
    phase, _, health = status.partition("/")
    given["app"]["status"]["operationState"]["phase"] = phase
    given["app"]["status"]["health"] = {"status": health} if health else {}
    return given


def _argo_rollouts(status: str) -> Any:
    given = payload("argo_rollouts", "canary_started")
    phase, _, more = status.partition("/")
    step = 0 if more == "start" else 2
    given["rollout"]["status"] |= {"phase": phase, "currentStepIndex": step, "abort": more == "aborted"}
    return given


def _flux(status: str) -> Any:
    reason, _, healthy = status.partition("/")
    message = "Health check passed in 3s" if healthy else "told"
    return payload("flux", "kustomization_applied") | {"reason": reason, "message": message}


def _spinnaker(status: str) -> Any:
    given = payload("spinnaker", "unknown_status_wrapped")["payload"]
    given["content"]["execution"]["stages"][0]["status"] = status
    return given


def _harness(status: str) -> Any:
    kind, _, node = status.partition("/")
    given = payload("harness", "stage_failed" if kind.startswith("Stage") else "pipeline_succeeded")
    given["eventData"] |= {"eventType": kind, "nodeStatus": node or "told"}
    return given


def _terraform_cloud(status: str) -> Any:
    given = payload("terraform_cloud", "run_applied")
    given["notifications"][0]["run_status"] = status
    return given


def _kubernetes(status: str) -> Any:
    if status == "ScalingReplicaSet":
        return payload("kubernetes", "rollout_started")
    if status in ("updating", "updated"):
        return payload("kubernetes", "stateful_sets_and_daemon_sets")[status == "updated"]
    given = payload("kubernetes", "deployment_completed")
    given["object"]["status"]["conditions"][1]["reason"] = status
    return given


def _devlake(status: str) -> Any:
    return payload("devlake", "aborted") | {"result": status}


WITH_STATUS: dict[str, Callable[[str], Any]] = {
    "argo_rollouts": _argo_rollouts,
    "argocd": _argocd,
    "devlake": _devlake,
    "flux": _flux,
    "harness": _harness,
    "kubernetes": _kubernetes,
    "spinnaker": _spinnaker,
    "terraform_cloud": _terraform_cloud,
}


def _statuses() -> Iterator[Any]:
    for source in WITH_STATUS:
        for status, event_type in (adapters.load(source).statuses | {"Pondering": "unknown"}).items():
            # A stage of Spinnaker that has not started is told of once it has.
            if (source, status) != ("spinnaker", "NOT_STARTED"):
                yield pytest.param(source, status, event_type, id=f"{source}-{status or 'none'}")


@pytest.mark.requirement("M3.2")
@pytest.mark.parametrize(("source", "status", "event_type"), list(_statuses()))
def test_every_status_is_mapped_on_purpose_and_an_unknown_one_is_kept(
    source: str, status: str, event_type: str
) -> None:
    found = deployments(source, WITH_STATUS[source](status))[-1]

    assert found["event_type"] == event_type
    if event_type == "unknown":
        assert found["raw_status"].casefold().startswith(status.casefold())


@pytest.mark.requirement("M2.3")
@pytest.mark.parametrize("path", ACCEPTED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_delivery_that_comes_again_later_has_the_same_ids(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    hour = 3_600_000_000
    first, again = (
        [
            (kind, value[kind.id_field], value.get("deployment_id"))
            for kind, value in values(path.parent.name, given, at)
        ]
        for given, at in ((case["payload"], NOON), (case["payload"], NOON + hour))
    )

    assert first == again


# Deliveries of one deployment, and how it ends.
STORIES = {
    "argocd": (["sync_running", "unknown_phase", "template_in_full"], "succeeded"),
    "argocd failing": (["sync_running", "sync_failed"], "failed"),
    "argo_rollouts": (
        ["canary_started", "canary_weight_of_the_traffic_router", "canary_paused_at_half", "canary_completed"],
        "succeeded",
    ),
    "argo_rollouts aborted": (["canary_started", "canary_paused_at_half", "canary_aborted"], "failed"),
    "flux": (["kustomization_waits", "kustomization_progressing", "kustomization_healthy"], "succeeded"),
    "harness": (["stage_started", "stage_of_several_services", "pipeline_of_one_environment"], "succeeded"),
    "kubernetes": (["rollout_started", "deployment_progressing", "deployment_completed"], "succeeded"),
    "kubernetes timing out": (["rollout_started", "deployment_timed_out"], "failed"),
    "spinnaker": (["stage_starting_before_its_status", "several_clusters_in_one_stage"], "succeeded"),
    "terraform_cloud": (["run_created", "several_notifications_in_one_request", "run_applied"], "succeeded"),
    "datadog_deployments": (["deployment"], "succeeded"),
    "devlake": (["several_repositories"], "succeeded"),
}


@pytest.mark.requirement("M2.3")
@pytest.mark.parametrize("story", STORIES)
def test_a_deployment_ends_the_same_in_whatever_order_and_however_often_it_is_told(story: str) -> None:
    lifecycle = pytest.importorskip("deploytrail_processors.rules.lifecycle", reason="needs the processors")
    source, (told, state) = story.partition(" ")[0], STORIES[story]
    payloads = [payload(source, case) for case in told]
    known_as = deployments(source, payloads[-1])[0]["deployment_id"]

    contents = []
    for order in permutations(payloads):
        facts, seen = lifecycle.new_facts(known_as), set()
        for event in (event for given in (*order, *order) for event in deployments(source, given)):
            # The intake drops what it knows by its id, and corrects the clock.
            if event["deployment_id"] == known_as and event["event_id"] not in seen:
                seen.add(event["event_id"])
                facts = lifecycle.add(facts, event | {"corrected_at": event["occurred_at"], "uncertainty_ms": 0})
        contents.append(lifecycle.derive(facts, NOON, None))

    assert all(content == contents[0] for content in contents)
    assert contents[0]["state"] == state
    assert contents[0]["started_at"] is not None or source in ("flux",)


@pytest.mark.requirement("M2.5")
def test_a_canary_is_followed_by_its_weight_until_it_is_the_whole() -> None:
    told = ("canary_started", "canary_weight_of_the_traffic_router", "canary_paused_at_half", "canary_completed")
    found = [deployments("argo_rollouts", payload("argo_rollouts", case))[0] for case in told]

    assert [(event["cohort"], event["cohort_weight"]) for event in found] == [
        ("canary", 0.1),
        ("canary", 0.25),
        ("canary", 0.5),
        ("canary", 1.0),
    ]
    assert len({event["deployment_id"] for event in found}) == 1


def test_a_rollback_of_argocd_names_the_sync_that_it_undoes() -> None:
    forward = deployments("argocd", payload("argocd", "template_in_full"))[-1]
    back = deployments("argocd", payload("argocd", "rolled_back_to_an_earlier_revision"))[-1]

    assert (back["kind"], back["rollback_of"]) == ("rollback", forward["deployment_id"])
    assert back["version"] == forward["previous_version"]


def test_a_child_pipeline_of_spinnaker_is_not_counted_twice() -> None:
    parent = deployments("spinnaker", payload("spinnaker", "parent_of_a_child_pipeline"))
    child = deployments("spinnaker", payload("spinnaker", "child_pipeline_is_told_by_its_own_stages"))

    assert parent == []
    assert {event["deployment_id"] for event in child} == {"spinnaker:01KCHILDEXECUTION:01KDEPLOY"}
    assert {event["tags"]["parent_execution"] for event in child} == {"01KPARENT"}


def test_stage_and_pipeline_of_harness_are_one_deployment() -> None:
    stage = deployments("harness", payload("harness", "stage_started"))
    pipeline = deployments("harness", payload("harness", "pipeline_of_one_environment"))

    assert {event["deployment_id"] for event in stage} == {event["deployment_id"] for event in pipeline}


def test_kubernetes_says_what_it_saw_not_what_somebody_reported() -> None:
    [plain] = deployments("kubernetes", payload("kubernetes", "rollout_started"))
    [vague] = deployments("kubernetes", payload("kubernetes", "scaled_up_without_saying_from_where"))

    assert (plain["provenance"], plain["confidence"], vague["confidence"]) == ("inferred", 0.9, 0.5)


def test_no_record_of_a_repository_keeps_the_password_of_its_address() -> None:
    given = payload("devlake", "one_repository_of_a_named_service")
    given["deploymentCommits"][0]["repoUrl"] = "https://deploy:hunter2@git.example/acme/shop.git"

    assert "hunter2" not in json.dumps(deployments("devlake", given))
    assert "hunter2" not in json.dumps(deployments("argocd", payload("argocd", "template_in_full")))


@pytest.mark.requirement("M2.3")
def test_what_argocd_keeps_in_its_history_is_what_its_notification_had_told() -> None:
    told = payload("argocd", "template_in_full")
    [entry] = [e for e in told["app"]["status"]["history"] if e["id"] == 7]
    seen = json.loads(json.dumps(told))
    seen["app"]["status"] = {
        "history": [*told["app"]["status"]["history"], entry | {"id": 8, "deployStartedAt": "2026-11-02T11:58:00Z"}],
        "operationState": {
            "phase": "Succeeded",
            "startedAt": entry["deployStartedAt"],
            "finishedAt": entry["deployedAt"],
            "syncResult": {"revision": entry["revision"], "source": entry["source"]},
        },
    }
    by_webhook, by_poller = deployments("argocd", told), deployments("argocd", seen)

    assert [event["event_id"] for event in by_poller] == [event["event_id"] for event in by_webhook]
    assert by_poller[-1]["previous_version"] == by_webhook[-1]["previous_version"]


@pytest.mark.parametrize("case", ["template_in_full", "sync_failed", "rolled_back_to_an_earlier_revision"])
def test_the_template_that_argocd_is_told_to_use_holds_all_that_is_read(case: str) -> None:
    written = str(import_module("deploytrail.adapters.argocd").__doc__)
    paths = re.findall(r"\{\{toJson \.app\.([\w.]+)\}\}", written)
    told = payload("argocd", case)
    rendered: Value = {}
    for path in paths:
        *parents, last = path.split(".")
        source, target = told["app"], rendered
        for name in parents:
            source, target = source.get(name, {}), target.setdefault(name, {})
        target[last] = source.get(last)

    assert "metadata.uid" in paths
    assert values("argocd", {"context": told["context"], "app": rendered}) == values("argocd", told)
