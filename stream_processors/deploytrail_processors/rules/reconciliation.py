"""What runs without any deployment that explains it?

In: what instances of a service ran, the deployments of its place, what was inferred before. Out: episodes, each the
first instance of something that no deployment explains and all that followed it; of those that waited for late
reports in vain, a deployment that is inferred; of what was inferred and is explained after all, that it is void.

An instance is explained by a deployment that may have put it there when it began (`deployed.allowed`), by bearing the
id of one, or by carrying on: in its cluster the same already ran. What cannot be compared explains it, too.

How sure an inferred deployment is, is a product that begins at 0.9, the confidence of what is seen and not reported:
x 0.5 where nothing was known of the place before, x 0.8 where one instance alone was seen, x 0.8 where several
containers leave open which is the service's, x 0.9 without a digest, x 0.9 where nobody declares the artefact.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.artefacts import Artefact, any_is_same
from deploytrail_processors.rules.deployed import FOREVER, Deployed, Timeline, in_force
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.policies.reconciliation import Reconciliation
from deploytrail_processors.rules.sightings import MINUTE, Sighting

RULE = "unreported_deployment"
SOURCE = "reconciliation"
SEEN_NOT_REPORTED = 0.9
_MOST_NAMED = 5
Place = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Episode:
    """Something ran that no deployment explains: who was seen, and what had been in force. `baseline`: nothing was
    known of the place before. `again`: an earlier deployment of the same."""

    seen: tuple[Sighting, ...]
    before: Deployed | None
    again: Deployed | None
    baseline: bool

    @property
    def first(self) -> Sighting:
        """Who was seen first."""
        return self.seen[0]

    def due(self, policy: Reconciliation) -> int:
        """When late reports have been awaited for long enough."""
        return self.first.known + int(policy.grace_minutes * MINUTE)

    def as_deployed(self) -> Deployed:
        """As a deployment in force from the first sighting on."""
        at = self.first.at
        return Deployed(self.first.id, self.first.artefact, "succeeded", at, at, FOREVER, inferred=True)


@dataclass(frozen=True, slots=True)
class Explained:
    """Of each sighting that is explained, by which deployment (empty: it carries on); and the episodes."""

    by: Mapping[str, str] = field(default_factory=dict)
    episodes: tuple[Episode, ...] = ()


def explain(
    sightings: Iterable[Sighting],
    deployments: Sequence[Deployed],
    policy: Reconciliation,
    *,
    settled: int = 0,
    forgotten: int = 0,
    always: Container[str] = (),
) -> Explained:
    """What explains each sighting. Equal for every order.

    Taken as explained is what was known by `settled`, long ago, but for the ids of `always`; and what began by
    `forgotten`, since deployments of that time are no longer remembered.
    """
    settle = int(policy.settle_minutes * MINUTE)
    by: dict[str, str] = {}
    episodes: list[Episode] = []
    alive: dict[tuple[str, Artefact], int] = {}  # until when something explained ran, by cluster
    known = Timeline(deployments, settle)
    for one in sorted(set(sightings), key=lambda one: (one.at, one.id)):
        old = one.known <= settled and one.id not in always
        why = "" if old or one.at <= forgotten else _explanation(one, known)
        index = next((i for i, e in enumerate(episodes) if e.first.id == why), None)
        if index is not None:
            episodes[index] = replace(episodes[index], seen=(*episodes[index].seen, one))
            continue
        if why is None and _carries_on(one, alive, settle):
            why = ""
        if why is None:
            episodes.append(_episode(one, known.deployments, bool(by)))
            known = Timeline([*deployments, *(episode.as_deployed() for episode in episodes)], settle)
            continue
        by[one.id] = why
        for artefact in one.artefacts:
            key = (one.cluster, artefact)
            alive[key] = max(alive.get(key, 0), one.until if one.until is not None else FOREVER)
    return Explained(by, tuple(episodes))


def _explanation(one: Sighting, known: Timeline) -> str | None:
    """The deployment that explains a sighting; None where none does."""
    earliest, latest = one.at - one.width, one.at + one.width
    if one.deployment and any(d.id == one.deployment and d.earliest <= latest for d in known.deployments):
        return one.deployment
    verdicts = [(any_is_same(one.artefacts, [d.artefact]), d) for d in known.allowed(earliest, latest)]
    same = [d.id for verdict, d in verdicts if verdict]
    # What was reported explains it before what was inferred, the later one before the earlier.
    reported = [d.id for verdict, d in verdicts if verdict and not d.inferred]
    untold = [d.id for verdict, d in verdicts if verdict is None]
    return next(iter([*reversed(reported), *reversed(same), *reversed(untold)]), None)


def _carries_on(one: Sighting, alive: Mapping[tuple[str, Artefact], int], settle: int) -> bool:
    return any(
        cluster == one.cluster and until + settle >= one.at - one.width and any_is_same(one.artefacts, [artefact])
        for (cluster, artefact), until in alive.items()
    )


def _episode(first: Sighting, known: Sequence[Deployed], seen_before: bool) -> Episode:
    before = in_force(known, first.at)
    earlier = [d for d in known if d.succeeded and d.ends() <= first.at and any_is_same(first.artefacts, [d.artefact])]
    again = max(earlier, key=lambda d: (d.ends(), d.id), default=None)
    baseline = not seen_before and not any(d.earliest <= first.at for d in known)
    return Episode((first,), before, again, baseline)


def confidence_of(episode: Episode, declared: Iterable[Artefact]) -> tuple[float, list[str]]:
    """How sure it is that the episode was a deployment, and why not surer."""
    first, sure, why = episode.first, SEEN_NOT_REPORTED, []
    for factor, applies, words in (
        (0.5, episode.baseline, "nothing was known of the place before"),
        (0.8, len({(s.cluster, s.instance) for s in episode.seen}) < 2, "one instance alone was seen"),
        (0.8, len(first.artefacts) > 1, "several containers leave open which is the service's"),
        (0.9, not first.artefact.digest, "no digest was seen"),
        (0.9, not any_is_same(first.artefacts, declared), "nobody declares it"),
    ):
        if applies:
            sure *= factor
            why.append(f"{words} (x {factor:g})")
    return round(sure, 3), why


def inferred(
    episode: Episode, place: Place, declared: Iterable[Artefact], number: int, running: Iterable[Sighting], *, now: int
) -> list[dict[str, Any]]:
    """The events of the deployment that is inferred for an episode: its end, and its start where somebody knew what
    ran before. `number`: the how-manieth one that is inferred for this sighting; `running`: all that was seen."""
    first = episode.first
    deployment_id = name_based_id(SOURCE, *_where(place), first.id, str(number))
    sure, why = confidence_of(episode, declared)
    before = episode.before
    tags = {
        "because": "it runs, and no deployment explains it",
        "confidence": f"{SEEN_NOT_REPORTED:g}, {', '.join(why)}" if why else f"{SEEN_NOT_REPORTED:g}",
        "clusters": ", ".join(sorted({s.cluster for s in episode.seen if s.cluster})[:_MOST_NAMED]),
        "observations": ", ".join(s.id for s in episode.seen[:_MOST_NAMED]),
        "seen_by": first.source,
    }
    undone = before if episode.again is not None else None
    if undone is not None and any(s.until is None and any_is_same(s.artefacts, [undone.artefact]) for s in running):
        undone = None  # somewhere it still runs
    said = {
        "deployment_id": deployment_id,
        "occurred_at": first.at,
        **place,
        "producer_id": SOURCE,
        "source": SOURCE,
        "kind": "unknown" if episode.baseline else "rollback" if episode.again is not None else "release",
        "version": first.artefact.version,
        "artifact_digest": first.artefact.digest,
        "commit_sha": first.artefact.commit,
        "rollback_of": undone.id if undone is not None else "",
        "previous_version": before.artefact.version if before is not None else "",
        "provenance": "inferred",
        "confidence": sure,
        "received_at": now,
        "corrected_at": first.at,
        "uncertainty_ms": -(-first.width // 1000),
        "tags": {name: text for name, text in tags.items() if text},
    }
    # Of a place that nobody knew before, nobody knows when it began either.
    words = ("succeeded",) if episode.baseline else ("started", "succeeded")
    return [said | {"event_id": name_based_id(SOURCE, deployment_id, word), "event_type": word} for word in words]


def voided(last: Mapping[str, Any], by: str, *, now: int) -> dict[str, Any]:
    """The event that takes an inferred deployment back. `last`: one of its events; `by`: the deployment that explains
    what was seen; empty: it is no deployment of its own."""
    return {
        **last,
        "event_id": name_based_id(SOURCE, last["deployment_id"], "voided"),
        "event_type": "voided",
        "occurred_at": now,
        "corrected_at": now,
        "received_at": now,
        "uncertainty_ms": 0,
        "tags": {"because": "what was reported late explains it", "superseded_by": by}
        if by
        else {"because": "what was seen late shows that it is no deployment of its own"},
    }


def find_unreported(episode: Episode, event: Mapping[str, Any]) -> Finding:
    """The finding that something runs which nobody reported."""
    first, what = episode.first, f"{event['service']} {episode.first.artefact.name}"
    before = episode.before.artefact.name if episode.before is not None else ""
    words = f"{what} runs{f' in {first.cluster}' if first.cluster else ''} since {_time(first.at)}, "
    words += "and no deployment explains it: it is recorded as inferred"
    if episode.again is not None:
        words += f"; it ran before, {before or 'another'} was deployed since: somebody went back by hand"
    return _finding(event, "violation", Reason.RUNS_WITHOUT_DEPLOYMENT, words, first.at, {
        "artefact": first.artefact.digest or first.artefact.name, "before": before, "cluster": first.cluster,
        "instance": first.instance, "confidence": f"{event['confidence']:g}", "why": event["tags"]["confidence"],
    })  # fmt: skip


def find_explained(event: Mapping[str, Any], by: str) -> Finding:
    """The finding that takes it back."""
    what = f"{event['service']} {event['version'] or event['artifact_digest'][:19]}"
    if by:
        words = f"{what} was deployed by {by}, which was reported late"
        return _finding(event, "ok", Reason.EXPLAINED_BY_LATE_REPORT, words, event["occurred_at"], {"explained_by": by})
    words = f"{what} is no deployment of its own: what came late shows that it ran already"
    return _finding(event, "ok", Reason.NOT_SEEN_AFTER_ALL, words, event["occurred_at"], {})


def _finding(
    event: Mapping[str, Any], verdict: str, reason: Reason, words: str, at: int, evidence: dict[str, str]
) -> Finding:
    return finding(
        RULE,
        verdict,
        reason,
        subject=event["deployment_id"],
        place=dict(event),
        occurred_at=at,
        severity="warning" if verdict == "violation" else "info",
        explanation=words,
        evidence={name: text for name, text in evidence.items() if text},
        deployment_id=event["deployment_id"],
    )


def _where(place: Place) -> tuple[str, ...]:
    return tuple(place[name] for name in ("region", "environment", "service"))


def _time(at: int) -> str:
    return from_micros(at).strftime("%Y-%m-%d %H:%M:%S UTC")
