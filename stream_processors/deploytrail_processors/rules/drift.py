"""Does what runs agree with what is declared? "Git says N+1, the cluster runs N."

In: what instances run now, what is declared (in version control, else by the platform, else by the deployment in
force), the deployments of the place, partition time. Out: for each cluster how it differs, once it has for longer than
the grace and nothing is being deployed; one finding for the place, cleared when they agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.artefacts import Artefact, any_is_same, artefact_of
from deploytrail_processors.rules.deployed import Deployed, in_force, is_under_way
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies.reconciliation import Reconciliation
from deploytrail_processors.rules.sightings import MINUTE, Sighting

RULE = "drift"
_MOST_NAMED = 5
# The one that says most comes first.
_ORDER = (
    Reason.EARLIER_VERSION_RUNS_AGAIN,
    Reason.RUNS_UNDECLARED,
    Reason.DECLARED_BUT_NOT_RUNNING,
    Reason.ROLLOUT_STUCK,
)


@dataclass(frozen=True, slots=True)
class Declared:
    """That something is to run: in one cluster, or (empty) wherever the service is. `known`: when that could be known
    at the earliest, its uncertainty and its way to us counted in."""

    artefact: Artefact
    cluster: str
    source: str
    at: int
    known: int

    @property
    def of_version_control(self) -> bool:
        """Whether it stands above what a platform says of itself: it names a commit, or no cluster."""
        return bool(self.artefact.commit) or not self.cluster


@dataclass(frozen=True, slots=True)
class Differs:
    """How a cluster differs from what is declared, since when, and from when on that is said."""

    cluster: str
    reason: Reason
    declared: Declared
    since: int
    due: int
    instances: tuple[Sighting, ...]
    of: int


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs, what will once its time has come, and whether a deployment under way leaves it open."""

    differs: tuple[Differs, ...] = ()
    waits: tuple[Differs, ...] = ()
    held: bool = False

    @property
    def next_due(self) -> int | None:
        """When what waits is to be looked at again."""
        return min((one.due for one in self.waits), default=None)


def declared_in(observation: Mapping[str, Any], heard: int) -> Declared | None:
    """What an observation declares; None where it does not say what is to run."""
    artefact = artefact_of(observation)
    if not artefact:
        return None
    at, width = observation["corrected_at"], (observation["uncertainty_ms"] or 0) * 1000
    return Declared(artefact, observation["cluster"], observation["source"], at, max(at + width, heard))


def to_row(one: Declared) -> list[Any]:
    """Plain JSON."""
    artefact = [one.artefact.digest, one.artefact.version, one.artefact.commit]
    return [artefact, one.cluster, one.source, one.at, one.known]


def from_row(row: Sequence[Any]) -> Declared:
    """The declaration of `to_row`."""
    artefact, cluster, source, at, known = row
    return Declared(Artefact(*artefact), cluster, source, at, known)


def compare(
    sightings: Iterable[Sighting],
    declared: Sequence[Declared],
    deployments: Sequence[Deployed],
    policy: Reconciliation,
    *,
    now: int,
) -> Compared:
    """How what runs at `now` differs from what is declared, by cluster. Equal for every order."""
    running: dict[str, list[Sighting]] = {}
    for one in sightings:
        if one.until is None and one.at <= now:
            running.setdefault(one.cluster, []).append(one)
    grace = int(policy.grace_minutes * MINUTE)
    ended = max((one.until for one in deployments if one.until is not None and one.until <= now), default=0)
    differing = []
    for cluster, instances in sorted(running.items()):
        found = _differs(cluster, instances, _intended(cluster, declared, deployments, now), deployments, ended, grace)
        differing += [found] if found is not None else []
    if is_under_way(deployments, now):
        return Compared(held=bool(differing))
    return Compared(tuple(one for one in differing if one.due <= now), tuple(one for one in differing if one.due > now))


def _intended(cluster: str, declared: Sequence[Declared], deployments: Sequence[Deployed], now: int) -> list[Declared]:
    """What is to run in a cluster, by whoever has most to say about it."""
    here = [one for one in declared if one.cluster in ("", cluster)]
    chosen = [one for one in here if one.of_version_control] or here
    if chosen:
        return chosen
    current = in_force(deployments, now)
    if current is None or not current.artefact:
        return []
    at = current.ends()
    return [Declared(current.artefact, cluster, f"deployment {current.id}", at, at)]


