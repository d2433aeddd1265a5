"""The processors on a real Kafka: from what was reported to records and findings."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import run, running
from support.kafka import make_topics, read_topic, wait_for, write

APPS = ("intake", "lifecycle", "change_window", "overdue", "correlation", "governance")
EU, OTHER = 1, 0
SECOND, MINUTE = 1_000_000, 60_000_000

POLICIES = """\
kind: change_window
name: weekdays
effective_from: 2020-01-01T00:00:00Z
spec:
  effect: allow
  zone: Europe/Berlin
  start: 2020-01-06T09:00
  duration_minutes: 480
  rrule: FREQ=WEEKLY;BYDAY=MO,TU,WE,TH
  scope: {environments: [production], services: [windowed]}
---
kind: break_glass
name: hotfixes
effective_from: 2020-01-01T00:00:00Z
spec: {scope: {kinds: [hotfix], services: [windowed]}, max_minutes: 120}
---
kind: service
name: checkout
effective_from: 2020-01-01T00:00:00Z
spec: {team: payments, aliases: [checkout-svc], depends_on: [cart], expected_duration_minutes: 0.02}
"""


@pytest.fixture(scope="module")
def worker(own_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All apps in one process on a Kafka of their own, with policies applied."""
    folder = tmp_path_factory.mktemp("processors")
    (folder / "policies.yaml").write_text(POLICIES)
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_TICK_SECONDS": "0.5",
        "DEPLOYTRAIL_STATE": str(folder / "state"),
    }
    make_topics(own_kafka)
    applied = run("policy", "apply", "policies.yaml", env=env, cwd=folder)
    assert applied.returncode == 0, applied.stderr
    with running("processor", *APPS, env=env, cwd=folder) as command:
        yield own_kafka
        assert command.stop() == 0


def now() -> int:
    return time.time_ns() // 1000


def event(event_type: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": uuid7(),
        "event_type": event_type,
        "deployment_id": "d",
        "occurred_at": now(),
        "region": "eu-west-1",
        "environment": "production",
        "service": "checkout",
        "producer_id": "test",
    } | fields


def report(kafka: str, *records: dict[str, Any], partition: int = EU, kind: RecordType = RecordType.DEPLOYMENT_EVENT,
           **headers: str) -> None:  # fmt: skip
    given = [(f"dt-{name.replace('_', '-')}", text.encode()) for name, text in headers.items()]
    write(kafka, Topic.INTAKE, [(partition, b"test", encode(kind, r)) for r in records], given)


def values(kafka: str, topic: Topic, kind: RecordType) -> list[dict[str, Any]]:
    decoded = (decode(m.value()) for m in read_topic(kafka, topic))
    return [value for found, value in decoded if found is kind]


def of(kafka: str, topic: Topic, kind: RecordType, deployment_id: str) -> list[dict[str, Any]]:
    return [value for value in values(kafka, topic, kind) if value.get("deployment_id") == deployment_id]


def states(kafka: str, deployment_id: str) -> list[str]:
    return [record["state"] for record in of(kafka, Topic.RECORDS, RecordType.RECORD, deployment_id)]


@pytest.mark.requirement("M2.4", "M3.2")
def test_reported_events_reach_the_trail_with_canonical_names(worker: str) -> None:
    report(worker, event("started", deployment_id="named", service="Checkout-SVC", environment="PROD"))
    wait_for(lambda: bool(of(worker, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, "named")), what="the event")
    [found] = of(worker, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, "named")

    assert (found["service"], found["reported_service"]) == ("checkout", "Checkout-SVC")
    assert (found["environment"], found["reported_environment"]) == ("production", "PROD")
    assert found["reported_region"] == ""
    assert found["received_at"] is not None
    assert found["corrected_at"] == found["occurred_at"]


def test_repeats_are_dropped(worker: str) -> None:
    started = event("started", deployment_id="repeated")
    report(worker, started, started, started, event("succeeded", deployment_id="repeated"))
    wait_for(lambda: "succeeded" in states(worker, "repeated"), what="the end")
    found = of(worker, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, "repeated")

    assert [e["event_type"] for e in found] == ["started", "succeeded"]


