"""What differs between what stands on the topics and what a replay would write, by rule and deployment.

Compared are the newest revision of each deployment and the findings that none supersedes. The number of a revision and
when it was derived tell of the way there, and so does what a finding supersedes: they are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploytrail_processors.replay import Outputs, Value

ADDED, MISSING, CHANGED = "added", "missing", "changed"
_OF_THE_WAY = frozenset({"revision", "recorded_at", "supersedes", "finding_id"})
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the replay adds, misses or says otherwise. `fields`: name → what stands, what would be written."""

    what: str
    app: str
    rule: str  # of a finding; "record" for the record of a deployment
    partition: int
    subject: str  # the deployment or signal, else the service
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    value: Value = field(default_factory=dict)  # what is added or missing

    def __str__(self) -> str:
        if self.what == CHANGED:
            said = "; ".join(f"{name}: {_short(a)} → {_short(b)}" for name, (a, b) in self.fields.items())
        else:
            said = " ".join(str(self.value[name]) for name in ("state", "verdict", "reason") if self.value.get(name))
        return f"{self.what:<7}  {self.rule}  {self.subject}: {said}"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            **{name: getattr(self, name) for name in ("what", "app", "rule", "partition", "subject")},
            **({"fields": {name: list(pair) for name, pair in self.fields.items()}} if self.fields else {}),
            **({"value": self.value} if self.value else {}),
        }


def compare(app: str, partition: int, written: Outputs, replayed: Outputs) -> list[Difference]:
    """Every difference of an app's outputs on a partition, by rule and subject."""
    found = [
        _difference(app, "record", partition, name, written.records.get(name), replayed.records.get(name))
        for name in written.records.keys() | replayed.records.keys()
    ]
    for old, new in _pairs(written.standing(), replayed.standing()):
        some = old or new or {}
        found.append(_difference(app, some["rule"], partition, _subject(some), old, new))
    return sorted(filter(None, found), key=lambda one: (one.rule, one.subject, one.what, str(one)))


def _pairs(written: Mapping[str, Value], replayed: Mapping[str, Value]) -> Iterator[tuple[Value | None, Value | None]]:
    """The same finding on both sides; else two that say something of the same subject by the same rule."""
    left: dict[tuple[str, ...], tuple[list[Value], list[Value]]] = defaultdict(lambda: ([], []))
    for name in sorted(written.keys() | replayed.keys()):
        old, new = written.get(name), replayed.get(name)
        if old is not None and new is not None:
            yield old, new
        elif old is not None:
            left[_about(old)][0].append(old)
        elif new is not None:
            left[_about(new)][1].append(new)
    for olds, news in left.values():
        for index in range(max(len(olds), len(news))):
            yield (olds[index] if index < len(olds) else None, news[index] if index < len(news) else None)


def _about(found: Value) -> tuple[str, ...]:
    names = ("rule", "deployment_id", "signal_id", "region", "environment", "service")
    return tuple(str(found.get(name, "")) for name in names)


def _subject(found: Value) -> str:
    named = " ".join(found[name] for name in ("deployment_id", "signal_id") if found.get(name))
    return named or "/".join(str(found.get(name, "")) for name in ("region", "environment", "service"))


def _difference(
    app: str, rule: str, partition: int, subject: str, old: Value | None, new: Value | None
) -> Difference | None:
    if old is None or new is None:
        what = ADDED if old is None else MISSING
        return Difference(what, app, rule, partition, subject, value=old or new or {})
    names = [name for name in sorted(old.keys() | new.keys()) if name not in _OF_THE_WAY]
    fields = {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}
    return Difference(CHANGED, app, rule, partition, subject, fields) if fields else None


def _short(value: Any) -> str:
    text = repr(value) if value in (None, "") else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
