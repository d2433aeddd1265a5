"""One Monday, by hand: 2026-11-02 in production of eu-west-1.

`shop` goes from team retail to team storefront at noon, and needs `search` from then on; `payments`
and `ledger` are of team money, `search` of team discovery.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from deploytrail_schemas.records import RecordType

from support.questions import Trail, at, candidate, record
from support.values import approval, event, observation, signal

MONDAY = "since = '2026-11-02 00:00:00', until = '2026-11-03 00:00:00'"
LATER = "as_of = '2026-11-04 00:00:00'"
PRODUCTION = "environment = 'production', excluded_kinds = ['configuration_change']"
COUNTED = f"{MONDAY}, {LATER}, {PRODUCTION}"


def play(trail: Trail) -> None:
    """Store the day."""
    for name, version, since, spec in (
        ("shop", 1, "2026-01-01T00:00:00Z", {"team": "retail", "tier": 1, "depends_on": ["payments"]}),
        ("shop", 2, "2026-11-02T12:00:00Z", {"team": "storefront", "tier": "1", "depends_on": ["payments", "search"]}),
        ("payments", 1, "2026-01-01T00:00:00Z", {"team": "money", "depends_on": ["ledger"]}),
        ("ledger", 1, "2026-01-01T00:00:00Z", {"team": "money"}),
        ("search", 1, "2026-01-01T00:00:00Z", {"team": "discovery"}),
    ):
        trail.apply("service", name, version, since, spec, at("00:00", 1))
    trail.store(RecordType.RECORD, RECORDS)
    trail.store(RecordType.DEPLOYMENT_EVENT, EVENTS)
    trail.store(RecordType.SIGNAL, SIGNALS)
    trail.store(RecordType.FINDING, FINDINGS)
    trail.store(RecordType.APPROVAL, APPROVALS)
    trail.store(RecordType.OBSERVATION, OBSERVATIONS)


def _part(parent: str) -> dict[str, str]:
    return {"parent_deployment_id": parent, "part_of": parent}


def _another_name(of: str) -> dict[str, str]:
    return {"merged_into": of, **_part(of)}


RECORDS = [
    # of retail: one well, one failed; of money: one that an alert speaks against
    record("A", "succeeded", at("10:00"), at("10:05"), version="1.0", change_ticket="CHG1", deployer="amara"),
    record("B", "failed", at("11:00"), at("11:20"), version="1.1", change_ticket="CHG2"),
    record("P1", "succeeded", at("09:00"), at("09:05"), service="payments", version="7.0"),
    # of storefront: one undone by R, one running, one cancelled, a change of configuration
    record("C", "succeeded", at("13:00"), at("13:05"), version="1.2", change_ticket="CHG3"),
    record(
        "C",
        "rolled_back",
        at("13:00"),
        at("14:00"),
        revision=2,
        version="1.2",
        rolled_back_by="R",
        change_ticket="CHG3",
    ),
    record("R", "succeeded", at("13:50"), at("14:00"), kind="rollback", rollback_of="C", version="1.0"),
    record("D", "running", at("15:00"), version="1.3", sources=["jenkins"]),
    record("E", "cancelled", at("16:00"), at("16:01")),
    record("F", "succeeded", at("17:00"), at("17:02"), kind="configuration_change"),
    # one of several repositories, with two child pipelines; a hotfix; one that was never heard of again
    record("G", "succeeded", at("18:00"), at("18:10"), version="1.4", deployer="bjorn"),
    record("G1", "succeeded", at("18:01"), at("18:04"), service="payments", **_part("G"), version="7.1"),
    record("G2", "succeeded", at("18:04"), at("18:08"), service="payments", **_part("G1"), version="7.1"),
    record("H", "succeeded", at("19:00"), at("19:05"), kind="hotfix", version="1.5", deployer="chitra"),
    record("L", "lost", at("20:00"), version="1.6", sources=["jenkins"]),
    # what shop needs: ledger through payments; search only since noon
    record(
        "LE",
        "succeeded",
        at("17:40"),
        at("17:49:30"),
        service="ledger",
        version="5.0",
        finished_at_uncertainty_ms=60_000,
    ),
    record("SE1", "succeeded", at("10:50"), at("10:55"), service="search", version="3.0"),
    record("SE2", "succeeded", at("18:02"), at("18:03"), service="search", version="3.1"),
    # half past eleven in the evening, in Berlin it is tomorrow
    record("P2", "succeeded", at("23:30"), at("23:35"), service="payments", version="7.2", change_ticket="CHG9"),
    # the webhook's name of A, once it was known to be one; and of a deployment that nobody knows, which is no change
    record("A-2", "succeeded", at("10:00"), at("10:05"), version="1.0", recorded_at=at("10:05")),
    record("A-2", "merged", at("10:00"), at("10:05"), revision=2, version="1.0", **_another_name("A")),
    record("X-2", "merged", at("10:00"), at("10:05"), version="0.9", merged_into="X"),
    # reported three days late
    record("Z", "failed", at("10:30"), at("10:40"), recorded_at=at("08:00", 5)),
]


def _sets(deployment_id: str, when: int, offset_value: str, **fields: Any) -> dict[str, Any]:
    return event("started", when, deployment_id=deployment_id, config_changes={"pool_size": offset_value}, **fields)


ONE, TWO = {"producer_id": "runner-1"}, {"producer_id": "runner-2"}
SHOP, CART = {"repository": "r/shop"}, {"repository": "r/cart", "commit_sha": "ccc"}
COMMITTED = {"committed_at": "2026-11-02T08:05:00Z"}
EVENTS = [
    _sets("A", at("10:00"), "10", **ONE, producer_seq=1, **SHOP, commit_sha="aaa", deployer="amara"),
    event("succeeded", at("10:05"), deployment_id="A", **ONE, producer_seq=2, reporter="dtk_1", deployer="amara",
          tags=COMMITTED),
    _sets("B", at("11:00"), "20", **ONE, producer_seq=5, change_ticket="CHG2"),
    _sets("C", at("13:00"), "20", **ONE, producer_seq=6),
    event("succeeded", at("13:05"), deployment_id="C", **TWO, producer_seq=1),
    # one deployment of two repositories
    event("started", at("18:00"), deployment_id="G", **TWO, producer_seq=2, **SHOP, commit_sha="bbb", deployer="bjorn"),
    event("progressed", at("18:02"), deployment_id="G", **TWO, producer_seq=3, **CART),
    event("succeeded", at("18:10"), deployment_id="G", **TWO, producer_seq=4, **SHOP, commit_sha="bbb"),
    event("started", at("18:01"), deployment_id="G1", service="payments", repository="r/payments", commit_sha="ddd"),
    _sets("H", at("19:00"), "15", **SHOP, commit_sha="eee", deployer="chitra"),
]  # fmt: skip

S1, S2, S3 = "s-payments", "s-nobody", "s-child"
SIGNALS = [
    signal("alert_firing", at("09:10"), signal_id=S1, fingerprint="f1", title="Errors", incident_id="INC1"),
    signal("alert_firing", at("09:15"), signal_id="s-again", fingerprint="f1", title="Errors", incident_id="INC1"),
    signal("alert_resolved", at("09:40"), signal_id="s1-end", fingerprint="f1", title="Errors", incident_id="INC1"),
    signal("alert_firing", at("21:00"), signal_id=S2, fingerprint="f2", service="payments"),
    signal("alert_resolved", at("21:20"), signal_id="s2-end", fingerprint="f2", service="payments"),
    signal("alert_firing", at("18:20"), signal_id=S3, fingerprint="f3"),
    signal("alert_firing", at("18:25"), signal_id="s-warning", fingerprint="f4", severity="warning"),
    signal("unknown", at("13:06"), signal_id="s-told", source="deploytrail", fingerprint="", **ONE,
           labels={"lost_events": "2", "producer_seq": "7"}),
]  # fmt: skip
FIRST_ANSWER = [candidate(S1, "P1", 1, 0.6, at("09:10")), candidate(S1, "", 2, 0.4, at("09:10"))]
FINDINGS = [
    *FIRST_ANSWER,
    # a later answer takes the place of the first
    candidate(S1, "P1", 1, 0.7, at("09:10"), supersedes=FIRST_ANSWER[0]["finding_id"]),
    candidate(S1, "", 2, 0.3, at("09:10"), supersedes=FIRST_ANSWER[1]["finding_id"]),
    candidate(S2, "", 1, 1.0, at("21:00"), service="payments"),
    candidate(S3, "", 1, 0.6, at("18:20")),
    candidate(S3, "G1", 2, 0.4, at("18:20")),
]
APPROVALS = [
    approval("approved", at("09:50"), deployment_id="A", change_ticket="CHG1", approver="femi", reporter="dtk_2"),
    approval(
        "approved", at("10:50"), deployment_id="someone-else", change_ticket="CHG2", approver="femi", reporter="dtk_2"
    ),
    # the deploy script's own word for its ticket, of which no system of tickets ever spoke
    approval("registered", at("23:25"), deployment_id="P2", change_ticket="CHG9", service="payments", approver=""),
]
OBSERVATIONS = [
    observation(at("20:00"), instance="shop-1", version="1.4"),
    observation(at("20:30"), instance="shop-1", version="1.5"),
    observation(at("20:30"), instance="shop-2", version="1.1"),
    observation(at("20:30"), instance="shop-3", version="9.9"),
    observation(at("20:40"), instance="shop-3", version="9.9", observation_type="removed"),
    observation(at("20:30"), service="payments", instance="pay-1", version="7.2"),
    observation(at("20:30"), service="secret-cron", instance="cron-1", version="0.1"),
]


def by(rows: list[dict[str, Any]], *keys: str) -> dict[Any, dict[str, Any]]:
    return {tuple(r[k] for k in keys) if len(keys) > 1 else r[keys[0]]: r for r in rows}


def clock(when: datetime | None) -> str | None:
    return when.strftime("%H:%M") if when else None