@pytest.mark.requirement("M8.3")
def test_a_slow_clock_is_corrected_by_its_echo(worker: str) -> None:
    slow, at = -7 * MINUTE, now()
    echo = f"{at + slow - 50_000},{at - 45_000},{at + slow - 40_000}"
    report(
        worker, event("started", deployment_id="slow", occurred_at=at + slow, producer_id="slow"),
        sent_at=str(at + slow), sent_monotonic=str(time.monotonic_ns()), echo=echo,
    )  # fmt: skip
    wait_for(lambda: bool(of(worker, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, "slow")), what="the event")
    [found] = of(worker, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, "slow")

    assert abs(found["corrected_at"] - at) <= 100_000
    assert found["uncertainty_ms"] <= 100
    assert found["occurred_at"] == at + slow


def promptly(kafka: str, name: str, tell: Callable[[str], int]) -> tuple[dict[str, Any], int]:
    """What the trail has of an event that was sent at the time that `tell` gives, and that time.

    On an overloaded machine a message may take seconds to the broker, which is doubt about any clock: tell again.
    """
    for attempt in range(10):
        deployment_id = f"{name}-{attempt}"
        at = tell(deployment_id)
        seen = partial(of, kafka, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, deployment_id)
        wait_for(lambda: bool(seen()), what="the event")  # noqa: B023  # called here and now
        [found] = seen()
        if found["received_at"] < at + SECOND:
            return found, at
    raise TimeoutError("no message came to the broker within a second")


@pytest.mark.requirement("M8.3")
def test_what_disciplines_a_clock_bounds_it_without_an_echo(worker: str) -> None:
    def tell(name: str) -> int:
        at = now()
        report(
            worker, event("started", deployment_id=name, occurred_at=at, producer_id=name),
            sent_at=str(at), sent_monotonic=str(time.monotonic_ns()), clock="-120,9000",
        )  # fmt: skip
        return at

    found, at = promptly(worker, "disciplined", tell)

    assert found["corrected_at"] == at
    assert found["uncertainty_ms"] == 18  # the word of NTP, and by how much brokers differ


@pytest.mark.requirement("M8.3")
def test_an_event_that_waited_while_the_clock_was_set_back_is_seen_by_the_clock_of_its_sending(worker: str) -> None:
    def tell(name: str) -> int:
        at, boot = now(), time.monotonic_ns()
        waiting = event("started", deployment_id=name, occurred_at=at + 2 * MINUTE, monotonic_ns=boot - 30_000_000_000,
                        boot_id="b", producer_id=name)  # fmt: skip
        report(worker, waiting, sent_at=str(at), sent_monotonic=str(boot), clock="0,9000")
        return at

    found, at = promptly(worker, "waited", tell)

    assert abs(found["corrected_at"] - (at - 30 * SECOND)) <= 1000
    assert found["uncertainty_ms"] <= 50


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xc3\x01" + b"12345678" + b"body", b"unknown_schema"),
        (encode(RecordType.DEPLOYMENT_EVENT, event("started"))[:-3], b"malformed"),
        (b"{}", b"unknown_wire_format"),
        (encode(RecordType.TICK, {"at": 1_793_620_800_000_000}), b"unexpected_kind"),
        (encode(RecordType.DEPLOYMENT_EVENT, event("started", occurred_at=5)), b"invalid_value"),
        (encode(RecordType.DEPLOYMENT_EVENT, event("progressed", cohort_weight=float("nan"))), b"invalid_value"),
    ],
)
def test_what_cannot_be_read_is_set_aside_with_its_bytes(worker: str, value: bytes, reason: bytes) -> None:
    write(worker, Topic.INTAKE, [(OTHER, b"key", value)], [("mine", b"kept")])

    def found() -> list[dict[str, Any]]:
        letters = [m for m in read_topic(worker, Topic.DEAD_LETTERS) if m.value() == value]
        return [dict(m.headers() or []) for m in letters]

    wait_for(lambda: bool(found()), what="the dead letter")
    [headers] = found()

    assert headers["dt-reason"] == reason
    assert headers["mine"] == b"kept"
    assert headers["dt-origin"].startswith(b"deploytrail.intake:0:")


