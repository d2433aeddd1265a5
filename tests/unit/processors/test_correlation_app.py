"""The correlation app over tables in memory: in whatever order the trail tells, it ends in the answers of the rule."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest
from deploytrail_processors.apps.correlation import Correlation
from deploytrail_schemas.records import RecordType
from support.processors import MemoryContext
from support.values import MINUTE, NOON, event, signal
from truth.answers import by_rule, policies_of
from truth.company import DAY, START, Company, Known, simulate

EU = 1


def app_of(company: Company) -> tuple[Correlation, MemoryContext]:
    context = MemoryContext(policies_of(company))
    return Correlation(cast("Any", context)), context


def play(app: Correlation, context: MemoryContext, trail: list[Known], partitions: dict[str, int]) -> None:
    """Feed what became known, in its order, with a tick behind each hour."""
    for known in trail:
        hour = known.at // (60 * MINUTE) * 60 * MINUTE
        if hour > context.now:
            context.now = hour
            for partition in partitions.values():
                app.on_tick(partition, hour)
        kind = RecordType.SIGNAL if "signal_id" in known.value else RecordType.DEPLOYMENT_EVENT
        app.on_record(partitions[known.value["region"]], kind, known.value)


@pytest.fixture(scope="module")
def week() -> Company:
    """The first days of a company."""
    whole = simulate(3)
    until = START + 6 * DAY
    events = [known for known in whole.events if known.at < until]
    signals = [known for known in whole.signals if known.at < until]
    ids = {known.value["signal_id"] for known in signals}
    cause = {i: c for i, c in whole.cause.items() if i in ids}
    return Company(whole.services, events, signals, cause, {i: whole.incident[i] for i in ids})


@pytest.mark.requirement("M4.3")
def test_the_app_gives_the_answers_that_are_measured(week: Company) -> None:
    app, context = app_of(week)
    trail = sorted([*week.events, *week.signals], key=lambda known: (known.at, "signal_id" in known.value))
    play(app, context, trail, {"eu-west-1": 1, "us-east-1": 2})
    measured = by_rule(week)
    first = {s: max(a, key=lambda d: a[d]) for s, a in measured.items()}
    standing: dict[str, dict[str, float]] = {}
    for (signal_id, deployment_id), found in context.standing().items():
        standing.setdefault(signal_id, {})[deployment_id] = found["probability"]
    differ = [s for s, a in standing.items() if max(a, key=lambda d: a[d]) != first[s]]

    assert standing.keys() == measured.keys()
    # The app learns ends only when they come, and answers at once: few answers rest on what was known later.
    assert len(differ) <= 0.01 * len(measured)
    assert all(sum(a.values()) == pytest.approx(1, abs=1e-4) for a in standing.values())


def test_redelivery_writes_the_same_findings_and_counts_nothing_twice(week: Company) -> None:
    once, twice = app_of(week), app_of(week)
    trail = sorted([*week.events[:400], *week.signals[:300]], key=lambda known: known.at)
    play(*once, trail, {"eu-west-1": 1, "us-east-1": 2})
    play(*twice, [known for one in trail for known in (one, one)], {"eu-west-1": 1, "us-east-1": 2})

    assert twice[1].standing() == once[1].standing()
    assert twice[1].tables["habits"] == once[1].tables["habits"]


def test_signals_whose_own_rows_a_crash_took_were_preceded_by_no_more_than_before(week: Company) -> None:
    app, context = app_of(week)
    alerts = [signal(at=NOON + n * 70 * MINUTE, service="service-05") for n in range(12)]
    for alert in alerts:
        app.on_record(EU, RecordType.SIGNAL, alert)
    before = dict(context.tables["signals"])
    habits = dict(context.tables["habits"])
    # Each table has a changelog of its own: that of the habits may be ahead.
    again, behind = app_of(week)
    behind.tables["habits"].update(habits)
    behind.tables["signals"].update({key: before[key] for key in list(before)[:7]})
    again.on_recovered()
    for alert in alerts[5:]:
        again.on_record(EU, RecordType.SIGNAL, alert)

    assert {key: row["habit"] for key, row in behind.tables["signals"].items()} == {
        key: row["habit"] for key, row in before.items()
    }
    assert dict(behind.tables["habits"]) == habits


def test_a_late_deployment_takes_blame_also_for_the_alerts_that_followed(week: Company) -> None:
    app, context = app_of(week)
    alerts = [signal(at=NOON + n * 20 * MINUTE, service="service-05") for n in range(3)]
    for alert in alerts:
        app.on_record(EU, RecordType.SIGNAL, alert)
    before = [context.standing()[a["signal_id"], ""]["probability"] for a in alerts]
    for kind, at in (("started", NOON - 6 * MINUTE), ("succeeded", NOON - 2 * MINUTE)):
        app.on_record(EU, RecordType.DEPLOYMENT_EVENT, event(kind, at, deployment_id="late", service="service-05"))
    after = [context.standing()[a["signal_id"], "late"] for a in alerts]

    assert before == [1.0, 1.0, 1.0]
    assert all(found["probability"] > 0.5 for found in after)
    assert "it likely caused the same alert, 20 minutes before" in after[1]["explanation"]


@pytest.mark.requirement("M4.3")
def test_a_flag_that_was_switched_takes_the_blame_also_where_it_is_reported_late(week: Company) -> None:
    switched = event("succeeded", NOON - 2 * MINUTE, deployment_id="flag", kind="feature_flag", service="service-05")
    alert = signal(at=NOON, service="service-05")
    answers = []
    for order in ([switched, alert], [alert, switched]):
        app, context = app_of(week)
        for one in order:
            kind = RecordType.SIGNAL if "signal_id" in one else RecordType.DEPLOYMENT_EVENT
            app.on_record(EU, kind, one)
        answers.append({name: found["probability"] for (_, name), found in context.standing().items()})

    assert answers[0] == answers[1]
    assert answers[0]["flag"] > 0.5


def test_state_is_forgotten(week: Company) -> None:
    app, context = app_of(week)
    play(
        app,
        context,
        sorted([*week.events, *week.signals], key=lambda known: known.at),
        {"eu-west-1": 1, "us-east-1": 2},
    )
    context.now = START + 200 * DAY
    for _ in range(20):
        app.on_tick(1, context.now)
        app.on_tick(2, context.now)

    left = {name: len(table) for name, table in context.tables.items()}
    assert left == {"deployments": 0, "elsewhere": 0, "signals": 0, "habits": 2}  # since when each partition is watched


def test_shuffled_deployments_end_in_the_same_answer(week: Company) -> None:
    events = [
        event(kind, NOON - minutes * MINUTE, deployment_id=name, service="service-05")
        for name, started, ended in (("a", 30, 25), ("b", 8, 4), ("c", 90, 70))
        for kind, minutes in (("started", started), ("succeeded", ended))
    ]
    answers = []
    for seed in range(4):
        app, context = app_of(week)
        shuffled = events[:]
        Random(seed).shuffle(shuffled)
        for one in shuffled[:3]:
            app.on_record(EU, RecordType.DEPLOYMENT_EVENT, one)
        app.on_record(EU, RecordType.SIGNAL, signal(service="service-05"))
        for one in shuffled[3:]:
            app.on_record(EU, RecordType.DEPLOYMENT_EVENT, one)
        answers.append({d: f["probability"] for (_, d), f in context.standing().items() if f["probability"]})

    assert all(answer == answers[0] for answer in answers)


@pytest.mark.requirement("M4.3")
@pytest.mark.parametrize("lines", ["inf", "1e400", "nan", "-5", "many", "\u0664"])
def test_whatever_a_tag_says_of_its_size_a_change_is_judged_like_any_other(week: Company, lines: str) -> None:
    app, context = app_of(week)
    app.on_record(EU, RecordType.DEPLOYMENT_EVENT, event("succeeded", NOON - MINUTE, service="service-05"))
    app.on_record(EU, RecordType.SIGNAL, signal(service="service-05"))
    usual = {name: found["probability"] for (_, name), found in context.standing().items()}
    app, context = app_of(week)
    tagged = event("succeeded", NOON - MINUTE, service="service-05", tags={"lines_changed": lines})
    app.on_record(EU, RecordType.DEPLOYMENT_EVENT, tagged)
    app.on_record(EU, RecordType.SIGNAL, signal(service="service-05"))

    assert {name: found["probability"] for (_, name), found in context.standing().items()} == usual


def test_no_tag_makes_a_change_outweigh_every_other(week: Company) -> None:
    app, context = app_of(week)
    for name, lines in (("boasts", "1e300"), ("large", "10000000")):
        tagged = event(
            "succeeded", NOON - MINUTE, deployment_id=name, service="service-05", tags={"lines_changed": lines}
        )
        app.on_record(EU, RecordType.DEPLOYMENT_EVENT, tagged)
    app.on_record(EU, RecordType.SIGNAL, signal(service="service-05"))
    found = {name: found["probability"] for (_, name), found in context.standing().items()}

    assert found["boasts"] == found["large"] < 0.5