def _differs(
    cluster: str,
    instances: list[Sighting],
    intended: list[Declared],
    deployments: Sequence[Deployed],
    ended: int,
    grace: int,
) -> Differs | None:
    verdicts = [(any_is_same(one.artefacts, [d.artefact for d in intended]), one) for one in instances]
    others = sorted((one for verdict, one in verdicts if verdict is False), key=lambda one: (one.at, one.id))
    if not intended or not others:
        return None
    newest = max(intended, key=lambda one: (one.at, one.source, one.artefact))
    # What began to run although something else had been declared came by another hand.
    later = [one for one in others if one.at - one.width > newest.at]
    if later:
        former = [d.artefact for d in deployments if d.since <= newest.at]
        known = any(any_is_same(one.artefacts, former) for one in later)
        reason = Reason.EARLIER_VERSION_RUNS_AGAIN if known else Reason.RUNS_UNDECLARED
        since = later[0].at
    else:
        agree = any(verdict for verdict, _ in verdicts)
        reason = Reason.ROLLOUT_STUCK if agree else Reason.DECLARED_BUT_NOT_RUNNING
        since = newest.at
    due = max(newest.known, ended, since, min(one.known for one in others)) + grace
    return Differs(cluster, reason, newest, since, due, tuple(others), len(instances))


def find_drift(
    compared: Compared,
    place: Mapping[str, str],
    standing: Finding | None,
    in_force_id: str,
    policy_key: str,
    *,
    now: int,
) -> Finding | None:
    """The finding for a place; None where there is nothing to say, or what stands is to stay.

    While a deployment runs, or what differs has not done so for long enough, what stands is neither said nor cleared.
    """
    open_one = standing is not None and standing["verdict"] == "violation"
    # A chain of answers is about one deployment: the one in force when it began.
    subject = standing["deployment_id"] if open_one and standing is not None else in_force_id
    if not compared.differs:
        if not open_one or compared.held or compared.waits:
            return None
        words = f"{place['service']} runs as declared again, or runs no more"
        return _finding(place, "ok", Reason.RUNS_AS_DECLARED, words, now, {}, subject, policy_key)
    worst = min(compared.differs, key=lambda one: (_ORDER.index(one.reason), one.cluster))
    named = compared.differs[:_MOST_NAMED]
    evidence = {
        "declared": worst.declared.artefact.name,
        "declared_by": worst.declared.source,
        "declared_at": from_micros(worst.declared.at).isoformat(),
        "commit": worst.declared.artefact.commit,
        "runs": _runs(worst),
        "since": from_micros(worst.since).isoformat(),
        "clusters": "; ".join(f"{one.cluster or 'the service'}: {one.reason.value}, {_runs(one)}" for one in named),
        "differing_clusters": str(len(compared.differs)),
    }
    more = len(compared.differs) - 1
    words = _says(worst, place) + (f"; {more} more cluster{'s differ' if more > 1 else ' differs'}" if more else "")
    kept = {name: text for name, text in evidence.items() if text}
    return _finding(place, "violation", worst.reason, words, worst.since, kept, subject, policy_key)


def _says(one: Differs, place: Mapping[str, str]) -> str:
    declared = f"{one.declared.source or 'somebody'} says {one.declared.artefact.name}"
    where = f"{place['service']} in {one.cluster}" if one.cluster else place["service"]
    instances = [sighting.instance for sighting in one.instances if sighting.instance][:_MOST_NAMED]
    words = f"{declared}, {where} runs {_runs(one)} on {len(one.instances)} of {one.of}"
    words += f" ({', '.join(instances)})" if instances else ""
    return f"{words}: {_WORDS[one.reason]}"


_WORDS = {
    Reason.EARLIER_VERSION_RUNS_AGAIN: "somebody went back by hand, what is declared was not changed",
    Reason.RUNS_UNDECLARED: "it began to run although nobody declares it",
    Reason.DECLARED_BUT_NOT_RUNNING: "what is declared never came to run there",
    Reason.ROLLOUT_STUCK: "the rollout is stuck halfway",
}


def _runs(one: Differs) -> str:
    names = Counter(sighting.artefact.name for sighting in one.instances)
    return ", ".join(sorted(names)[:_MOST_NAMED])


def _finding(
    place: Mapping[str, str],
    verdict: str,
    reason: Reason,
    words: str,
    at: int,
    evidence: dict[str, str],
    deployment_id: str,
    policy_key: str,
) -> Finding:
    return finding(
        RULE,
        verdict,
        reason,
        subject=joined(*(place[name] for name in ("region", "environment", "service"))),
        place=dict(place),
        occurred_at=at,
        severity="warning" if verdict == "violation" else "info",
        explanation=words,
        evidence=evidence,
        deployment_id=deployment_id,
        policy_version=policy_key,
    )
