"""`deploytrail register`: a deployment that is intended, for approvals and permits to refer to."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType
from support.gateways import gateway
from support.spool import command, environment, python, stored


@pytest.mark.requirement("M5.4")
def test_a_registration_is_an_event_and_what_approvals_are_bound_to(tmp_path: Path) -> None:
    env = environment(tmp_path, GITHUB_ACTIONS="true", GITHUB_ACTOR="mona")
    words = ("--version", "4.2.0", "--artifact-digest", "sha256:ab", "--change-ticket", "CHG1", "--emergency")
    done = command("register", *words, env=env)
    event, approval = stored(tmp_path)
    same = ("deployment_id", "service", "environment", "region", "artifact_digest", "change_ticket", "occurred_at")

    assert (done.returncode, done.stderr) == (0, "")
    assert (event["event_type"], event["deployment_id"]) == ("registered", done.stdout.strip())
    assert (event["producer_seq"], event["version"], event["deployer"]) == (1, "4.2.0", "mona")
    assert approval["approval_type"] == "registered"
    assert {name: approval[name] for name in same} == {name: event[name] for name in same}
    assert (approval["emergency"], approval["approver"], approval["source"]) == (True, "", "library")
    assert approval["tags"] == {"version": "4.2.0", "deployer": "mona", "producer_seq": "2"}


@pytest.mark.requirement("M5.4")
def test_a_registered_deployment_is_begun_and_ended_by_its_id(tmp_path: Path) -> None:
    with gateway() as there:
        env = environment(tmp_path, DEPLOYTRAIL_URL=there.url)
        registered = command("register", "--version", "4.2.0", "--wait", "20", env=env).stdout.strip()
        command("run", "--deployment-id", registered, "--version", "4.2.0", "--wait", "20", "--", "true", env=env)
    events = [e for e in there.events if "event_type" in e]

    assert [(e["event_type"], e["deployment_id"]) for e in events] == [
        ("registered", registered),
        ("started", registered),
        ("succeeded", registered),
    ]
    assert [h["path"] for h, _ in there.requests][:2] == ["/v1/events", "/v1/approvals"]
    assert [validate(RecordType.APPROVAL, e)[1] for e in there.events if "approval_type" in e] == [[]]


@pytest.mark.requirement("M5.4")
def test_the_library_registers_too(tmp_path: Path) -> None:
    script = 'import deploytrail\nwith deploytrail.Tracker("checkout", "production").register(): pass'
    done = python(script, environment(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    assert [e.get("event_type") or e["approval_type"] for e in stored(tmp_path)] == [
        *("registered", "registered", "started", "succeeded")
    ]


@pytest.mark.requirement("M5.3", "M5.4")
def test_a_registration_says_when_it_is_planned(tmp_path: Path) -> None:
    words = ("--planned-start", "2026-11-02T20:00:00Z", "--planned-end", "2026-11-02T23:00:00+01:00")
    done = command("register", *words, env=environment(tmp_path))
    event, approval = stored(tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert (approval["valid_from"], approval["valid_until"]) == (1_793_649_600_000_000, 1_793_656_800_000_000)
    assert "planned_start" not in event["tags"] | approval["tags"]


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        ("tonight", "2026-11-02T23:00:00Z", "not an RFC 3339 date-time"),
        ("2026-11-02T20:00:00", "2026-11-02T23:00:00Z", "not an RFC 3339 date-time"),
        ("2026-11-02T20:00:00Z", "2026-11-02T20:00:00Z", "does not lie behind"),
    ],
)
def test_a_plan_that_makes_no_sense_registers_nothing(tmp_path: Path, start: str, end: str, why: str) -> None:
    done = command("register", "--planned-start", start, "--planned-end", end, env=environment(tmp_path))

    assert (done.returncode, done.stdout) == (64, "")
    assert why in done.stderr


@pytest.mark.requirement("M5.4")
def test_the_library_takes_datetimes_and_leaves_out_what_it_cannot_read(tmp_path: Path) -> None:
    script = """import datetime as d, deploytrail
at = d.datetime(2026, 11, 2, 20, tzinfo=d.UTC)
deploytrail.Tracker("checkout", "production").register(planned_start=at, planned_end=at + d.timedelta(hours=2))
deploytrail.Tracker("checkout", "production").register(planned_start="soon")
"""
    done = python(script, environment(tmp_path))
    planned = [(a["valid_from"], a["valid_until"]) for a in stored(tmp_path) if "approval_type" in a]

    assert done.returncode == 0
    assert "planned_start is left out: 'soon'" in done.stderr
    assert planned == [(1_793_649_600_000_000, 1_793_656_800_000_000), (None, None)]


@pytest.mark.requirement("M5.4")
def test_a_registration_needs_its_place(tmp_path: Path) -> None:
    done = command("register", env=environment(tmp_path, DEPLOYTRAIL_SERVICE=""))

    assert done.returncode == 64
    assert "which service?" in done.stderr
