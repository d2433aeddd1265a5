"""What SREs and auditors ask, on a Monday written by hand, with answers computed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.clickhouse.purge import DERIVED
from support.monday import MONDAY, S3, by, clock, play
from support.questions import Trail, at, candidate, record
from support.values import approval, signal

ROOT = Path(__file__).parents[2]
# What the questions are made of, and what stands in the README's table of tables.
BUILDING_BLOCKS = {
    "arrived_numbers",
    *("deployments", "active_deployments", "distinct_deployment_events", "distinct_signals", "standing_findings"),
    *(
        "incident_candidates",
        "current_deployments_feed",
        "service_owners",
        "deployment_parts",
        "parts_known",
        "begun_deployments",
        "deployments_known",
    ),
    *("counted_deployments", "deployment_batches", "service_needs", "effective_deployments", "role_holders"),
    *("cohorts", "effective_places", "newest_deployments", "federated_deployments"),
    *("newest_told", "explained_alerts"),
    *(f"{name}_feed" for name in DERIVED),
}


@pytest.fixture(scope="module")
def trail(clickhouse: str) -> Iterator[Trail]:
    trail = Trail(clickhouse)
    play(trail)
    yield trail
    trail.close()


def changed(trail: Trail, when: str) -> list[tuple[Any, ...]]:
    rows = trail.ask(
        "SELECT * FROM {db}.changed_before(service = 'shop', region = 'eu-west-1', environment = 'production', "
        f"at = '2026-11-02 {when}', minutes = 15)"
    )
    return [(r["deployment_id"], r["distance"], r["timing"]) for r in rows]


@pytest.mark.requirement("M6.2", "M6.5")
def test_what_changed_before_an_incident_follows_the_dependencies_of_that_time(trail: Trail) -> None:
    assert changed(trail, "18:05:00") == [
        ("G", 0, "certain"),
        ("D", 0, "certain"),  # still runs
        ("G2", 1, "certain"),
        ("SE2", 1, "certain"),  # needed since noon
        ("G1", 1, "certain"),
        ("LE", 2, "possible"),  # ended at 17:49:30 ± 60 s
    ]
    assert changed(trail, "11:05:00") == [("B", 0, "certain")]  # SE1 is of search, which shop did not need then


def test_what_ran_at_a_time_forgets_what_was_undone_by_then(trail: Trail) -> None:
    def version(when: str, service: str = "shop") -> list[str]:
        question = f"SELECT version FROM {{db}}.version_at(at = '2026-11-02 {when}') WHERE service = '{service}'"
        return [r["version"] for r in trail.ask(question)]

    assert version("09:00:00") == []
    assert version("12:00:00") == ["1.0"]  # B failed
    assert version("13:30:00") == ["1.2"]  # C had taken effect
    assert version("14:30:00") == ["1.0"]  # and was undone
    assert version("23:59:00") == ["1.5"]


@pytest.mark.requirement("M3.2", "M6.2")
def test_what_was_being_deployed_at_a_time_and_nothing_lost_for_ever(clickhouse: str) -> None:
    """By hand: `ended` ran 10:00 to 10:10; `undone` 10:00 to 10:05, though undone at noon; `open` since 10:02; `unsure`
    from 10:04 ± 60 s to 10:08 ± 60 s. `lost` began at 9:00, said something at 9:30 and was given up at 13:00; a newer
    one came at 15:00. `hangs` began at 9:00 and was replaced at 11:00."""
    trail = Trail(clickhouse)
    width = {"started_at_uncertainty_ms": 60_000, "finished_at_uncertainty_ms": 60_000}
    lost = {"last_event_at": at("09:30")}
    records = [
        record("ended", "running", at("10:00")),
        record("ended", "succeeded", at("10:00"), at("10:10"), revision=2),
        record("undone", "succeeded", at("10:00"), at("10:05")),
        record("undone", "rolled_back", at("10:00"), at("12:00"), revision=2, rolled_back_by="undo"),
        record("open", "running", at("10:02")),
        record("unsure", "failed", at("10:04"), at("10:08"), **width),
        record("lost", "running", at("09:00"), recorded_at=at("09:30"), **lost),
        record("lost", "lost", at("09:00"), revision=2, recorded_at=at("13:00"), **lost),
        record("lost", "lost", at("09:00"), revision=3, recorded_at=at("15:00"), superseded_by="next", **lost),
        record("hangs", "superseded", at("09:00"), at("11:00"), last_event_at=at("09:00"), superseded_by="ended"),
        record("never", "registered", None, None, registered_at=at("09:00"), recorded_at=at("09:00")),
        record("not", "voided", at("09:00"), recorded_at=at("09:01")),
    ]
    trail.store(RecordType.RECORD, records)

    def ran(when: str) -> dict[str, str]:
        rows = trail.ask(f"SELECT deployment_id, timing FROM {{db}}.ran_at(at = '2026-11-02 {when}')")
        return {row["deployment_id"]: row["timing"] for row in rows}

    found = {when: ran(when) for when in ("08:59:00", "09:15:00", "10:03:30", "10:06:00", "10:08:30", "12:59:59")}
    later = [ran(when) for when in ("13:00:00", "15:30:00", "23:59:00")]
    trail.close()

    assert found == {
        "08:59:00": {},
        "09:15:00": {"hangs": "possible", "lost": "certain"},
        "10:03:30": {"hangs": "possible", "lost": "possible", "ended": "certain", "undone": "certain",
                     "open": "certain", "unsure": "possible"},
        "10:06:00": {"hangs": "possible", "lost": "possible", "ended": "certain", "open": "certain",
                     "unsure": "certain"},
        "10:08:30": {"hangs": "possible", "lost": "possible", "ended": "certain", "open": "certain",
                     "unsure": "possible"},
        "12:59:59": {"lost": "possible", "open": "certain"},
    }  # fmt: skip
    assert later == [{"open": "certain"}] * 3


@pytest.mark.requirement("M2.2", "M6.5")
def test_what_nobody_ended_is_no_success_and_does_not_run_because_a_newer_one_succeeded(clickhouse: str) -> None:
    trail = Trail(clickhouse)
    records = [
        record("a-hangs", "superseded", at("10:00"), at("11:05"), version="1.1", superseded_by="b-new"),
        record("b-new", "succeeded", at("11:00"), at("11:05"), version="1.2"),
        record("queued", "superseded", None, at("11:05"), registered_at=at("10:30"), superseded_by="b-new"),
    ]
    trail.store(RecordType.RECORD, records)
    runs = [r["version"] for r in trail.ask("SELECT version FROM {db}.version_at(at = '2026-11-02 12:00:00')")]
    counted = trail.ask(
        "SELECT deployment_id, counted_as FROM {db}.counted_deployments(since = '2026-11-02', until = '2026-11-03', "
        "as_of = '2026-11-03', environment = 'production', excluded_kinds = []) ORDER BY deployment_id"
    )
    [coverage] = trail.ask(f"SELECT deployments, without_end FROM {{db}}.coverage({MONDAY})")
    trail.close()

    assert runs == ["1.2"]
    assert [(r["deployment_id"], r["counted_as"]) for r in counted] == [
        ("a-hangs", "lost"),
        ("b-new", "succeeded"),
        ("queued", "excluded"),
    ]
    assert (coverage["deployments"], coverage["without_end"]) == (3, 1)


def test_configuration_at_a_time_is_what_took_effect(trail: Trail) -> None:
    def pool(when: str) -> list[tuple[str, str]]:
        question = (
            f"SELECT value, deployment_id FROM {{db}}.config_at(at = '2026-11-02 {when}') WHERE key = 'pool_size'"
        )
        return [(r["value"], r["deployment_id"]) for r in trail.ask(question)]

    assert pool("12:00:00") == [("10", "A")]
    assert pool("13:30:00") == [("20", "C")]
    assert pool("14:30:00") == [("10", "A")]
    assert pool("20:00:00") == [("15", "H")]


def test_what_runs_now_is_what_was_deployed_beside_what_is_seen(trail: Trail) -> None:
    rows = by(trail.ask("SELECT * FROM {db}.what_runs"), "service")

    shop = rows["shop"]
    assert (shop["version"], shop["seen_versions"], shop["seen_instances"]) == ("1.5", ["1.1", "1.5"], 2)
    assert {name: r["agreement"] for name, r in rows.items()} == {
        "shop": "differs",
        "payments": "as_deployed",
        "secret-cron": "not_deployed",
        "ledger": "not_seen",
        "search": "not_seen",
    }


@pytest.mark.requirement("M8.1")
@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("shop", [("production", "1.5", ["1.1", "1.5"], 2, "differs")]),
        ("secret-cron", [("production", "", ["0.1"], 1, "not_deployed")]),
        ("unheard-of", []),
    ],
)
def test_what_runs_of_one_service_is_asked_by_its_name(trail: Trail, service: str, expected: list[object]) -> None:
    rows = trail.ask(f"SELECT * FROM {{db}}.what_runs_of(service = '{service}')")

    told = [(r["environment"], r["version"], r["seen_versions"], r["seen_instances"], r["agreement"]) for r in rows]
    assert told == expected
    assert {r["service"] for r in rows} <= {service}


@pytest.mark.requirement("M6.6")
def test_drift_names_the_deployment_that_brought_what_is_seen(trail: Trail) -> None:
    rows = trail.ask("SELECT * FROM {db}.drift")

    assert [(r["service"], r["deployed_version"], r["seen_version"], r["introduced_by"]) for r in rows] == [
        ("shop", "1.5", "1.1", "B")
    ]


@pytest.mark.requirement("M6.6")
def test_who_changed_a_key_first_and_since_with_the_proof(trail: Trail) -> None:
    rows = trail.ask("SELECT * FROM {db}.who_changed(key = 'pool_size')")
    said = [
        (r["ordinal"], r["value"], r["previous_value"], r["deployment_id"], clock(r["changed_at"]), clock(r["until"]))
        for r in rows
    ]

    assert said == [
        (1, "10", "", "A", "10:00", "11:00"),
        (2, "20", "10", "B", "11:00", "19:00"),  # C sets what B had set
        (3, "15", "20", "H", "19:00", None),
    ]
    assert [r["state"] for r in rows] == ["succeeded", "failed", "succeeded"]
    [proof] = trail.ask(
        "SELECT deployment_id, config_changes FROM {db}.deployment_events "
        f"WHERE kafka_partition = {rows[-1]['kafka_partition']} AND kafka_offset = {rows[-1]['kafka_offset']}"
    )
    assert proof == {"deployment_id": "H", "config_changes": {"pool_size": "15"}}
    assert rows[-1]["deployer"] == "chitra"


def test_a_deployments_timeline_holds_events_approvals_and_the_alerts_it_may_have_caused(trail: Trail) -> None:
    def timeline(name: str) -> list[tuple[Any, ...]]:
        rows = trail.ask(f"SELECT * FROM {{db}}.deployment_timeline(deployment_id = '{name}')")
        return [(clock(r["at"]), r["entry"], r["what"]) for r in rows]

    assert timeline("A") == [
        ("09:50", "approval", "approved"),
        ("10:00", "event", "started"),
        ("10:05", "event", "succeeded"),
    ]
    assert timeline("P1") == [("09:10", "alert", "critical Errors")]


@pytest.mark.requirement("M6.3")
def test_an_incidents_timeline_holds_its_signals_candidates_and_verdicts(trail: Trail) -> None:
    def timeline(name: str) -> list[tuple[Any, ...]]:
        rows = trail.ask(f"SELECT * FROM {{db}}.incident_timeline(incident = '{name}')")
        return [(clock(r["at"]), r["entry"], r["what"], r["deployment_id"], r["probability"]) for r in rows]

    assert timeline("INC1") == [
        ("09:10", "signal", "alert_firing", "", None),
        ("09:10", "verdict", "deployed_shortly_before", "P1", 0.7),
        ("09:10", "verdict", "no_deployment_explains_it", "", 0.3),
        ("09:15", "signal", "alert_firing", "", None),
        ("09:40", "signal", "alert_resolved", "", None),
    ]
    assert timeline(S3) == [
        ("18:01", "event", "started", "G1", 0.4),
        ("18:20", "signal", "alert_firing", "", None),
        ("18:20", "verdict", "no_deployment_explains_it", "", 0.6),
        ("18:20", "verdict", "deployed_shortly_before", "G1", 0.4),
    ]


@pytest.mark.requirement("M6.3")
def test_a_timeline_holds_every_verdict_that_none_supersedes_each_once(clickhouse: str) -> None:
    def verdict(name: str, about: str, when: str, **fields: Any) -> dict[str, Any]:
        said = {"rule": "change_burst", "verdict": "violation", "finding_id": name, "explanation": name}
        return candidate("", about, 0, 0.0, at(when), **said | fields)

    trail = Trail(clickhouse)
    undone = {"rule": "rollback_verification", "reason": "same_version_runs_again"}
    trail.store(
        RecordType.RECORD,
        [
            record("A", "rolled_back", at("10:00"), at("11:00"), rolled_back_by="R"),
            record("R", "succeeded", at("10:50"), at("11:00"), kind="rollback", rollback_of="A"),
            record("R-2", "succeeded", at("10:50"), at("11:00"), kind="rollback", rollback_of="A"),
            # another name of R after all
            record("R-2", "merged", at("10:50"), at("11:00"), revision=2, rollback_of="A", merged_into="R"),
        ],
    )
    trail.store(RecordType.SIGNAL, [signal("alert_firing", at("10:30"), signal_id="s", incident_id="INC9")])
    findings = [
        candidate("s", "A", 1, 0.9, at("10:30"), finding_id="cause"),
        verdict("of the team", "A", "10:01"),
        verdict("of the service", "A", "10:02"),
        verdict("of the region", "A", "10:03"),
        verdict("the region was quiet", "A", "10:04", supersedes="of the region"),
        verdict("of another deployment", "R", "10:05", supersedes="of the service"),
        verdict("in eu-west-1/a", "R", "11:10", **undone),
        verdict("in eu-west-1/b", "R", "11:11", **undone),
        verdict("of the other name", "R-2", "11:12", **undone),
    ]
    for _ in ("as written", "written again after a crash"):
        trail.store(RecordType.FINDING, findings)
        trail.store(RecordType.APPROVAL, [approval("permit_refused", at("09:00"), deployment_id="A", source="gate",
                                                   approver="", justification="no_approval: nobody")])  # fmt: skip
    refused = trail.ask("SELECT * FROM {db}.deployment_timeline(deployment_id = 'A') WHERE what = 'permit_refused'")
    of_deployment = trail.ask("SELECT * FROM {db}.deployment_timeline(deployment_id = 'A') WHERE entry = 'finding'")
    of_incident = trail.ask("SELECT * FROM {db}.incident_timeline(incident = 'INC9') WHERE entry != 'signal'")
    trail.close()

    assert [(clock(r["at"]), r["detail"], r["source"]) for r in refused] == [("09:00", "no_approval: nobody", "gate")]
    assert [row["detail"] for row in of_deployment] == ["of the team", "the region was quiet"]
    assert [(r["entry"], r["deployment_id"], r["detail"]) for r in of_incident] == [
        ("verdict", "A", "in words"),
        ("rollback", "R", "undoes A"),
        ("verdict", "R", "in eu-west-1/a"),
        ("verdict", "R", "in eu-west-1/b"),
    ]


@pytest.mark.requirement("M7.6")
def test_coverage_is_what_runs_and_was_reported_per_team_and_tool(trail: Trail) -> None:
    rows = by(trail.ask(f"SELECT * FROM {{db}}.coverage({MONDAY})"), "team", "tool")
    found = {
        key: (r["running"], r["running_registered"], r["deployments"], r["without_end"]) for key, r in rows.items()
    }

    # shop was seen with 1.4, 1.5, 1.1 and 9.9; jenkins reported D and L, and deployed it last
    assert found == {
        ("storefront", "jenkins"): (4, 3, 2, 1),
        ("storefront", "library"): (0, 0, 8, 0),  # A, B, C, R, E, F, G, H; Z was not known yet
        ("money", "library"): (1, 1, 5, 0),
        ("discovery", "library"): (0, 0, 2, 0),
        ("", ""): (1, 0, 0, 0),  # secret-cron
    }
    assert rows["storefront", "jenkins"]["coverage"] == 0.75
    assert rows["storefront", "jenkins"]["missing_end_rate"] == 0.5


@pytest.mark.requirement("M6.1")
def test_ticket_links_that_do_not_hold_both_ways_are_listed(trail: Trail) -> None:
    rows = trail.ask(f"SELECT * FROM {{db}}.broken_ticket_links({MONDAY}, environment = 'production')")
    found = {(r["deployment_id"], r["reason"]) for r in rows if r["reason"] != "no_ticket"}

    assert found == {
        ("C", "ticket_unknown"),
        ("P2", "ticket_unknown"),  # registered with it, by whoever deployed it
        ("B", "ticket_names_other_deployment"),
        ("someone-else", "deployment_unknown"),
    }
    assert {r["deployment_id"] for r in rows if r["reason"] == "no_ticket"} == {
        *("P1", "R", "D", "F", "G", "H", "L", "LE", "SE1", "SE2", "Z")
    }


@pytest.mark.requirement("M7.3")
def test_loss_is_what_is_missing_of_a_producers_count(trail: Trail) -> None:
    rows = by(trail.ask(f"SELECT * FROM {{db}}.loss({MONDAY})"), "producer_id")
    one, two = rows["runner-1"], rows["runner-2"]

    # 1, 2, 5, 6 and the signal's 7
    assert (one["first_seq"], one["last_seq"], one["arrived"], one["missing"], one["told_lost"]) == (1, 7, 5, 2, 2)
    assert one["loss_rate"] == pytest.approx(2 / 7)
    assert (two["arrived"], two["missing"]) == (4, 0)


@pytest.mark.requirement("M7.3")
def test_the_tracker_keeps_its_own_error_budget(trail: Trail) -> None:
    [row] = trail.ask(f"SELECT * FROM {{db}}.tracker_slo({MONDAY}, limit_ms = 5000, objective = 0.5)")

    # 10 events arrived in time; 2 of runner-1's numbers are missing: the 2 that it tells of itself
    assert (row["total"], row["late"], row["lost"], row["dead_letters"]) == (12, 0, 2, 0)
    assert row["availability"] == pytest.approx(10 / 12)
    assert row["budget"] == pytest.approx(6)
    assert row["budget_spent"] == pytest.approx(2 / 6)


def test_ingest_lag_is_split_where_it_arises(clickhouse: str) -> None:
    from support.values import event

    trail = Trail(clickhouse)
    noon, ms = at("12:00"), 1000
    slow = event("started", noon, sent_at=noon + 200 * ms, received_at=noon + 250 * ms)
    trail.store(RecordType.DEPLOYMENT_EVENT, [slow], written=noon + 300 * ms)
    [row] = trail.ask(f"SELECT * FROM {{db}}.ingest_lag({MONDAY})")
    trail.close()

    assert (row["records"], row["in_spool_ms"][0]) == (1, 200)
    assert (row["occurred_to_received_ms"][1], row["received_to_trail_ms"][1]) == (250, 50)


@pytest.mark.requirement("M5.6")
def test_access_review_sets_who_could_against_who_did_unused_first(trail: Trail) -> None:
    taken = datetime(2026, 11, 2, tzinfo=UTC)
    everywhere = (["*"], ["*"], ["*"])
    revoked = taken - timedelta(days=9)
    grants = [
        [taken, "dtk_1", "retail", *everywhere, ["report"], taken - timedelta(days=9), None, None],
        [taken, "dtk_2", "money", *everywhere, ["approve", "report"], taken - timedelta(days=9), None, None],
        [taken, "dtk_3", "money", *everywhere, ["report"], taken - timedelta(days=9), None, None],
        [taken, "dtk_4", "money", *everywhere, ["report"], taken - timedelta(days=19), None, revoked],
    ]
    columns = ["taken_at", "credential", "team", "services", "environments", "regions", "verbs", "created_at"]
    trail.client.insert(f"{trail.database}.grants", grants, column_names=[*columns, "expires_at", "revoked_at"])
    rows = trail.ask(f"SELECT * FROM {{db}}.access_review({MONDAY})")

    assert [(r["credential"], r["verdict"], r["unused_verbs"]) for r in rows] == [
        ("dtk_3", "unused", ["report"]),
        ("dtk_2", "partly_used", ["report"]),
        ("", "unauthenticated", []),
        ("dtk_1", "used", []),
    ]
    assert (rows[3]["people"], rows[3]["records"]) == (["amara"], 1)
    assert {r["through"] for r in rows} == {"credential"}


@pytest.mark.requirement("M5.6")
def test_who_holds_a_role_of_an_approval_policy_could_approve_also_if_they_never_did(clickhouse: str) -> None:
    trail = Trail(clickhouse)
    payments = {"scope": {"services": ["payments"]}}
    before = {"holders": {"release_manager": ["femi", "gone"]}, **payments}
    today = {"holders": {"release_manager": ["femi", "hana"], "security": ["femi", "ines"]}, **payments}
    for name, version, since, spec, written in (
        ("money", 1, "2026-01-01T00:00:00Z", {"holders": {"release_manager": ["long-gone"]}}, at("00:00", 1)),
        ("money", 2, "2026-02-01T00:00:00Z", before, at("00:00", 1)),
        ("money", 3, "2026-11-02T12:00:00Z", today, at("00:00", 1)),
        ("money", 4, "2026-11-05T00:00:00Z", {"holders": {"release_manager": ["not-yet"]}}, at("00:00", 1)),
    ):
        trail.apply("approval", name, version, since, spec, written)
    trail.store(
        RecordType.APPROVAL,
        [
            approval("approved", at("09:50"), service="payments", approver="femi", approver_role="release_manager"),
            approval("approved", at("09:50", 1), service="payments", approver="hana", approver_role="release_manager"),
            approval("requested", at("10:00"), service="payments", approver="ines", approver_role="security"),
        ],
    )
    rows = [r for r in trail.ask(f"SELECT * FROM {{db}}.access_review({MONDAY})") if r["through"] != "credential"]
    trail.close()

    assert [(r["credential"], r["through"], r["verdict"], r["unused_verbs"]) for r in rows] == [
        ("gone", "role release_manager", "unused", ["approve"]),  # until noon
        ("hana", "role release_manager", "unused", ["approve"]),  # did so the day before
        ("femi", "role security", "unused", ["approve"]),  # approved in the other role
        ("ines", "role security", "unused", ["approve"]),  # a request is no approval
        ("femi", "role release_manager", "used", []),
    ]
    assert {tuple(r["could_services"]) for r in rows} == {("payments",)}
    assert (rows[-1]["records"], rows[-1]["did_services"], rows[-1]["last_used_at"].hour) == (1, ["payments"], 9)
    assert (rows[0]["records"], rows[0]["last_used_at"]) == (0, None)


EXAMPLES = [
    question.strip()
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / "sinks" / "README.md").read_text("utf-8"), re.S)
    for question in block.split(";\n")
]


@pytest.mark.parametrize("question", EXAMPLES, ids=[re.findall(r"FROM (\w+)", q)[-1] for q in EXAMPLES])
def test_examples_of_the_readme_can_be_asked_and_answer(trail: Trail, question: str) -> None:
    assert trail.inside(question)


# Whole names there: they are pasted into any client.
FRONT_PAGE = [
    question.strip()
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    for question in block.split(";\n")
    if question.strip()
]


@pytest.mark.parametrize(
    "question", FRONT_PAGE, ids=[re.findall(r"FROM deploytrail\.(\w+)", q)[-1] for q in FRONT_PAGE]
)
def test_the_questions_of_the_front_page_can_be_asked(trail: Trail, question: str) -> None:
    # Not whether anything is there: what is asked about is the last quarter of an hour, or a service of a company.
    asked = question.replace("deploytrail.", "")
    found = trail.inside(asked)
    wanted = re.findall(r"\w+", asked.removeprefix("SELECT ").partition("FROM")[0])

    assert trail.columns(asked) == tuple(wanted)
    assert all(list(row) == wanted for row in found)


def test_every_question_has_an_example_and_every_view_a_comment(trail: Trail) -> None:
    views = trail.ask("SELECT name, comment FROM system.tables WHERE database = '{db}' AND engine LIKE '%View'")
    # What reaches all tiers of a table is called all_…; it is told of with the tiers. What is called …_as_of answers
    # the question of that name as it was known at an instant; it is told of with the reports.
    names = {v["name"] for v in views if not v["name"].startswith("all_")}
    questions = names - BUILDING_BLOCKS - {f"{name}_as_of" for name in names}

    assert questions == {re.findall(r"FROM (\w+)", q)[-1] for q in EXAMPLES}
    assert [v["name"] for v in views if not v["comment"] and not v["name"].endswith("_feed")] == []


def test_the_two_years_of_the_benchmark_are_rows_of_the_real_tables(clickhouse: str) -> None:
    from benchmarks.bench_questions import QUESTIONS, asked
    from benchmarks.history import load

    trail = Trail(clickhouse)
    load(trail.client.command, trail.database, 4000)
    [counts] = trail.ask(
        "SELECT (SELECT count() FROM {db}.deployments) AS deployments, "
        "(SELECT count() FROM {db}.deployment_events) AS events, "
        "(SELECT dateDiff('day', min(started_at), max(started_at)) FROM {db}.deployments) AS days, "
        "(SELECT uniqExact(service) FROM {db}.deployments) AS services"
    )
    for question in QUESTIONS.values():
        trail.inside(f"SELECT * FROM {next(asked(question))}")
    trail.close()

    assert counts["deployments"] == 1000
    assert 3900 < counts["events"] < 4000  # what is lost has no last event
    assert 720 <= counts["days"] <= 732
    assert counts["services"] > 300
