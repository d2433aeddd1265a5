"""Policy documents: read, checked, and looked up as they were on a day.

In: documents as plain JSON values. Out: typed policies, or every problem at once. A document that
is invalid is kept as such: the rule that needs it fails closed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr
from deploytrail_schemas.instants import parse_instant

KINDS = ("service", "environment", "region", "change_window", "thresholds", "intake")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SCOPE_FIELDS = ("services", "teams", "environments", "regions", "tiers", "kinds")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (dotted path) and what was expected."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}" if self.path else self.detail


@dataclass(frozen=True, slots=True)
class Scope:
    """What a policy applies to; an empty list means all."""

    services: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def covers(self, subject: Mapping[str, str]) -> bool:
        """Whether it applies to a subject with `service`, `team`, `environment`, `region`, `tier`, `kind`."""
        return all(
            not allowed or subject.get(name.removesuffix("s"), "") in allowed
            for name, allowed in ((name, getattr(self, name)) for name in SCOPE_FIELDS)
        )


@dataclass(frozen=True, slots=True)
class Service:
    """A service: who owns it, what it depends on, how long its deployments take."""

    team: str = ""
    tier: str = ""
    aliases: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    expected_duration_minutes: float | None = None
    regimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """Other names of an environment or a region."""

    aliases: tuple[str, ...] = ()
    production: bool = False


@dataclass(frozen=True, slots=True)
class ChangeWindow:
    """A recurrence (RFC 5545) of local starts in an IANA zone, each lasting `duration`."""

    allow: bool
    zone: ZoneInfo
    start: datetime  # naive: local time in `zone`
    duration: timedelta
    rule: rrule
    scope: Scope


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of the rules, in minutes."""

    lost_after_minutes: float = 24 * 60
    overdue_after_minutes: float = 60
    correlation_window_minutes: float = 15


@dataclass(frozen=True, slots=True)
class Intake:
    """Whether records that nobody signed are accepted from Kafka, in some services, environments and regions."""

    accept_unsigned: bool
    scope: Scope


Spec = Service | Alias | ChangeWindow | Thresholds | Intake


@dataclass(frozen=True, slots=True)
class Document:
    """One version of one policy. `spec` None: invalid, for the `problems`."""

    kind: str
    name: str
    version: int
    effective_from: int
    spec: Spec | None
    problems: tuple[Problem, ...] = ()
    scope: Scope = field(default_factory=Scope)
    text: str = ""  # the spec as canonical JSON, by which versions compare

    @property
    def key(self) -> str:
        """kind/name/version, as findings cite it."""
        return f"{self.kind}/{self.name}/{self.version}"


def read_document(value: object) -> Document:
    """The document of a JSON value; invalid ones come back with every problem."""
    problems: list[Problem] = []
    document = value if isinstance(value, dict) else {}
    if not isinstance(value, dict):
        problems.append(Problem("", "a policy is a mapping with kind, name and spec"))
    problems.extend(
        Problem(str(key), "is no field of a policy document")
        for key in document.keys() - {"kind", "name", "version", "effective_from", "spec"}
    )
    kind, name = str(document.get("kind", "")), str(document.get("name", ""))
    if kind not in KINDS:
        problems.append(Problem("kind", f"is {kind!r}; expected one of {', '.join(KINDS)}"))
    if not _NAME.fullmatch(name):
        problems.append(Problem("name", f"is {name!r}; expected letters, digits, dots, dashes, underscores"))
    version = document.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        problems.append(Problem("version", f"is {version!r}; expected an integer from 1"))
        version = 1
    effective = 0
    if "effective_from" in document:
        try:
            effective = parse_instant(str(document["effective_from"]))
        except ValueError as error:
            problems.append(Problem("effective_from", str(error)))
    raw = document.get("spec")
    spec: Spec | None = None
    scope = Scope()
    if not isinstance(raw, dict):
        problems.append(Problem("spec", "is missing or no mapping"))
    elif kind in KINDS:
        reader = _Reader(raw, "spec")
        spec = _SPECS[kind](reader)
        problems.extend(reader.finish())
        scope = spec.scope if isinstance(spec, (ChangeWindow, Intake)) else _scope_or_all(raw)
    text = json.dumps(raw, sort_keys=True, ensure_ascii=False, default=str)
    return Document(kind, name, version, effective, None if problems else spec, tuple(problems), scope, text)


def _scope_or_all(raw: dict[str, Any]) -> Scope:
    reader = _Reader(raw, "spec")
    scope = _read_scope(reader)
    # A scope that cannot be read does not excuse anything from the policy.
    return Scope() if reader.problems else scope