@pytest.mark.requirement("M3.4")
def test_a_record_that_makes_a_row_larger_than_kafka_takes_is_set_aside_and_nobody_stops(worker: str) -> None:
    chance = Random(4)
    texts = (
        "repository",
        "build_url",
        "change_ticket",
        "feature_ticket",
        "deployer",
        "previous_version",
        "tier",
        "team",
    )

    def long() -> str:
        return " ".join(str(chance.getrandbits(50)) for _ in range(250))  # 4,000 characters that no lz4 makes fewer

    started = event("started", deployment_id="grown")
    many = [started | {"event_id": uuid7(), "source": f"s{n}", **{name: long() for name in texts}} for n in range(50)]
    report(worker, started, *many)
    report(worker, event("started", deployment_id="behind"), event("succeeded", deployment_id="grown"))

    def letters() -> set[bytes]:
        told = (dict(m.headers() or []) for m in read_topic(worker, Topic.DEAD_LETTERS))
        found = [one for one in told if one["dt-reason"] == b"too_large"]
        return {bytes(one["dt-detail"]).partition(b":")[0] for one in found}

    each = {name.encode() for name in APPS[1:]}
    wait_for(lambda: letters() == each, what="the dead letter of each app")
    wait_for(lambda: states(worker, "behind") == ["running"], what="what came behind it")
    wait_for(lambda: states(worker, "grown")[-1:] == ["succeeded"], what="the rest of it")

    assert letters() == each  # and of none that came behind


def test_ticks_are_written_into_live_partitions(worker: str) -> None:
    began = now()

    def ticked() -> set[int | None]:
        """Partitions that have a tick of after the beginning."""
        decoded = ((m.partition(), *decode(m.value())) for m in read_topic(worker, Topic.EVENTS))
        return {partition for partition, kind, value in decoded if kind is RecordType.TICK and value["at"] > began}

    wait_for(lambda: len(ticked()) >= 15, what="ticks everywhere")

    assert ticked() == set(range(15))  # history's partition has its own times


@pytest.mark.requirement("M2.2")
def test_a_deployment_gets_one_record_whose_revisions_grow(worker: str) -> None:
    report(worker, event("started", deployment_id="lived"), event("succeeded", deployment_id="lived"))
    wait_for(lambda: "succeeded" in states(worker, "lived"), what="the record")
    found = of(worker, Topic.RECORDS, RecordType.RECORD, "lived")

    first = found[0]["revision"]  # of the format of the app's state: see state_formats.py
    assert [(r["revision"] - first, r["state"]) for r in found] == [(0, "running"), (1, "succeeded")]


@pytest.mark.requirement("M2.1")
def test_library_webhook_and_argo_cd_give_one_record_and_one_finding(worker: str) -> None:
    place = {"service": "windowed", "occurred_at": 1_793_534_400_000_000 + 30 * MINUTE}  # a Sunday
    run = {"build_system": "github_actions", "build_id": "77"}
    hook = {"deployment_id": "github:api.github.com:5", "source": "github", "producer_id": "github", **place}
    sync = {"deployment_id": "argocd:5f0e:1", "source": "argocd", "producer_id": "argocd", **place}
    later = place["occurred_at"] + MINUTE
    report(worker, event("started", **hook), event("succeeded", **hook | {"occurred_at": later}))
    wait_for(lambda: "succeeded" in states(worker, hook["deployment_id"]), what="the webhook's own record")
    report(
        worker,
        event("started", **sync, parent_deployment_id=hook["deployment_id"]),
        event("started", deployment_id="ours", source="library", **place, **run),
        # The link comes last.
        event("progressed", **hook, **run),
        event("succeeded", deployment_id="ours", source="library", **place | {"occurred_at": later}),
    )
    wait_for(lambda: "succeeded" in states(worker, "ours"), what="the end")
    names = sorted(("ours", hook["deployment_id"], sync["deployment_id"]))
    wait_for(
        lambda: (
            {name: states(worker, name)[-1:] for name in names}
            == {name: ["succeeded" if name == "ours" else "merged"] for name in names}
        ),
        what="one record for all names",
    )
    [ours] = of(worker, Topic.RECORDS, RecordType.RECORD, "ours")[-1:]
    newest = {
        name: [f for f in of(worker, Topic.FINDINGS, RecordType.FINDING, name) if f["rule"] == "change_window"][-1:]
        for name in names
    }

    assert ours["deployment_ids"] == names
    assert ours["sources"] == ["argocd", "github", "library"]
    assert [f["verdict"] for f in newest["ours"]] == ["violation"]
    assert {f["reason"] for name in names if name != "ours" for f in newest[name]} == {"same_deployment"}


