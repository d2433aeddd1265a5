"""Tickets: what an approval is in Jira and ServiceNow, by whom, and that it is told once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters import jira, servicenow
from deploytrail.adapters.base import Defaults
from support.golden import FOLDER, NOON, adapted


def case_of(name: str, stem: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name / f"{stem}.json").read_text("utf-8"))
    return found


def moved(to: str, **options: str) -> dict[str, Any]:
    """What becomes of a change in Jira that goes to a status."""
    payload = case_of("jira", "change_approved")["payload"]
    payload["changelog"]["items"] = [{"field": "status", "fromString": "Open", "toString": to}]
    [(_, value)] = adapters.load("jira").adapt(payload, {}, Defaults(options=options), NOON).records
    return value


@pytest.mark.requirement("M5.3", "M6.1")
@pytest.mark.parametrize(("status", "step"), [*jira.CHANGE_STATUSES.items(), ("dancing", "unknown")])
def test_every_status_of_a_change_in_jira_is_mapped_on_purpose(status: str, step: str) -> None:
    found = moved(status.title())

    assert (found["approval_type"], found["ticket_state"]) == (step, status.title())


@pytest.mark.requirement("M5.3")
def test_the_webhooks_url_names_the_statuses_of_a_team() -> None:
    assert moved("CAB ok")["approval_type"] == "unknown"
    assert moved("CAB ok", approved="Freigegeben, cab OK")["approval_type"] == "approved"
    assert moved("Approved", rejected="approved")["approval_type"] == "rejected"


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize("status", ["Approved", "Declined", "Cancelled"])
def test_who_decided_is_the_approver(status: str) -> None:
    assert moved(status)["approver"] == "bo"


@pytest.mark.parametrize("status", ["Waiting for approval", "Implementing"])
def test_who_did_not_decide_is_no_approver(status: str) -> None:
    found = moved(status)

    assert "approver" not in found
    assert found["tags"]["actor"] == "bo"


def test_a_change_of_two_components_is_approved_for_both() -> None:
    told = case_of("jira", "emergency_change_of_two_components_rejected")["records"]

    assert [record["value"]["service"] for record in told] == ["checkout", "billing"]
    assert len({record["value"]["approval_id"] for record in told}) == 2


def test_an_incident_that_is_closed_after_it_was_resolved_ended_once() -> None:
    case = case_of("jira", "incident_resolved")
    case["payload"]["changelog"]["items"] = [{"field": "status", "fromString": "Resolved", "toString": "Closed"}]

    assert adapted("jira", case, case["payload"]).ignored == "INC-9 neither opens nor ends"


@pytest.mark.requirement("M7.5")
@pytest.mark.parametrize("name", ["deployment_status-basic", "deployment_status_staging"])
def test_what_github_for_jira_passes_on_is_the_same_record_as_githubs_own_webhook(name: str, shared: Path) -> None:
    passed = json.loads((shared / f"fixtures/jira/github-for-jira/{name}.json").read_text("utf-8"))
    headers = {"x-github-event": passed["name"]}
    own = adapters.load("github").adapt(passed["payload"], headers, Defaults(), NOON)

    assert adapters.load("jira").adapt(passed, {}, Defaults(), NOON) == own
    assert len(own.records) == 1


@pytest.mark.parametrize("path", ["accepted_builds", "gate_check_success", "unauthorized_response"])
def test_answers_of_jira_are_no_reports(path: str, shared: Path) -> None:
    answer = json.loads((shared / f"fixtures/jira/builds_api_response/{path}.json").read_text("utf-8"))
    try:
        found = adapters.load("jira").adapt(answer, {}, Defaults(), NOON)
    except adapters.base.AdapterError as error:
        assert "a Jira webhook has" in str(error)
    else:
        assert not found.records


def told(stem: str, **changed: Any) -> dict[str, Any]:
    """The one record of a case of ServiceNow, with some of its fields changed."""
    case = case_of("servicenow", stem)
    [(_, value)] = adapted("servicenow", case, {**case["payload"], **changed}).records
    return value


@pytest.mark.requirement("M5.3", "M6.1")
@pytest.mark.parametrize(("approval", "step"), [*servicenow.APPROVALS.items(), ("not_requested", "registered")])
def test_every_approval_of_a_change_in_servicenow_is_mapped_on_purpose(approval: str, step: str) -> None:
    found = told("change_approved", approval=approval, previous={"state": "-4", "approval": "other"})

    assert found["approval_type"] == step


@pytest.mark.requirement("M5.3")
def test_whoever_works_on_an_approved_change_did_not_approve_it() -> None:
    later = told("change_approved", previous={"state": "-2", "approval": "approved"}, updated_by="ann")
    snapshot = told("change_approved", previous=None, updated_by="ann")
    closed = told("change_approved", previous=None, state="3", updated_by="ann")

    assert (later["approval_type"], later.get("approver")) == ("unknown", None)
    assert (snapshot["approval_type"], snapshot.get("approver")) == ("approved", None)
    assert (closed["approval_type"], closed["ticket_state"], closed.get("approver")) == ("unknown", "closed", None)


def test_a_time_of_servicenow_is_utc_though_it_does_not_say_so() -> None:
    at = NOON - 120_000_000

    assert told("change_approved")["occurred_at"] == at
    assert told("change_approved", sys_updated_on={"value": "2026-11-02 11:58:00"})["occurred_at"] == at
    assert (
        told("change_approved", sys_updated_on="02.11.2026 12:58")["occurred_at"] == NOON
    )  # nobody's format: received


@pytest.mark.parametrize(("number", "state"), servicenow._INCIDENT_NUMBERS.items())
def test_a_state_of_an_incident_is_known_by_number_and_by_word(number: str, state: str) -> None:
    by_number, by_word = told("incident_new", state=number), told("incident_new", state=state.title())

    assert by_number == by_word
    assert by_number["signal_type"] == servicenow.INCIDENT_STATES[state]


def test_an_incident_is_opened_once_and_ends_once_until_it_is_reopened() -> None:
    opened = {told("incident_new", state=state, sys_mod_count=state)["signal_id"] for state in "123"}
    ended = {told("incident_resolved", state=state, sys_mod_count=state)["signal_id"] for state in "678"}
    anew = told("incident_new", reopen_count="1")["signal_id"]

    assert (len(opened), len(ended)) == (1, 1)
    assert anew not in opened | ended


@pytest.mark.requirement("M2.3")
def test_a_change_is_the_same_step_whether_posted_or_asked_for() -> None:
    asked = case_of("servicenow", "table_api")["records"][0]["value"]

    assert asked["approval_id"] == told("change_approved")["approval_id"]