@dataclass(frozen=True)
class Policies:
    """The policies in force at one moment."""

    documents: tuple[Document, ...] = ()

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Document]:
        return {(d.kind, d.name): d for d in self.documents}

    def service(self, name: str) -> Service:
        """The policy of a service; an empty one where there is none."""
        document = self._by_name.get(("service", name))
        return document.spec if document and isinstance(document.spec, Service) else Service()

    @cached_property
    def thresholds(self) -> Thresholds:
        """The limits in force."""
        document = self._by_name.get(("thresholds", "default"))
        return document.spec if document and isinstance(document.spec, Thresholds) else Thresholds()

    @cached_property
    def change_windows(self) -> tuple[Document, ...]:
        """Documents of change windows, the invalid ones too."""
        return tuple(d for d in self.documents if d.kind == "change_window")

    def accepts_unsigned(self, place: Mapping[str, str] | None) -> bool:
        """Whether a record is accepted that nobody signed: where no policy of the kind `intake` covers it, or
        the narrowest of those that do accepts it. Of two equally narrow ones the refusing one wins; an invalid
        one always refuses.

        `place` has service, environment and region; None: what concerns every place, which any of them may refuse.
        """
        covering = [d for d in self.documents if d.kind == "intake" and (place is None or d.scope.covers(place))]
        accepts = [(_narrowness(d.scope), isinstance(d.spec, Intake) and d.spec.accept_unsigned) for d in covering]
        if place is None or any(d.spec is None for d in covering):
            return all(accepted for _, accepted in accepts)
        narrowest = max((narrowness for narrowness, _ in accepts), default=0)
        return all(accepted for narrowness, accepted in accepts if narrowness == narrowest)

    @cached_property
    def region_aliases(self) -> dict[str, str]:
        """Lower-case alias → region."""
        return self._aliases("region")

    @cached_property
    def environment_aliases(self) -> dict[str, str]:
        """Lower-case alias → environment."""
        return self._aliases("environment")

    @cached_property
    def service_aliases(self) -> dict[str, str]:
        """Lower-case alias → service."""
        return self._aliases("service")

    def _aliases(self, kind: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for document in self.documents:
            if document.kind == kind and isinstance(document.spec, (Service, Alias)):
                found[document.name.lower()] = document.name
                found.update({alias.strip().lower(): document.name for alias in document.spec.aliases})
        return found


def _narrowness(scope: Scope) -> int:
    return sum(1 for name in SCOPE_FIELDS if getattr(scope, name))


@dataclass(frozen=True)
class PolicySet:
    """Every version of every policy."""

    versions: Mapping[tuple[str, str, int], Document] = field(default_factory=dict)

    def with_documents(self, documents: Iterable[Document]) -> PolicySet:
        """The set with more versions; the same version again replaces it."""
        return replace(self, versions={**self.versions, **{(d.kind, d.name, d.version): d for d in documents}})

    def latest(self, kind: str, name: str) -> Document | None:
        """The newest version of one policy."""
        found = [d for (k, n, _), d in self.versions.items() if (k, n) == (kind, name)]
        return max(found, key=lambda d: d.version, default=None)

    @cached_property
    def _changes(self) -> list[int]:
        return sorted({d.effective_from for d in self.versions.values()})

    @cached_property
    def _epochs(self) -> dict[int, Policies]:
        return {}

    def at(self, when: int) -> Policies:
        """The policies in force at an instant: of each, the newest version effective by then."""
        epoch = max((change for change in self._changes if change <= when), default=-1)
        if epoch not in self._epochs:
            newest: dict[tuple[str, str], Document] = {}
            for d in sorted(self.versions.values(), key=lambda d: (d.effective_from, d.version)):
                if d.effective_from <= epoch:
                    newest[d.kind, d.name] = d
            self._epochs[epoch] = Policies(tuple(newest[key] for key in sorted(newest)))
        return self._epochs[epoch]


class _Reader:
    """Reads a mapping field by field and collects what is wrong."""

    def __init__(self, raw: dict[str, Any], path: str) -> None:
        self.raw, self.path = raw, path
        self.problems: list[Problem] = []
        self.seen: set[str] = set()

    def wrong(self, name: str, detail: str) -> None:
        self.problems.append(Problem(f"{self.path}.{name}", detail))

    def text(self, name: str, default: str | None = None) -> str:
        self.seen.add(name)
        value = self.raw.get(name, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)  # tier: 1 is written without quotes
        if not isinstance(value, str):
            self.wrong(name, "is missing" if value is None else f"is {value!r}; expected text")
            return ""
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        self.seen.add(name)
        value = self.raw.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, (str, int)) for item in value):
            self.wrong(name, f"is {value!r}; expected a list of texts")
            return ()
        return tuple(str(item) for item in value)

    def number(self, name: str, default: float | None) -> float | None:
        self.seen.add(name)
        value = self.raw.get(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 10_000_000:
            self.wrong(name, f"is {value!r}; expected minutes above 0")
            return default
        return float(value)

    def flag(self, name: str) -> bool:
        self.seen.add(name)
        value = self.raw.get(name, False)
        if not isinstance(value, bool):
            self.wrong(name, f"is {value!r}; expected true or false")
        return value is True

    def inner(self, name: str) -> _Reader:
        self.seen.add(name)
        value = self.raw.get(name, {})
        if not isinstance(value, dict):
            self.wrong(name, f"is {value!r}; expected a mapping")
            value = {}
        return _Reader(value, f"{self.path}.{name}")

    def finish(self) -> list[Problem]:
        unknown = [Problem(f"{self.path}.{name}", "is no field here") for name in self.raw if name not in self.seen]
        return self.problems + unknown


def _read_scope(reader: _Reader) -> Scope:
    inner = reader.inner("scope")
    scope = Scope(**{name: inner.texts(name) for name in SCOPE_FIELDS})
    reader.problems.extend(inner.finish())
    return scope


def _read_service(reader: _Reader) -> Service:
    return Service(
        team=reader.text("team", ""),
        tier=reader.text("tier", ""),
        aliases=reader.texts("aliases"),
        depends_on=reader.texts("depends_on"),
        expected_duration_minutes=reader.number("expected_duration_minutes", None),
        regimes=reader.texts("regimes"),
    )


def _read_alias(reader: _Reader) -> Alias:
    return Alias(aliases=reader.texts("aliases"), production=reader.flag("production"))


def _read_thresholds(reader: _Reader) -> Thresholds:
    usual = Thresholds()
    names = ("lost_after_minutes", "overdue_after_minutes", "correlation_window_minutes")
    return Thresholds(**{name: reader.number(name, getattr(usual, name)) or 0.0 for name in names})


def _read_intake(reader: _Reader) -> Intake:
    unsigned = reader.text("unsigned")
    if unsigned not in ("accept", "refuse"):
        reader.wrong("unsigned", f"is {unsigned!r}; expected accept or refuse")
    scope = _read_scope(reader)
    for name in ("teams", "tiers", "kinds"):
        if getattr(scope, name):
            reader.wrong(f"scope.{name}", "cannot be asked of a reporter that nobody knows")
    return Intake(unsigned == "accept", replace(scope, teams=(), tiers=(), kinds=()))


def _read_window(reader: _Reader) -> ChangeWindow:
    effect = reader.text("effect")
    if effect not in ("allow", "deny"):
        reader.wrong("effect", f"is {effect!r}; expected allow or deny")
    zone = _zone(reader, reader.text("zone"))
    start = _local(reader, reader.text("start"))
    duration = timedelta(minutes=reader.number("duration_minutes", None) or 0)
    if not duration and "duration_minutes" not in reader.raw:
        reader.wrong("duration_minutes", "is missing")
    rule = _rule(reader, reader.text("rrule"), start)
    return ChangeWindow(effect == "allow", zone, start, duration, rule, _read_scope(reader))


def _zone(reader: _Reader, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a directory of the database
        if name:
            reader.wrong("zone", f"is {name!r}; expected an IANA time zone such as Europe/Berlin")
        return ZoneInfo("UTC")


def _local(reader: _Reader, text: str) -> datetime:
    try:
        start = datetime.fromisoformat(text)
        if start.tzinfo is None and "T" in text:
            return start
    except ValueError:
        pass
    if text:
        reader.wrong("start", f"is {text!r}; expected a local time such as 2026-01-05T09:00")
    return datetime(2000, 1, 1)  # noqa: DTZ001  # a local time; its zone is a field of its own


def _rule(reader: _Reader, text: str, start: datetime) -> rrule:
    try:
        if "\n" in text or "DTSTART" in text.upper() or "FREQ" not in text.upper():
            raise ValueError("expected one recurrence such as FREQ=WEEKLY;BYDAY=MO,TU")
        parsed = rrulestr(text.removeprefix("RRULE:"), dtstart=start, cache=True)
        if not isinstance(parsed, rrule):
            raise ValueError("expected one recurrence")
        return parsed
    except (ValueError, TypeError, AttributeError) as error:
        if text:
            reader.wrong("rrule", f"is {text!r}: {error}")
        return rrule(0, dtstart=start, count=1)


_SPECS: dict[str, Any] = {
    "service": _read_service,
    "environment": _read_alias,
    "region": _read_alias,
    "change_window": _read_window,
    "thresholds": _read_thresholds,
    "intake": _read_intake,
}
