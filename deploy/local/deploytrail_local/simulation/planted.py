"""What is planted on purpose: each case that deploytrail must find, and some that it must not."""

from __future__ import annotations

from datetime import time

from deploytrail_local.simulation.plan import Plan, Planner, Step
from deploytrail_local.simulation.world import (
    FREEZE_START,
    HOUR,
    LOST_AFTER_MINUTES,
    MINUTE,
    REGIONS,
    SECOND,
    SLOW_BY,
    SLOW_PRODUCER,
    Region,
)

EU, US, AP = REGIONS.values()


def plant(planner: Planner) -> None:
    """Everything planted."""
    _windows(planner)
    _slow_clock(planner)
    _durations(planner)
    _failures(planner)
    _canaries(planner)
    _clear_alerts(planner)
    _unclear_alerts(planner)
    _running_at_the_close(planner)


def _windows(p: Planner) -> None:
    outside = [
        p.deploy("accounts", EU.name, EU.at(time(22, 37)), deployer="dmitri", justification="quick fix after dinner"),
        # Open in Berlin, closed in New York: only the right zone tells.
        p.deploy("search", US.name, US.at(time(5, 12)), deployer="liam"),
        p.deploy("payments", EU.name, p.opens_at + FREEZE_START.hour * HOUR + 25 * MINUTE, deployer="ines"),
    ]
    p.plant("outside_window", *outside)
    # New York opens at 11:00 UTC while it keeps daylight saving time, at 12:00 when it does not.
    p.deploy("edge-gateway", US.name, US.at(time(7, 20)))
    # The clock of this producer is known to a few seconds only: nobody can say on which side of the opening it was.
    p.plant("uncertain_window", p.deploy("shipping", EU.name, EU.window()[0] - 2 * SECOND, producer="gha-runner-eu-2"))


def _slow_clock(p: Planner) -> None:
    opens, closes = EU.window()
    # Before these its clock is learned from ordinary deployments of the early morning.
    for hour, minute in ((2, 10), (3, 40), (5, 5), (6, 30)):
        p.deploy("reporting", EU.name, EU.at(time(hour, minute)), environment="staging", producer=SLOW_PRODUCER)
    looks_outside = p.deploy("inventory", EU.name, opens + 3 * MINUTE, producer=SLOW_PRODUCER)
    looks_inside = p.deploy("pricing", EU.name, closes + 4 * MINUTE, producer=SLOW_PRODUCER, deployer="femi")
    assert looks_outside.started_at - SLOW_BY < opens < closes < looks_inside.started_at < closes + SLOW_BY
    p.plant("looks_outside", looks_outside)
    p.plant("looks_inside", looks_inside)
    p.plant("outside_window", looks_inside)


def _durations(p: Planner) -> None:
    overdue = p.deploy("search", EU.name, EU.at(time(13, 5)), minutes=3.2 * 35)
    lost = p.deploy("recommendations", US.name, US.at(time(9, 20)), outcome="lost", deployer="kavya")
    lost_at = lost.started_at + LOST_AFTER_MINUTES * MINUTE
    assert lost_at + HOUR < p.closes_at
    # Nothing takes its place until it is lost. What does so later does not find it again.
    p.reserve(US.name, frozenset({"recommendations"}), lost.started_at, lost_at)
    p.deploy("recommendations", US.name, lost_at + 40 * MINUTE)
    # Nobody tells of its end either, but a newer one succeeds while it is not lost yet.
    hangs = p.deploy("reporting", US.name, US.at(time(12, 0)), outcome="superseded", deployer="jonas")
    p.supersede(hangs, p.deploy("reporting", US.name, US.at(time(14, 10)), minutes=20))
    p.plant("overdue", overdue, lost, hangs)
    # Ended in time, but its end came an hour late: first overdue, then taken back.
    p.plant("overdue_taken_back", p.deploy("catalogue", AP.name, AP.at(time(11, 15)), minutes=7, end_late=HOUR))


def _failures(p: Planner) -> None:
    failed = p.deploy("shipping", EU.name, EU.at(time(15, 20)), minutes=6, outcome="failed")
    p.undo(failed, failed.started_at + 10 * MINUTE, 3)
    p.deploy("reporting", AP.name, AP.at(time(13, 10)), outcome="failed")
    p.deploy("notifications", US.name, US.at(time(16, 45)), environment="staging", outcome="failed")
    p.deploy("accounts", US.name, US.at(time(11, 50)), outcome="cancelled")


def _canaries(p: Planner) -> None:
    good = [
        _canary(p, "storefront", EU, EU.at(time(9, 40))),
        _canary(p, "edge-gateway", AP, AP.at(time(10, 20))),
        _canary(p, "checkout", US, US.at(time(13, 30))),
    ]
    bad = _canary(p, "recommendations", AP, AP.at(time(15, 10)), fails=True)
    p.plant("canaries", *good, bad)
    for service, region, at in (
        ("edge-gateway", EU, EU.at(time(11, 10))),
        ("accounts", US, US.at(time(14, 25))),
        ("search", AP, AP.at(time(9, 35))),
    ):
        _canary_of_children(p, service, region, at)


