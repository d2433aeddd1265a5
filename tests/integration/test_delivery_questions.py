"""Delivery's figures (the four keys, frequency, risk, failures) on a Monday written by hand, answers by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from support.monday import COUNTED, LATER, MONDAY, PRODUCTION, S1, S2, S3, by, clock, play
from support.questions import Trail, at, candidate, record
from support.values import signal


@pytest.fixture(scope="module")
def trail(clickhouse: str) -> Iterator[Trail]:
    trail = Trail(clickhouse)
    play(trail)
    yield trail
    trail.close()


def dora(trail: Trail, arguments: str = COUNTED) -> dict[str, dict[str, Any]]:
    return by(trail.ask(f"SELECT * FROM {{db}}.dora({arguments})"), "team")


@pytest.mark.requirement("M6.4", "M1.3")
def test_dora_counts_per_team_as_owned_that_day_with_every_denominator(trail: Trail) -> None:
    names = ("total", "succeeded", "failed", "pending", "lost", "excluded", "parts", "rollbacks", "hotfixes")
    found = {team: tuple(row[n] for n in names) for team, row in dora(trail).items()}

    assert found == {
        "retail": (2, 1, 1, 0, 0, 0, 0, 0, 0),  # A; B failed
        "storefront": (5, 2, 1, 1, 1, 2, 0, 1, 1),  # C undone, D runs, G, H, L lost; E, F excluded; R apart
        "money": (3, 3, 0, 0, 0, 0, 2, 0, 0),  # P1, P2, LE; G1 and G2 are parts of G
        "discovery": (2, 2, 0, 0, 0, 0, 0, 0, 0),  # SE1, SE2
    }


@pytest.mark.requirement("M6.4")
def test_dora_rates_have_wilson_intervals_and_say_what_incidents_explain(trail: Trail) -> None:
    found = dora(trail)
    retail, storefront, money = found["retail"], found["storefront"], found["money"]

    # 1 of 2 and 1 of 3, by Wilson's formula with z = 1.959964
    assert retail["change_failure_rate"] == pytest.approx(1 / 2)
    assert (retail["change_failure_rate_low"], retail["change_failure_rate_high"]) == pytest.approx(
        (0.094531, 0.905469), abs=1e-6
    )
    assert storefront["change_failure_rate"] == pytest.approx(1 / 3)
    assert (storefront["change_failure_rate_low"], storefront["change_failure_rate_high"]) == pytest.approx(
        (0.061492, 0.792340), abs=1e-6
    )
    # C failed for certain, G by 0.4 through its part; P1 by 0.7
    assert storefront["explained_failures"] == pytest.approx(1.4)
    assert storefront["explained_failure_rate"] == pytest.approx(1.4 / 3)
    assert money["change_failure_rate"] == 0
    assert money["explained_failures"] == pytest.approx(0.7)
    assert money["deployments_per_day"] == 3


def test_dora_leaves_incidents_that_no_deployment_caused_out_of_recovery_times(trail: Trail) -> None:
    found = {
        team: (r["incidents"], r["incidents_by_deployments"], r["restores"], r["restore_median_seconds"])
        for team, r in dora(trail).items()
        if r["incidents"]
    }

    # S1 fires at 09:10, again at 09:15, and ends at 09:40
    assert found == {"retail": (1, 1, 1, 1800), "money": (1, 0, 0, None), "storefront": (1, 0, 0, None)}


def test_dora_measures_lead_times_where_the_commit_time_is_known(trail: Trail) -> None:
    found = dora(trail)

    assert (found["retail"]["lead_times"], found["retail"]["lead_time_median_seconds"]) == (1, 7200)
    assert found["retail"]["lead_time_median_low"] is None  # no interval of 95 % from one value
    assert found["storefront"]["lead_times"] == 0


def test_medians_have_the_interval_of_order_statistics(clickhouse: str) -> None:
    trail = Trail(clickhouse)
    for minutes in range(1, 26):  # 25 alerts that took 1, 2, … 25 minutes
        name, began = f"s{minutes}", at("00:00") + minutes * 1_800_000_000
        ended = began + minutes * 60_000_000
        trail.store(
            RecordType.SIGNAL,
            [
                signal("alert_firing", began, signal_id=name, fingerprint=name),
                signal("alert_resolved", ended, signal_id=f"{name}-end", fingerprint=name),
            ],
        )
        trail.store(RecordType.FINDING, [candidate(name, "X", 1, 0.9, began)])
    found = dora(trail)[""]
    trail.close()

    # ranks floor((25 − 1.96 × 5) / 2) = 7 and ceil(1 + (25 + 1.96 × 5) / 2) = 19
    assert (found["restores"], found["restore_median_seconds"]) == (25, 13 * 60)
    assert (found["restore_median_low"], found["restore_median_high"]) == (7 * 60, 19 * 60)


def test_late_events_change_history_only_for_a_later_as_of(trail: Trail) -> None:
    def failed(as_of: str) -> tuple[int, int]:
        row = dora(trail, f"{MONDAY}, as_of = '{as_of}', {PRODUCTION}")["retail"]
        return row["total"], row["failed"]

    assert failed("2026-11-03 00:00:00") == (2, 1)
    assert failed("2026-11-05 07:59:59") == (2, 1)
    assert failed("2026-11-05 08:00:00") == (3, 2)  # Z arrived
    at_half_past_one = dora(trail, f"{MONDAY}, as_of = '2026-11-02 13:30:00', {PRODUCTION}")["storefront"]
    assert (at_half_past_one["succeeded"], at_half_past_one["failed"]) == (1, 0)  # C was not undone yet


def test_a_later_version_of_a_policy_changes_owners_only_for_a_later_as_of(clickhouse: str) -> None:
    trail = Trail(clickhouse)
    trail.apply("service", "shop", 1, "2026-01-01T00:00:00Z", {"team": "old"}, at("12:00", 20))
    trail.apply("service", "shop", 2, "2026-11-01T00:00:00Z", {"team": "new"}, at("12:00", 25))
    trail.store(RecordType.RECORD, [record("A", "succeeded", at("10:00"), at("10:05"))])

    # The first version counts also before it was known; one that replaces it in the past does not.
    found = [set(dora(trail, f"{MONDAY}, as_of = '2026-11-{d} 00:00:00', {PRODUCTION}")) for d in (10, 24, 26)]
    trail.close()

    assert found == [{"old"}, {"old"}, {"new"}]


def test_a_deployment_of_several_repositories_and_child_pipelines_is_one_change(trail: Trail) -> None:
    rows = trail.ask(f"SELECT * FROM {{db}}.deployment_risk({COUNTED}) WHERE deployment_id LIKE 'G%'")

    # r/shop bbb, r/cart ccc, and r/payments ddd of its part
    assert [(r["deployment_id"], r["batch_size"]) for r in rows] == [("G", 3)]


def test_risk_is_the_services_failure_rate_drawn_to_the_usual_one_once_per_commit(trail: Trail) -> None:
    tuesday = "since = '2026-11-02 12:00:00', until = '2026-11-03 00:00:00'"
    rows = by(trail.ask(f"SELECT * FROM {{db}}.deployment_risk({tuesday}, {LATER}, {PRODUCTION})"), "deployment_id")

    # before noon: shop 1 of 2 failed, all services 1 of 4; usual (1 + 1) / (4 + 2) = 1/3
    rate = (1 + 10 / 3) / (2 + 10)
    assert (rows["H"]["failed_before"], rows["H"]["finished_before"], rows["H"]["batch_size"]) == (1, 2, 1)
    assert rows["H"]["risk"] == pytest.approx(rate)
    assert rows["G"]["risk"] == pytest.approx(1 - (1 - rate) ** 3)
    assert rows["SE2"]["dependents"] == 1  # shop, since noon


def test_the_same_day_is_counted_in_two_time_zones(trail: Trail) -> None:
    def days(zone: str) -> dict[date, int]:
        until = f"since = '2026-11-01 00:00:00', until = '2026-11-04 00:00:00', {LATER}, {PRODUCTION}"
        rows = trail.ask(
            f"SELECT day, sum(deployments) AS n FROM {{db}}.deployment_frequency({until}, zone = '{zone}') "
            "WHERE service = 'payments' GROUP BY day ORDER BY day"
        )
        return {r["day"]: r["n"] for r in rows}

    monday, tuesday = date(2026, 11, 2), date(2026, 11, 3)
    assert days("UTC") == {monday: 2}
    assert days("Europe/Berlin") == {monday: 1, tuesday: 1}
    assert days("America/New_York") == {monday: 2}


@pytest.mark.requirement("M1.4", "M4.3")
def test_change_failure_is_explained_by_candidates_and_not_by_the_last_deployment(trail: Trail) -> None:
    rows = by(trail.ask(f"SELECT * FROM {{db}}.change_failures({COUNTED})"), "deployment_id")

    assert {d: r["failure_probability"] for d, r in rows.items() if r["failure_probability"]} == pytest.approx(
        {"B": 1, "C": 1, "P1": 0.7, "G": 0.4}
    )
    assert rows["P1"]["signals"] == [S1]
    assert rows["P2"]["failure_probability"] == 0


def test_incidents_say_whether_a_deployment_explains_them(trail: Trail) -> None:
    rows = trail.ask(f"SELECT * FROM {{db}}.incident_causes({MONDAY}, {LATER}, environment = 'production')")

    assert [
        (r["signal_id"], r["likely_deployment_id"], r["likely_probability"], r["explained_by"], clock(r["ended_at"]))
        for r in rows
    ] == [
        (S1, "P1", 0.7, "deployment", "09:40"),
        (S3, "G1", 0.4, "none", None),
        (S2, "", 0, "none", "21:20"),
    ]
