"""Did a rollback help?

In: a rollback that succeeded, what it undid, what was seen of the service, the policy, partition time. Out, once the
deadline has come: verified, failed or inconclusive, by three checks, each of which holds, does not, or cannot be told:

- digest: of each instance, what was last seen running is what was to run again;
- health: of each series of health checks, the last three are back in the band of the time before what was undone (see
  `health`);
- alert: what fired between the start of what was undone and the end of the rollback has resolved.

What was seen after the deadline does not count, however early it is known; what is known late of before it does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.ids import finding_id
from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding, voided, withdrawn
from deploytrail_processors.rules.health import Check, between, usual_health
from deploytrail_processors.rules.policies.rollback import RollbackVerification

RULE = "rollback_verification"
MINUTE = 60_000_000
Seen = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen at a rollback's place, each with `at` and `width` (µs). `running`: `type`, `instance`, `version`,
    `digest`; `health`: `series`, `healthy`, `value`; `alerts`: `key`, `firing`."""

    running: tuple[Seen, ...] = ()
    health: tuple[Seen, ...] = ()
    alerts: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What is to run again."""

    digest: str = ""
    version: str = ""

    def runs(self, seen: Seen) -> bool | None:
        """Whether it is what was seen; None where nothing can be compared."""
        for ours, theirs in ((self.digest, seen["digest"]), (self.version, seen["version"])):
            if ours and theirs:
                return bool(ours == theirs)
        return None


def is_rollback(content: Mapping[str, Any]) -> bool:
    """Whether a record is that of a rollback which has succeeded."""
    undoes = content["kind"] == "rollback" or bool(content["rollback_of"])
    return undoes and content["state"] == "succeeded" and content["finished_at"] is not None


def not_one(content: Mapping[str, Any], standing: Finding) -> Finding:
    """What takes back the verification of what turned out to be no rollback that succeeded."""
    if content["state"] == "voided":
        return voided(standing)
    return withdrawn(standing, Reason.NO_ROLLBACK_AFTER_ALL, "is no rollback that succeeded")


def due(content: Mapping[str, Any], policy: RollbackVerification) -> int:
    """When a rollback that succeeded is judged."""
    return int(content["finished_at"] + policy.deadline_minutes * MINUTE)


def target_of(rollback: Seen, undone: Seen | None, before: Seen | None) -> Target:
    """What is to run again: what the rollback says it deploys, else what ran before what it undid: as that one says,
    or by the last deployment that had succeeded."""
    if rollback["artifact_digest"] or rollback["version"]:
        same = before is not None and not rollback["artifact_digest"] and before["version"] == rollback["version"]
        digest = before["artifact_digest"] if same and before is not None else rollback["artifact_digest"]
        return Target(digest, rollback["version"])
    if undone is not None and undone["previous_version"]:
        return Target("", undone["previous_version"])
    return Target(before["artifact_digest"], before["version"]) if before is not None else Target()


def verify(
    rollback: Seen,
    undone: Seen | None,
    before: Seen | None,
    evidence: Evidence,
    policy: RollbackVerification,
    policy_key: str,
    *,
    now: int,
) -> Finding | None:
    """The verdict at partition time `now`; None before the deadline. `undone`: what the rollback undid, where it is
    known; `before`: the last deployment that had succeeded before that."""
    deadline = due(rollback, policy)
    if now < deadline:
        return None
    end = rollback["finished_at"] + (rollback["finished_at_uncertainty_ms"] or 0) * 1000
    broke = undone["started_at"] if undone is not None else None
    target = target_of(rollback, undone, before)
    checks = {
        "digest": _digest(target, between(evidence.running, end, deadline)),
        "health": usual_health(evidence.health, broke, policy.baseline_minutes, end, deadline),
        "alert": _alert(evidence.alerts, broke if broke is not None else rollback["started_at"], end, deadline),
    }
    required = [checks[name] for name in policy.required]
    failed = [check for check in required if check.holds is False]
    untold = [check for check in required if check.holds is None]
    decisive = (failed or untold or [Check(True, Reason.ROLLBACK_VERIFIED, "")])[0]
    verdict = "violation" if failed else "inconclusive" if untold else "ok"
    outcome = {"violation": "failed", "inconclusive": "inconclusive", "ok": "verified"}[verdict]
    assert decisive.reason is not None
    said = "; ".join(f"{name}: {check.words}" for name, check in checks.items())
    return finding(
        RULE,
        verdict,
        decisive.reason,
        subject=rollback["deployment_id"],
        place=dict(rollback),
        occurred_at=deadline,
        severity="error" if failed else "info",
        explanation=f"the rollback of {rollback['service']} is {outcome}: {said}",
        evidence={
            "outcome": outcome,
            "deadline": from_micros(deadline).isoformat(),
            "target": target.digest or target.version,
            "undone": rollback["rollback_of"],
            "required": ",".join(policy.required),
            **{name: check.words for name, check in checks.items()},
        },
        deployment_id=rollback["deployment_id"],
        policy_version=policy_key,
    )


def given_again(standing: Finding | None, found: Finding, times: int) -> Finding:
    """A verdict as it is written in place of another. One that was given before (`times` counts this one) gets an id
    of its own, or it would supersede what supersedes it."""
    if standing is None:
        return found
    if times > 1:
        again = str(times)
        found = found | {
            "finding_id": finding_id(RULE, found["finding_id"], again),
            "evidence": found["evidence"] | {"given_times": again},
        }
    return found | {"supersedes": standing["finding_id"]}


def _digest(target: Target, running: list[Seen]) -> Check:
    if not target.digest and not target.version:
        return Check(None, Reason.ROLLBACK_TARGET_UNKNOWN, "nobody said what is to run again")
    newest = {one["instance"]: one for one in running}
    verdicts = {instance: target.runs(one) for instance, one in sorted(newest.items()) if one["type"] == "running"}
    others = [instance or "the service" for instance, runs in verdicts.items() if runs is False]
    same = sum(runs is True for runs in verdicts.values())
    if others:
        return Check(False, Reason.OTHER_ARTIFACT_RUNS, f"{len(others)} of {len(verdicts)} run another: {others[0]}")
    if not same:
        return Check(None, Reason.NOT_SEEN_RUNNING, "nobody saw what runs")
    return Check(True, None, f"{same} of {len(verdicts)} seen run the target")


def _triggers(one: Seen, begin: int | None, end: int) -> bool:
    return bool(one["firing"] and (begin is None or one["at"] + one["width"] >= begin) and one["at"] <= end)


def _alert(alerts: tuple[Seen, ...], begin: int | None, end: int, deadline: int) -> Check:
    by_key: dict[str, list[Seen]] = defaultdict(list)
    for one in sorted(alerts, key=lambda one: (one["at"], not one["firing"], one["id"])):
        if one["at"] <= deadline:
            by_key[one["key"]].append(one)
    triggering = [seen for seen in by_key.values() if any(_triggers(one, begin, end) for one in seen)]
    firing = [seen for seen in triggering if seen[-1]["firing"]]
    if firing:
        return Check(False, Reason.ALERT_STILL_FIRES, f"{len(firing)} of {len(triggering)} still fire")
    return Check(True, None, f"{len(triggering)} resolved" if triggering else "none had fired")