def _canary(p: Planner, service: str, region: Region, at: int, *, fails: bool = False) -> Plan:
    """Its cohorts report under its own id; the whole never says how it ended."""
    first = at + 4 * MINUTE
    steps = [
        Step("started", at),
        Step("started", at + 5 * SECOND, "canary", 0.1),
        Step("failed" if fails else "succeeded", first, "canary", 0.1, more={"exit_code": 2 if fails else 0}),
    ]
    if not fails:
        steps += [
            Step("started", first + 30 * SECOND, "fleet", 0.9),
            Step("progressed", first + 3 * MINUTE, "fleet", 0.9),
            Step("succeeded", first + 7 * MINUTE, "fleet", 0.9, more={"exit_code": 0}),
        ]
    minutes = (steps[-1].at - at) / MINUTE
    outcome = "failed" if fails else "succeeded"
    return p.deploy(service, region.name, at, minutes=minutes, outcome=outcome, steps=tuple(steps), strategy="canary")


def _canary_of_children(p: Planner, service: str, region: Region, at: int) -> None:
    """Each cohort is a deployment of its own that names its parent."""
    parent = p.deploy(service, region.name, at, minutes=14, strategy="canary", producer=_argo(region))
    shared = {"parent_deployment_id": parent.id, "strategy": "canary", "version": parent.facts["version"]}
    children = []
    for cohort, weight, since, minutes in (("canary", 0.05, 10 * SECOND, 4.0), ("fleet", 0.95, 5 * MINUTE, 8.5)):
        start = at + since
        end = start + int(minutes * MINUTE)
        steps = (Step("started", start, cohort, weight), Step("succeeded", end, cohort, weight))
        children.append(
            p.deploy(service, region.name, start, minutes=minutes, steps=steps, producer=parent.producer, **shared)
        )
    p.plant("canaries", parent, *children)


def _argo(region: Region) -> str:
    return {"eu-west-1": "gha-runner-eu-1", "us-east-1": "argocd-us-1", "ap-southeast-1": "argocd-ap-1"}[region.name]


def _clear_alerts(p: Planner) -> None:
    """Nothing else that is related changed near these: time alone gives the answer."""
    for service, region, local, after in (
        ("storefront", EU, time(16, 10), 2.0),
        ("payments", EU, time(11, 40), 1.5),
        ("checkout", US, time(10, 5), 3.0),
        ("catalogue", US, time(15, 15), 4.0),
        ("accounts", AP, time(12, 30), 2.5),
        ("shipping", AP, time(16, 20), 1.0),
    ):
        guilty = p.deploy(service, region.name, region.at(local), minutes=6)
        assert guilty.finished_at is not None
        p.alert(service, region.name, guilty.finished_at + int(after * MINUTE), guilty.id)
    # The alert comes while the deployment still runs.
    slow_rollout = p.deploy("ledger", US.name, US.at(time(12, 40)), minutes=22)
    p.alert("ledger", US.name, slow_rollout.started_at + 9 * MINUTE, slow_rollout.id)
    # Its dependency was changed, not the service itself.
    dependency = p.deploy("inventory", US.name, US.at(time(17, 30)), minutes=5)
    assert dependency.finished_at is not None
    p.alert("shipping", US.name, dependency.finished_at + 2 * MINUTE, dependency.id)
    # It was rolled back because of the alert.
    regretted = p.deploy("inventory", EU.name, EU.at(time(17, 5)), minutes=7)
    assert regretted.finished_at is not None
    p.alert("inventory", EU.name, regretted.finished_at + 2 * MINUTE, regretted.id)
    p.undo(regretted, regretted.finished_at + 8 * MINUTE, 3)
    for service, region, local in (
        ("notifications", EU, time(4, 50)),
        ("search", US, time(19, 25)),
        ("pricing", AP, time(14, 5)),
        ("reporting", EU, time(10, 35)),
        ("edge-gateway", US, time(18, 40)),
    ):
        p.alert(service, region.name, region.at(local), "")


def _unclear_alerts(p: Planner) -> None:
    """Time alone cannot tell these; they are counted, not demanded."""
    guilty = p.deploy("storefront", AP.name, AP.at(time(17, 0)), minutes=6)
    assert guilty.finished_at is not None
    rival = p.deploy("catalogue", AP.name, guilty.started_at + MINUTE, minutes=6)
    p.alert("storefront", AP.name, guilty.finished_at + 3 * MINUTE, guilty.id, clear=False)
    assert rival.finished_at is not None
    # A bystander: the deployment just before it did nothing wrong.
    bystander = p.deploy("notifications", US.name, US.at(time(9, 50)), minutes=4)
    assert bystander.finished_at is not None
    p.alert("notifications", US.name, bystander.finished_at + 6 * MINUTE, "", clear=False)


def _running_at_the_close(p: Planner) -> None:
    for service, minutes_ago in (("search", 6), ("accounts", 11), ("reporting", 17)):
        p.deploy(service, AP.name, p.closes_at - minutes_ago * MINUTE, environment="staging", outcome="running")
    p.deploy("checkout", US.name, p.closes_at - 4 * MINUTE, environment="staging", outcome="running")
    p.deploy("pricing", EU.name, p.closes_at - 9 * MINUTE, environment="staging", outcome="running")
