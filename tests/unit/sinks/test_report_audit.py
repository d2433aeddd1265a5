"""A row of the audit report, what is wrong with it, and whether the stores agree."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.reports.audit import NO_DATA, audit
from deploytrail_sinks.reports.audit_rows import COLUMNS, audited
from deploytrail_sinks.reports.environments import production
from deploytrail_sinks.reports.period import month
from deploytrail_sinks.reports.population import (
    Collector,
    Matcher,
    Population,
    aged_out,
    comparable,
    differences,
    independent,
)
from deploytrail_sinks.reports.steps import Steps
from deploytrail_sinks.reports.trail import Trail
from deploytrail_sinks.reports.whole_file import beside

STARTED = datetime(2026, 10, 5, 9, tzinfo=UTC)
AN_HOUR_BEFORE = datetime(2026, 10, 5, 8, tzinfo=UTC)
OCTOBER = month("2026-10")


def deployment(**fields: Any) -> dict[str, Any]:
    return {
        "deployment_id": "shop-1", "state": "succeeded", "region": "eu-west-1", "environment": "production",
        "service": "shop", "tier": "1", "team": "web", "kind": "release", "parent_deployment_id": "",
        "rollback_of": "", "rolled_back_by": "", "version": "2.0", "artifact_digest": "sha256:aa", "commit_sha": "abc",
        "repository": "shop", "build_url": "", "deployer": "dora", "change_ticket": "CHG-1", "emergency": False,
        "registered_at": None, "started_at": STARTED, "started_at_uncertainty_ms": 5,
        "finished_at": STARTED.replace(minute=10), "finished_at_uncertainty_ms": 6, "outcome_reason": "reported",
        "sources": ["library"], "provenance": "reported", "confidence": 1.0, "conflicts": {}, "revision": 3,
        "kafka_partition": 1, "kafka_offset": 7, "began": STARTED,
    } | fields  # fmt: skip


def step(approval_type: str = "approved", at: datetime = AN_HOUR_BEFORE, **fields: Any) -> dict[str, Any]:
    return {
        "approval_id": f"{approval_type}-{at}", "approval_type": approval_type, "corrected_at": at, "region": "",
        "environment": "", "service": "", "deployment_id": "shop-1", "artifact_digest": "sha256:aa",
        "change_ticket": "CHG-1", "ticket_state": "Approved", "approver": "ada", "approver_role": "release manager",
        "justification": "", "valid_until": None, "emergency": False, "source": "jira", "reporter": "jira", "tags": {},
    } | fields  # fmt: skip


def finding(rule: str, verdict: str, reason: str, **fields: Any) -> dict[str, Any]:
    return {
        "finding_id": f"{rule}-1", "rule": rule, "verdict": verdict, "reason": reason, "severity": "error",
        "signal_id": "", "rank": 0, "probability": 0.0, "explanation": "", "evidence": {}, "policy_version": "w@1",
    } | fields  # fmt: skip


def cells(found: Any) -> dict[str, str]:
    return dict(zip(COLUMNS, found.row, strict=True))


def test_a_deployment_in_order_has_no_exception() -> None:
    verdicts = [finding("change_window", "ok", "inside_allowed_window"), finding("missing_approval", "ok", "approved")]
    event = {"permit_id": "p-1", "justification": "new cart", "tags": {"commit_authors": "cy, dan"}}
    found = audited(deployment(), [step("registered", approver="cy"), step()], [event], verdicts)

    assert found.exceptions == ()
    assert len(found.row) == len(COLUMNS)
    said = cells(found)
    assert (said["requester"], said["approvers"], said["authors"]) == ("cy", "ada", "cy, dan")
    assert (said["window"], said["permit"], said["justification"]) == ("inside", "p-1", "new cart")
    assert (said["approved at"], said["started at"]) == ("2026-10-05T08:00:00.000Z", "2026-10-05T09:00:00.000Z")


@pytest.mark.parametrize(
    ("changed", "steps", "expected"),
    [
        ({}, [], "no_approval"),
        ({}, [step(at=STARTED.replace(hour=10))], "no_approval"),
        ({}, [step(), step("revoked", STARTED.replace(hour=8, minute=30))], "no_approval"),
        ({"deployer": "ada@example.com"}, [step()], "self_approval"),
        ({"deployer": "7+ada@users.noreply.github.com"}, [step()], "self_approval"),
        ({"deployer": ""}, [step()], "deployer_unknown"),
        ({"change_ticket": ""}, [step()], "no_change_ticket"),
        ({"artifact_digest": ""}, [step()], "no_artifact_digest"),
        ({"state": "lost"}, [step()], "no_end"),
        ({"state": "superseded"}, [step()], "no_end"),
        ({"state": "voided"}, [step()], "voided"),
        ({"emergency": True}, [step(emergency=True)], "emergency_not_reviewed"),
        ({"provenance": "inferred", "confidence": 0.6}, [step()], "not_reported"),
        ({"conflicts": {"version": "argocd=3.0"}}, [step()], "sources_disagree"),
    ],
)
def test_what_the_record_alone_shows_is_an_exception_without_any_processor(
    changed: dict[str, Any], steps: list[dict[str, Any]], expected: str
) -> None:
    found = audited(deployment(**changed), steps, [], [])

    assert [e[0] for e in found.exceptions] == [expected]


def test_an_emergency_that_somebody_else_reviewed_is_none() -> None:
    steps = [step(emergency=True), step(at=STARTED.replace(day=6), approver="grace")]
    found = audited(deployment(emergency=True), steps, [], [])

    assert found.exceptions == ()
    assert cells(found)["emergency review"] == "grace at 2026-10-06T09:00:00.000Z"


def test_verdicts_that_stand_are_told_once_with_their_finding() -> None:
    verdicts = [
        finding("missing_approval", "violation", "no_approval", explanation="nobody approved it"),
        finding("change_window", "inconclusive", "window_boundary_within_uncertainty"),
        finding("incident_correlation", "violation", "x", rank=1, probability=0.81, signal_id="alert-9"),
    ]
    found = audited(deployment(), [], [], verdicts)

    assert [(e[0], e[8]) for e in found.exceptions] == [
        ("no_approval", "missing_approval missing_approval-1"),
        ("window_boundary_within_uncertainty", "change_window change_window-1"),
    ]
    assert (cells(found)["window"], cells(found)["incidents"]) == ("uncertain", "alert-9 (81%)")


def test_a_step_that_names_a_ticket_alone_is_about_its_place_only() -> None:
    by_ticket = step(deployment_id="")
    elsewhere = step(deployment_id="", environment="staging", approval_id="2")
    other = step(deployment_id="shop-2", approval_id="3")

    assert Steps([by_ticket, elsewhere, other]).about(deployment()) == [by_ticket]
    assert Steps([by_ticket]).about(deployment(change_ticket="")) == []


def record(name: str, at: datetime, revision: int = 1, **fields: Any) -> bytes:
    micros = int(at.timestamp() * 1_000_000)
    value = {
        "deployment_id": name, "revision": revision, "state": "succeeded", "recorded_at": micros, "region": "eu-west-1",
        "environment": "production", "service": "shop", "started_at": micros,
    } | fields  # fmt: skip
    return encode(RecordType.RECORD, value)


def test_stores_that_hold_the_same_in_another_order_have_one_digest_and_others_are_named() -> None:
    messages = [(1, 0, 1, record("a", STARTED)), (1, 1, 2, record("a", STARTED, 2)), (2, 0, 3, record("b", STARTED))]
    one, other = (Collector(name, OCTOBER, ["production"], 10) for name in ("Kafka", "archive"))
    for message in messages:
        one.add(*message)
    for message in reversed(messages):
        other.add(*message)
    one.add(1, 3, 4, record("alias", STARTED, merged_into="a"))
    november = record("later", STARTED.replace(month=11))
    for ignored in (november, record("test", STARTED, environment="test"), b"\x00"):
        one.add(1, 2, 4, ignored)
    one.add(3, 0, 11, record("after-as-of", STARTED))

    assert one.population().digest == other.population().digest
    assert one.population().deployments == {("eu-west-1", "a"): 2, ("eu-west-1", "b"): 1}
    assert list(differences(one.population(), [other.population(), Population("archive", {}, {}, "away")])) == []
    fewer = Population("archive", {("eu-west-1", "a"): 1}, {})
    assert [(d[1], d[2]) for d in differences(one.population(), [fewer])] == [
        ("eu-west-1/a", "the report has revision 2, archive has revision 1"),
        ("eu-west-1/b", "the report has revision 1, archive does not hold it"),
    ]


def test_what_has_aged_out_of_a_store_is_not_compared_with_it() -> None:
    keys = [("eu-west-1", name) for name in "abcd"]
    report = Population("report", dict.fromkeys(keys, 1), {})
    places = {keys[0]: (1, 5), keys[1]: (1, 9), keys[2]: (2, 0), keys[3]: (1, 4)}
    kafka = Population("Kafka", {keys[1]: 1, ("eu-west-1", "e"): 1}, {}, begins={1: 6})

    assert aged_out(kafka, places) == {keys[0], keys[3]}
    assert [d[1:] for d in differences(report, [kafka], places)] == [
        ("eu-west-1/c", "the report has revision 1, Kafka does not hold it"),
        ("eu-west-1/e", "the report does not hold it, Kafka has revision 1"),
    ]
    assert comparable(kafka, places) is kafka
    gone = comparable(Population("Kafka", {}, {}, begins={1: 10, 2: 1}), places)
    assert gone.note == "holds nothing of the period any more: it has aged out"
    assert list(differences(report, [gone], places)) == []
    lost = Population("Kafka", {}, {})
    assert comparable(lost, places) is lost
    assert len(list(differences(report, [lost], places))) == 4


def test_an_independent_population_is_matched_by_id_or_by_its_bytes_each_once(tmp_path: Path) -> None:
    file = tmp_path / "ci.csv"
    file.write_text("deployment_id,service,region,artifact_digest,commit_sha\n"
                    "shop-1,,,,\n,shop,,sha256:aa,\n,shop,,sha256:aa,\n,shop,us-east-1,,abc\n")  # fmt: skip
    matcher = Matcher(independent(file))
    taken = [matcher.take(deployment(deployment_id=name)) for name in ("shop-1", "shop-2", "shop-3", "shop-4")]

    assert matcher.count == 4
    assert taken == [True, True, True, False]
    assert [known.line for known in matcher.missing] == [5]


def test_a_file_that_counts_nothing_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ci.csv"
    file.write_text("name,when\nx,y\n")

    with pytest.raises(ConfigurationError, match="expected deployment_id"):
        independent(file)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([step("registered"), step("permit_issued")], ["no_approval", "ticket_unknown"]),  # whoever deploys made it up
        ([step("registered"), step(deployment_id="")], []),
        ([step("registered"), step()], []),
        (
            [step(change_ticket=""), step(deployment_id="shop-2", approval_id="other")],
            ["ticket_names_other_deployment"],
        ),
    ],
)
def test_a_ticket_counts_as_known_where_its_own_system_spoke_of_it(
    steps: list[dict[str, Any]], expected: list[str]
) -> None:
    every = Steps(steps)
    found = audited(deployment(), every.about(deployment()), [], [], every.named(deployment()))

    assert [e[0] for e in found.exceptions] == expected


def test_a_ticket_and_a_deployer_that_only_the_registration_names_are_known() -> None:
    registered = step("registered", tags={"deployer": "eve"})
    only_ticket = step(deployment_id="", approval_id="2")
    bare = deployment(change_ticket="", deployer="")
    every = Steps([registered, only_ticket])
    found = audited(bare, every.about(bare), [], [], every.named(bare))

    assert found.exceptions == ()
    assert (cells(found)["ticket"], cells(found)["deployer"], cells(found)["approvers"]) == ("CHG-1", "eve", "ada")


def test_who_approves_again_after_the_start_had_approved_before() -> None:
    found = audited(deployment(), [step(ticket_state="Scheduled"), step(at=STARTED.replace(hour=11))], [], [])

    assert found.exceptions == ()
    said = cells(found)
    assert (said["approvers"], said["ticket state at approval"]) == ("ada", "Scheduled")


def test_each_reason_of_a_verdict_is_an_exception() -> None:
    verdict = finding("missing_approval", "violation", "self_approval", evidence={"reasons": "self_approval,rejected"})
    found = audited(deployment(), [step()], [], [verdict])

    assert [e[0] for e in found.exceptions] == ["self_approval", "rejected"]


@pytest.mark.requirement("M2.6")
def test_that_a_permit_was_refused_before_is_no_exception_and_no_justification() -> None:
    refused = step("permit_refused", approver="", source="gate", change_ticket="", justification="no_approval: nobody")
    found = audited(deployment(), [refused, step(justification="the sprint's changes")], [], [])

    assert found.exceptions == ()
    assert (cells(found)["justification"], cells(found)["approvers"]) == ("the sprint's changes", "ada")


def test_the_same_id_in_another_region_has_approvals_of_its_own() -> None:
    here, there = step(region="eu-west-1"), step(region="us-east-1", approval_id="2")

    assert Steps([here, there]).about(deployment()) == [here]


def policy(name: str, version: int, since: datetime, *, production: bool) -> dict[str, Any]:
    spec = json.dumps({"production": production, "aliases": ["p"]})
    return {"name": name, "version": version, "effective_from": since, "spec": spec}


def test_an_environment_is_production_where_a_policy_said_so_at_any_time_of_the_period() -> None:
    policies = [
        policy("live", 1, datetime(2020, 1, 1, tzinfo=UTC), production=True),
        policy("was", 1, datetime(2020, 1, 1, tzinfo=UTC), production=True),
        policy("was", 2, datetime(2026, 9, 1, tzinfo=UTC), production=False),
        policy("half", 1, datetime(2020, 1, 1, tzinfo=UTC), production=True),
        policy("half", 2, datetime(2026, 10, 9, tzinfo=UTC), production=False),
        policy("later", 1, datetime(2026, 11, 1, tzinfo=UTC), production=True),
        policy("staging", 1, datetime(2020, 1, 1, tzinfo=UTC), production=False),
    ]

    assert production(policies, OCTOBER) == ["half", "live", "production"]


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    wanted = tmp_path / "report.md"
    wanted.write_text("of last month")
    with pytest.raises(OSError, match="cannot write the report") as told, beside(wanted) as path:
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert told.value.filename == str(wanted)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.md", "of last month")]
    with beside(wanted) as path:
        path.write_text("of this one")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["of this one"]


class NothingOnRecord:
    """A trail of a month in which nothing happened, or of the wrong database."""

    def deployments(self, *_: Any) -> list[Any]:
        return []

    def population(self, *_: Any) -> Population:
        return Population("ClickHouse", {}, {})

    def ranges(self, *_: Any) -> dict[str, Any]:
        return {}


def test_a_month_without_deployments_says_so_before_anything_else() -> None:
    report = audit(cast(Trail, NothingOnRecord()), OCTOBER, ["production"])

    label, said = report.facts[0]
    assert label == NO_DATA
    assert said.startswith("no deployment of the period is on record in these environments")
