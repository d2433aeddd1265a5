"""What is a part of what, and what came late: by region, and as it was known then. Histories and answers by hand."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.reports.period import month
from deploytrail_sinks.reports.population import Collector
from deploytrail_sinks.reports.trail import Trail as ReportTrail
from support.monday import COUNTED, MONDAY, PRODUCTION, by
from support.questions import Trail, at, candidate, record
from support.values import event


def as_of(day: int) -> str:
    return f"{MONDAY}, as_of = '2026-11-{day:02} 00:00:00', {PRODUCTION}"


def dora(trail: Trail, arguments: str = COUNTED) -> list[dict[str, Any]]:
    return trail.ask(f"SELECT * FROM {{db}}.dora({arguments})")


@pytest.mark.requirement("M1.4")
def test_what_runs_leaves_out_the_parts_of_its_own_region_while_they_are_parts(clickhouse: str) -> None:
    """`canary` was a part of `whole`, and is one no more; 42 is a part in one region and none in another."""
    trail, us = Trail(clickhouse), {"region": "us-east-1", "service": "cart"}
    canary = {"service": "search", "version": "2.0"}
    records = [
        record("whole", "succeeded", at("10:00"), at("10:10"), service="search", version="1.0"),
        record("canary", "succeeded", at("10:05"), at("10:20"), part_of="whole", **canary),
        record("41", "succeeded", at("10:00"), at("10:10"), version="4.1", **us),
        record("42", "succeeded", at("10:05"), at("10:20"), version="4.2", part_of="41", **us),
        record("42", "succeeded", at("10:05"), at("10:20"), version="4.2", service="cart"),
        record("41", "succeeded", at("10:00"), at("10:10"), version="4.1", service="cart"),
        # a part of a part, whose whole is another service; then the link between them goes
        record("top", "succeeded", at("09:00"), at("09:10"), service="shop", version="1.0"),
        record("middle", "succeeded", at("09:00"), at("09:10"), service="ledger", version="7.0", part_of="top"),
        record("bottom", "succeeded", at("09:00"), at("09:20"), service="ledger", version="7.1", part_of="middle"),
    ]
    trail.store(RecordType.RECORD, records)

    def runs() -> dict[tuple[str, str], str]:
        found = trail.ask("SELECT region, service, version FROM {db}.what_runs")
        then = trail.ask("SELECT region, service, version FROM {db}.version_at(at = '2026-11-03 00:00:00')")
        assert by(found, "region", "service") == by(then, "region", "service")
        return {(r["region"], r["service"]): r["version"] for r in found}

    while_parts = runs()
    trail.store(
        RecordType.RECORD,
        [
            record("canary", "succeeded", at("10:05"), at("10:20"), revision=2, **canary),
            record("middle", "succeeded", at("09:00"), at("09:10"), revision=2, service="ledger", version="7.0"),
        ],
    )
    afterwards = runs()
    parts = trail.ask("SELECT region, deployment_id, root_deployment_id FROM {db}.deployment_parts ORDER BY ALL")
    trail.close()

    assert while_parts == {
        ("eu-west-1", "search"): "1.0",
        ("eu-west-1", "cart"): "4.2",
        ("us-east-1", "cart"): "4.1",
        ("eu-west-1", "shop"): "1.0",
        ("eu-west-1", "ledger"): "7.1",  # both are parts of a deployment of shop, and deployments of ledger
    }
    assert afterwards == while_parts | {("eu-west-1", "search"): "2.0", ("eu-west-1", "ledger"): "7.0"}
    assert [tuple(r.values()) for r in parts] == [("eu-west-1", "bottom", "middle"), ("us-east-1", "42", "41")]


@pytest.mark.requirement("M6.4")
def test_what_is_a_part_of_what_changes_only_for_a_later_as_of(clickhouse: str) -> None:
    """On Thursday, `late` is reported, of which `child` turns out to be a part; `free` is taken out of `whole`.
    `grand` is a part of `child` all the while."""
    trail = Trail(clickhouse)
    of_late, thursday = {"part_of": "late"}, {"recorded_at": at("08:00", 5)}
    records = [
        record("child", "succeeded", at("10:00"), at("10:05")),
        record("child", "succeeded", at("10:00"), at("10:05"), revision=2, **of_late, **thursday),
        record("grand", "succeeded", at("10:01"), at("10:04"), part_of="child"),
        record("late", "succeeded", at("09:59"), at("10:10"), **thursday),
        record("whole", "succeeded", at("12:00"), at("12:10")),
        record("free", "succeeded", at("12:01"), at("12:05"), part_of="whole"),
        record("free", "succeeded", at("12:01"), at("12:05"), revision=2, **thursday),
    ]
    trail.store(RecordType.RECORD, records)
    # Its newest revision once more, as after a crash, and both of `free` behind a merge.
    trail.store(RecordType.RECORD, [records[1], records[6]])
    trail.client.command(f"OPTIMIZE TABLE {trail.database}.part_history FINAL")
    for name, about in (("s1", "grand"), ("s2", "free")):
        trail.store(RecordType.FINDING, [candidate(name, about, 1, 0.7, at("12:30"))])
    ids = ("child", "grand", "late", "whole", "free")
    trail.store(
        RecordType.DEPLOYMENT_EVENT,
        [event("started", at("10:00"), deployment_id=name, commit_sha=name, repository="r") for name in ids],
    )

    def counted(day: int) -> tuple[int, int]:
        [row] = dora(trail, as_of(day))
        return row["total"], row["parts"]

    def per_deployment(view: str, column: str, day: int) -> dict[str, Any]:
        rows = trail.ask(f"SELECT deployment_id, {column} FROM {{db}}.{view}({as_of(day)}) WHERE {column} > 0")
        return {r["deployment_id"]: r[column] for r in rows}

    totals = {day: counted(day) for day in (4, 6)}
    failures = {day: per_deployment("change_failures", "failure_probability", day) for day in (4, 6)}
    batches = {day: per_deployment("deployment_risk", "batch_size", day) for day in (4, 6)}
    parts = trail.ask("SELECT deployment_id, root_deployment_id FROM {db}.deployment_parts ORDER BY deployment_id")
    trail.close()

    assert totals == {4: (2, 2), 6: (3, 2)}  # child and whole; late, whole and free
    assert failures == {4: {"child": 0.7, "whole": 0.7}, 6: {"late": 0.7, "free": 0.7}}
    assert batches == {4: {"child": 2, "whole": 2}, 6: {"late": 3, "whole": 1, "free": 1}}
    assert [tuple(r.values()) for r in parts] == [("child", "late"), ("grand", "late")]


@pytest.mark.requirement("M6.4")
def test_events_that_arrive_late_change_lead_times_and_batches_only_for_a_later_as_of(clickhouse: str) -> None:
    trail = Trail(clickhouse)
    trail.store(RecordType.RECORD, [record("A", "succeeded", at("10:00"), at("10:05"))])
    late = {"received_at": at("08:00", 5), "tags": {"committed_at": "2026-11-02T08:05:00Z"}}
    events = [
        event("started", at("10:00"), deployment_id="A", repository="r", commit_sha="aaa"),
        event("progressed", at("10:02"), deployment_id="A", repository="r", commit_sha="bbb", **late),
    ]
    trail.store(RecordType.DEPLOYMENT_EVENT, events)
    leads, batches = {}, {}
    for day in (4, 6):
        [row] = dora(trail, as_of(day))
        leads[day] = (row["lead_times"], row["lead_time_median_seconds"])
        [risk] = trail.ask(f"SELECT batch_size, risk FROM {{db}}.deployment_risk({as_of(day)})")
        [often] = trail.ask(f"SELECT mean_batch_size FROM {{db}}.deployment_frequency({as_of(day)}, zone = 'UTC')")
        batches[day] = (risk["batch_size"], often["mean_batch_size"], risk["risk"])
    trail.close()

    assert leads == {4: (0, None), 6: (1, 7200)}
    # nothing failed before: (0 + 1) / (0 + 2), once a commit
    assert batches == {4: (1, 1, 0.5), 6: (2, 2, 0.75)}


@pytest.mark.requirement("M6.4")
def test_one_id_in_two_regions_is_two_deployments_also_where_one_of_them_is_a_part(clickhouse: str) -> None:
    trail, us = Trail(clickhouse), {"region": "us-east-1"}
    trail.store(
        RecordType.RECORD,
        [
            record("41", "succeeded", at("10:00"), at("10:10"), **us),
            record("42", "succeeded", at("10:01"), at("10:05"), part_of="41", **us),
            record("42", "succeeded", at("11:00"), at("11:05"), change_ticket=""),
        ],
    )
    trail.store(RecordType.FINDING, [candidate("s", "42", 1, 0.6, at("11:10"))])
    trail.store(
        RecordType.DEPLOYMENT_EVENT,
        [
            event("started", at("10:01"), deployment_id="42", repository="r", commit_sha="one", **us),
            event("started", at("11:00"), deployment_id="42", repository="r", commit_sha="two"),
            event("progressed", at("11:01"), deployment_id="42", repository="r", commit_sha="three"),
        ],
    )
    [row] = dora(trail)
    failed = trail.ask(f"SELECT region, deployment_id, failure_probability FROM {{db}}.change_failures({COUNTED})")
    sizes = trail.ask(f"SELECT region, deployment_id, batch_size FROM {{db}}.deployment_risk({COUNTED})")
    tickets = trail.ask(f"SELECT * FROM {{db}}.broken_ticket_links({MONDAY}, environment = 'production')")
    trail.close()

    assert (row["total"], row["parts"]) == (2, 1)
    assert {tuple(r.values()) for r in failed} == {("us-east-1", "41", 0), ("eu-west-1", "42", 0.6)}
    assert {tuple(r.values()) for r in sizes} == {("us-east-1", "41", 1), ("eu-west-1", "42", 2)}
    assert {(r["region"], r["deployment_id"]) for r in tickets} == {("us-east-1", "41"), ("eu-west-1", "42")}


@pytest.mark.requirement("M5.2")
def test_the_audit_lists_what_its_newest_revision_places_in_production_as_every_store_does(clickhouse: str) -> None:
    """On Thursday `left` is amended to staging, where it was all the while, and `came` to production."""
    trail, thursday = Trail(clickhouse), {"recorded_at": at("08:00", 5), "revision": 2}
    records = [
        record("stays", "succeeded", at("09:00"), at("09:10")),
        record("left", "running", at("10:00")),
        record("came", "running", at("11:00"), environment="staging"),
        record("left", "running", at("10:00"), environment="staging", **thursday),
        record("came", "running", at("11:00"), **thursday),
    ]
    trail.store(RecordType.RECORD, records)
    november, found = month("2026-11"), {}
    for day in (4, 6):
        kafka = Collector("Kafka", november, ["production"], at("00:00", day) // 1000)
        for offset, value in enumerate(records):
            kafka.add(1, offset, value["recorded_at"] // 1000, encode(RecordType.RECORD, value))
        stored = ReportTrail([trail.client], trail.database, at("00:00", day))
        listed = [one for block in stored.deployments(november, ["production"]) for one in block]
        found[day] = {one["deployment_id"]: one["revision"] for one in listed}
        counted = {name: revision for (_, name), revision in kafka.population().deployments.items()}
        assert found[day] == counted
    trail.close()

    assert found == {4: {"stays": 1, "left": 1}, 6: {"stays": 1, "came": 2}}
