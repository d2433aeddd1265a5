"""A verdict as the Finding record that is written of it.

Two ways lead from an answer to the next one about the same subject, `in_place_of` and `next_link`. They promise the
same, that an answer which comes back has an id of its own, and give other ids: one by what is superseded, the other by
how many there were. Both stay, since apps write on behind findings that stand on the topic: one that changed from the
one to the other would rebuild ids that nobody has, and what stands would be superseded by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.ids import finding_id
from deploytrail_schemas.reasons import Reason

Finding = dict[str, Any]


def finding(
    rule: str,
    verdict: str,
    reason: Reason,
    *,
    subject: str,
    place: dict[str, Any],
    occurred_at: int,
    severity: str,
    explanation: str,
    evidence: dict[str, str],
    **more: Any,
) -> Finding:
    """A Finding value. Its id follows from rule, subject, verdict, reason and evidence, so that the
    same judgement always has the same id. `place` has `region`, `environment` and `service`."""
    value: Finding = {
        "rule": rule,
        "verdict": verdict,
        "reason": reason.value,
        "severity": severity,
        "occurred_at": occurred_at,
        "region": place["region"],
        "environment": place["environment"],
        "service": place["service"],
        "explanation": explanation,
        "evidence": evidence,
        **more,
    }
    cited = [f"{key}={evidence[key]}" for key in sorted(evidence)]
    value["finding_id"] = finding_id(rule, subject, verdict, reason.value, *cited, repr(more.get("probability")))
    return value


def in_place_of(standing: Finding | None, found: Finding) -> Finding:
    """A finding as it is written in place of the one that stands; that one itself where it says the same.

    Its id follows from what it supersedes as well: an answer that comes back (a place that is amended and amended
    back) would else supersede what supersedes it, and nothing would stand."""
    if standing is None:
        return found
    before = standing.get("supersedes") or ""
    if standing["finding_id"] in (found["finding_id"], _behind(found, before)):
        return standing
    return found | {
        "finding_id": _behind(found, standing["finding_id"]),
        "supersedes": standing["finding_id"],
    }


def _behind(found: Finding, before: str) -> str:
    return finding_id(found["rule"], found["finding_id"], "behind", before)


Link = dict[str, Any]


def next_link(link: Mapping[str, Any] | None, found: Finding) -> Link:
    """The chain of answers about one subject with one more: `said` is what it says, `count` the how-manieth it is,
    `finding` what is written. The same link where it says the same. An answer that comes back has an id of its own,
    or it would supersede what supersedes it."""
    if link is None:
        return {"said": found["finding_id"], "count": 1, "finding": found}
    if link["said"] == found["finding_id"]:
        return dict(link)
    count, said = link["count"] + 1, found["finding_id"]
    behind = {
        "finding_id": finding_id(found["rule"], said, str(count)),
        "evidence": found["evidence"] | {"answer": str(count)},
        "supersedes": link["finding"]["finding_id"],
    }
    return {"said": said, "count": count, "finding": found | behind}


def taken_back(standing: Mapping[str, Any], known_as: str, times: int) -> Finding:
    """What supersedes a finding about a deployment that turned out to be another name of one: the rule has answered,
    or will, under the name that stands for it. `times`: how often it stood for itself again before."""
    found = finding(
        standing["rule"],
        "ok",
        Reason.SAME_DEPLOYMENT,
        subject=standing["deployment_id"],
        place=dict(standing),
        occurred_at=standing["occurred_at"],
        severity="info",
        explanation=f"{standing['deployment_id']} is another name of the deployment {known_as}, which is judged once",
        evidence={"deployment_id": known_as, "finding_id": standing["finding_id"], "times": str(times)},
        deployment_id=standing["deployment_id"],
    )
    return found | {"supersedes": standing["finding_id"]}


def voided(standing: Mapping[str, Any]) -> Finding:
    """What supersedes a finding about a deployment that turned out to be none."""
    return withdrawn(standing, Reason.DEPLOYMENT_VOIDED, "was voided")


def withdrawn(standing: Mapping[str, Any], reason: Reason, why: str) -> Finding:
    """What supersedes a finding about a deployment that turned out to be none to judge. `why`: words behind its id."""
    return finding(
        standing["rule"],
        "ok",
        reason,
        subject=standing["deployment_id"],
        place=dict(standing),
        occurred_at=standing["occurred_at"],
        severity="info",
        explanation=f"the deployment {standing['deployment_id']} {why}: there is nothing to judge",
        evidence={},
        deployment_id=standing["deployment_id"],
        policy_version=standing["policy_version"],
    )


def anew(found: Finding, before: Mapping[str, Any] | None, times: int) -> Finding:
    """A finding about an id that stands for itself again: with an id of its own, or what took it back would supersede
    it. `before`: what took it back."""
    if not times:
        return found
    again = {"finding_id": finding_id(found["rule"], found["finding_id"], "again", str(times))}
    return found | again | ({"supersedes": before["finding_id"]} if before and not found.get("supersedes") else {})


def renamed(standing: Mapping[str, Any], gone: Mapping[str, Any], known_as: str) -> Finding:
    """A finding told of the id that stands for the one that it was about, behind what took that back (`gone`)."""
    return {
        **standing,
        "deployment_id": known_as,
        "finding_id": finding_id(standing["rule"], standing["finding_id"], known_as, gone["finding_id"]),
        "evidence": standing["evidence"] | {"deployment_id": known_as},
        "supersedes": gone["finding_id"],
    }