def test_a_rollback_closes_what_it_undoes(worker: str) -> None:
    report(
        worker,
        event("started", deployment_id="bad"),
        event("failed", deployment_id="bad"),
        event("started", deployment_id="undo", kind="rollback", rollback_of="bad"),
        event("succeeded", deployment_id="undo"),
    )
    wait_for(lambda: "rolled_back" in states(worker, "bad"), what="the rollback")

    assert of(worker, Topic.RECORDS, RecordType.RECORD, "bad")[-1]["rolled_back_by"] == "undo"


@pytest.mark.requirement("M4.2")
def test_a_start_outside_its_window_is_found(worker: str) -> None:
    sunday = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z, a Sunday
    report(worker, event("started", deployment_id="sunday", service="windowed", occurred_at=sunday))
    wait_for(lambda: bool(of(worker, Topic.FINDINGS, RecordType.FINDING, "sunday")), what="the finding")
    [found] = [f for f in of(worker, Topic.FINDINGS, RecordType.FINDING, "sunday") if f["rule"] == "change_window"]

    assert (found["verdict"], found["reason"]) == ("violation", "outside_allowed_windows")
    assert found["policy_version"] == "change_window/weekdays/1"
    assert found["evidence"]["next_open"] == "2026-11-02T08:00:00+00:00"


@pytest.mark.requirement("M4.2")
def test_an_approval_that_comes_late_lets_an_emergency_pass_after_all(worker: str) -> None:
    sunday = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z, a Sunday
    report(worker, event("started", deployment_id="emergency", service="windowed", kind="hotfix", deployer="ada",
                         occurred_at=sunday))  # fmt: skip

    def found() -> list[dict[str, Any]]:
        every = of(worker, Topic.FINDINGS, RecordType.FINDING, "emergency")
        return [f for f in every if f["rule"] == "change_window"]

    wait_for(lambda: bool(found()), what="the finding")
    step = {
        "approval_id": uuid7(), "approval_type": "approved", "occurred_at": sunday - 5 * MINUTE, "region": "eu-west-1",
        "environment": "production", "service": "windowed", "deployment_id": "emergency", "approver": "grace",
        "justification": "checkout is down", "valid_until": sunday + 60 * MINUTE, "emergency": True,
    }  # fmt: skip
    report(worker, step, kind=RecordType.APPROVAL)
    wait_for(lambda: found()[-1]["verdict"] == "ok", what="the new answer")
    before, after = found()[0], found()[-1]

    assert (before["verdict"], before["reason"]) == ("violation", "outside_allowed_windows")
    assert (after["reason"], after["supersedes"]) == ("break_glass", before["finding_id"])
    assert after["policy_version"] == "change_window/weekdays/1, break_glass/hotfixes/1"


@pytest.mark.requirement("M4.2")
def test_what_runs_too_long_is_found_by_a_tick(worker: str) -> None:
    report(worker, event("started", deployment_id="endless"))

    def overdue() -> list[dict[str, Any]]:
        return [f for f in of(worker, Topic.FINDINGS, RecordType.FINDING, "endless") if f["rule"] == "overdue"]

    wait_for(lambda: bool(overdue()), what="the finding")

    assert overdue()[0]["reason"] == "running_longer_than_expected"


@pytest.mark.requirement("M4.3", "M6.2")
def test_an_alert_gets_candidates_whose_probabilities_sum_to_one(worker: str) -> None:
    at = now()
    report(
        worker,
        event("started", deployment_id="guilty", occurred_at=at - 2 * MINUTE, service="guilt"),
        event("succeeded", deployment_id="guilty", occurred_at=at - MINUTE, service="guilt"),
    )
    signal_id = uuid7()
    signal = {
        "signal_id": signal_id, "signal_type": "alert_firing", "occurred_at": at, "region": "eu-west-1",
        "environment": "production", "service": "guilt", "severity": "critical", "title": "HighErrorRate",
    }  # fmt: skip
    report(worker, signal, kind=RecordType.SIGNAL)

    def standing() -> dict[str, dict[str, Any]]:
        mine = [f for f in values(worker, Topic.FINDINGS, RecordType.FINDING) if f["signal_id"] == signal_id]
        replaced = {f["supersedes"] for f in mine}
        return {f["deployment_id"]: f for f in mine if f["finding_id"] not in replaced}

    wait_for(lambda: set(standing()) == {"guilty", ""}, what="the answer")

    assert standing()["guilty"]["rank"] == 1
    assert standing()["guilty"]["probability"] > 0.8
    assert sum(f["probability"] for f in standing().values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.requirement("M4.3")
def test_a_switch_that_acts_everywhere_is_blamed_in_another_region_and_stands_on_the_trail_once(worker: str) -> None:
    at = now()
    switched = event("succeeded", deployment_id="switch", kind="feature_flag", region="global", service="switched",
                     occurred_at=at - MINUTE)  # fmt: skip
    report(worker, switched, switched, partition=OTHER)
    wait_for(lambda: states(worker, "switch") == ["succeeded"], what="the record")
    signal = {
        "signal_id": uuid7(), "signal_type": "alert_firing", "occurred_at": at, "region": "eu-west-1",
        "environment": "production", "service": "switched", "severity": "critical", "title": "HighErrorRate",
    }  # fmt: skip
    report(worker, signal, kind=RecordType.SIGNAL)
    report(worker, event("progressed", deployment_id="switch", kind="feature_flag", region="global",
                         service="switched", occurred_at=at - 2 * MINUTE), partition=OTHER)  # fmt: skip

    def blamed() -> list[tuple[int | None, dict[str, Any]]]:
        decoded = ((m.partition(), decode(m.value())[1]) for m in read_topic(worker, Topic.FINDINGS))
        mine = [(partition, f) for partition, f in decoded if f["signal_id"] == signal["signal_id"]]
        replaced = {f["supersedes"] for _, f in mine}
        return [(p, f) for p, f in mine if f["finding_id"] not in replaced and f["deployment_id"] == "switch"]

    wait_for(lambda: [f["probability"] > 0.5 for _, f in blamed()] == [True], what="the answer of the region")

    def told() -> list[int | None]:
        decoded = ((m.partition(), *decode(m.value())) for m in read_topic(worker, Topic.EVENTS))
        return [p for p, kind, value in decoded if kind is RecordType.GLOBAL_CHANGE and value["service"] == "switched"]

    wait_for(lambda: len(told()) == 14, what="both events in each region's partition")

    assert [partition for partition, _ in blamed()] == [EU]
    assert sorted(told()) == [partition for partition in range(1, 8) for _ in range(2)]
    assert len(of(worker, Topic.EVENTS, RecordType.DEPLOYMENT_EVENT, "switch")) == 2
    assert {f["region"] for f in of(worker, Topic.RECORDS, RecordType.RECORD, "switch")} == {"global"}


@pytest.mark.requirement("M2.4", "M3.6")
def test_unmapped_names_and_missing_fields_are_findings_until_an_amendment_heals_them(
    worker: str, tmp_path: Path
) -> None:
    (tmp_path / "sprints.yaml").write_text(
        "kind: required_fields\nname: sprints\neffective_from: 2020-01-01T00:00:00Z\n"
        "spec: {fields: [sprint], scope: {services: [sprinted]}}\n"
    )
    assert (
        run("policy", "apply", "--wait", "sprints.yaml", env={"DEPLOYTRAIL_KAFKA": worker}, cwd=tmp_path).returncode
        == 0
    )
    probes = (f"probe-{number}" for number in itertools.count())

    def follows() -> bool:
        """Whether the worker has read the policy: it judges by it what is reported meanwhile."""
        report(worker, event("started", deployment_id=next(probes), service="sprinted"))
        found = values(worker, Topic.FINDINGS, RecordType.FINDING)
        return any(f["rule"] == "required_fields" and f["deployment_id"].startswith("probe-") for f in found)

    wait_for(follows, what="a worker that has read the policy")

    def found() -> list[tuple[str, str]]:
        findings = of(worker, Topic.FINDINGS, RecordType.FINDING, "sprinted-1")
        rules = ("unmapped_name", "required_fields")
        return [(f["rule"], f["reason"]) for f in findings if f["rule"] in rules]

    report(worker, event("started", deployment_id="sprinted-1", service="sprinted", environment="moon"))
    wait_for(lambda: len(found()) >= 2, what="both findings")
    amended = event("amended", deployment_id="sprinted-1", service="sprinted", environment="production", sprint="S9")
    report(worker, amended)
    wait_for(lambda: len(found()) >= 3, what="the healing")

    assert found() == [
        ("unmapped_name", "unknown_environment"),
        ("required_fields", "fields_missing"),
        ("required_fields", "healed"),
    ]


def test_policy_check_names_file_line_and_every_problem(own_kafka: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "kind: change_window\nname: w\nspec:\n  effect: perhaps\n  zone: Europe/Berlim\n  start: monday\n"
        "  duration_minutes: 60\n  rrule: FREQ=SOMETIMES\n"
    )
    done = run("policy", "check", "bad.yaml", env={}, cwd=tmp_path)

    assert done.returncode == 65
    assert "bad.yaml:4: spec.effect: is 'perhaps'; expected allow or deny" in done.stderr
    assert "bad.yaml:5: spec.zone: is 'Europe/Berlim'; expected an IANA time zone" in done.stderr
    assert "bad.yaml:6: spec.start: is 'monday'" in done.stderr
    assert "bad.yaml:8: spec.rrule: is 'FREQ=SOMETIMES'" in done.stderr
    assert done.stderr.endswith("4 problems\n")


def test_applying_the_same_policies_again_changes_nothing(worker: str, tmp_path: Path) -> None:
    (tmp_path / "policies.yaml").write_text(POLICIES)
    env = {"DEPLOYTRAIL_KAFKA": worker}
    done = run("policy", "apply", "policies.yaml", env=env, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "0 of 3 documents changed\n")


def test_a_change_is_shown_applied_waited_for_and_then_in_force(worker: str, tmp_path: Path) -> None:
    path, env = tmp_path / "lab.yaml", {"DEPLOYTRAIL_KAFKA": worker}
    path.write_text("kind: environment\nname: lab\nspec: {aliases: [bench-*]}\n")
    shown = run("policy", "diff", "--exit-code", "lab.yaml", env=env, cwd=tmp_path)
    applied = run("policy", "apply", "--wait", "lab.yaml", env=env, cwd=tmp_path)
    (tmp_path / "names").write_text("Bench-7\n")
    names = run("policy", "names", "names", env=env, cwd=tmp_path)
    again = run("policy", "diff", "--exit-code", "lab.yaml", env=env, cwd=tmp_path)

    assert shown.returncode == 1
    assert "--- (new)" in shown.stdout
    assert "+  - bench-*" in shown.stdout
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.startswith("environment/lab/1 from 2")
    assert names.returncode == 0, names.stdout
    assert "pattern bench-* of environment/lab" in names.stdout
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "0 of 1 document changed")

    path.write_text("kind: environment\nname: lab\nversion: 1\nspec: {aliases: [bench-*, lab-*]}\n")
    refused = run("policy", "apply", "lab.yaml", env=env, cwd=tmp_path)

    assert refused.returncode == 65
    assert "lab.yaml:1: says version 1, but environment/lab has come to version 1 with other content" in refused.stderr
    assert "nothing was applied" in refused.stderr
