"""An incident's timeline for its post-mortem: what happened when, ± how much, by whose word, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import LATEST

from deploytrail_sinks.reports.document import Report, Table, rows
from deploytrail_sinks.reports.picture import Bar, picture
from deploytrail_sinks.reports.views import KNOWN, Value, Views, as_of_fact, text

COLUMNS = ("at", "± ms", "entry", "what", "service", "deployment", "detail", "source", "provenance", "probability")
_NAMED = "deployment_id IN {ids:Array(String)} OR rollback_of IN {ids:Array(String)}"
_CEASES = frozenset({"alert_resolved", "incident_resolved"})


def timeline(views: Views, incident: str, as_of: int | None = None) -> Report:
    """The report of an incident, or of an alert by its signal id, as of an instant (µs; None: as it is now).

    ConfigurationError where nothing is known of it.
    """
    known_at = LATEST if as_of is None else as_of
    found = views.ask(
        "SELECT * FROM {db}.incident_timeline_as_of(incident = {incident:String}, "
        "as_of = fromUnixTimestamp64Micro({as_of:Int64}))",
        incident=incident,
        as_of=known_at,
    )
    if not found:
        raise ConfigurationError(
            f"nothing is known of the incident {incident!r}; expected an incident_id or a signal_id"
        )
    verdicts = [e for e in found if e["what"] and e["entry"] == "verdict" and e["probability"] is not None]
    candidates = sorted(verdicts, key=lambda e: (-e["probability"], e["deployment_id"]))
    signals = [e for e in found if e["entry"] == "signal"]
    opened = min((e["at"] for e in signals), default=found[0]["at"])
    closed = max((e["at"] for e in signals if e["what"] in _CEASES), default=None)
    likely = candidates[0] if candidates else None
    changes = views.ask(
        "SELECT deployment_id, service, version, state, started_at, started_at_uncertainty_ms, finished_at, "
        "finished_at_uncertainty_ms FROM (SELECT * FROM {db}.deployment_revisions "
        f"WHERE {KNOWN} AND deployment_id IN (SELECT deployment_id FROM {{db}}.deployment_revisions WHERE {_NAMED}) "
        "ORDER BY revision DESC, kafka_offset DESC LIMIT 1 BY region, deployment_id) "
        f"WHERE started_at IS NOT NULL AND merged_into = '' AND ({_NAMED}) ORDER BY started_at, deployment_id, region",
        as_of=known_at,
        ids=sorted({e["deployment_id"] for e in candidates} - {""}),
    )
    facts = (
        ("Incident", incident),
        *as_of_fact(as_of),
        ("Began", text(opened)),
        ("Ended", text(closed) or "not known"),
        ("Services", ", ".join(sorted({e["service"] for e in signals}))),
        ("Likely cause", _cause(likely)),
        ("Times", "corrected, in UTC; each lies within ± of what is written"),
    )
    tables = (
        Table(
            "candidates",
            "What may have caused it",
            ("deployment", "service", "probability", "reason", "for and against"),
            rows(
                (e["deployment_id"] or "none of them", e["service"], f"{e['probability']:.0%}", e["what"], e["detail"])
                for e in candidates
            ),
            "Probabilities of one alert sum to one, with none of them as a competitor.",
        ),
        Table("timeline", "Timeline", COLUMNS, rows(_row(entry) for entry in found)),
    )
    title = f"Timeline of {incident}"
    return Report(title, facts, tables, "timeline", (picture(title, _bars(found, changes)),))


def _cause(likely: Value | None) -> str:
    if likely is None:
        return "not judged yet"
    name = likely["deployment_id"] or "none of the known changes"
    return f"{name} ({likely['probability']:.0%})"


def _row(entry: Value) -> tuple[str, ...]:
    share = "" if entry["probability"] is None else f"{entry['probability']:.0%}"
    names = ("at", "uncertainty_ms", "entry", "what", "service", "deployment_id", "detail", "source", "provenance")
    return (*(text(entry[name]) for name in names), share)


def _bars(entries: Sequence[Value], changes: Sequence[Value]) -> list[Bar]:
    """A lane for each change and for each alert, in order of their beginnings."""
    lanes: dict[str, list[Value]] = {}
    for entry in entries:
        if entry["entry"] == "signal":
            lanes.setdefault(f"{entry['service']}: {entry['detail']}", []).append(entry)
    bars = [
        Bar(
            "failed" if change["state"] in ("failed", "rolled_back") else "deployment",
            f"{change['service']}: {change['deployment_id']} {change['version']}".rstrip(),
            _aware(change["started_at"]),
            _aware(change["finished_at"]) if change["finished_at"] is not None else None,
            change["started_at_uncertainty_ms"] or 0,
            change["finished_at_uncertainty_ms"] or 0,
        )
        for change in changes
    ]
    for label, lane in lanes.items():
        first, last = lane[0], lane[-1] if lane[-1]["what"] in _CEASES else None
        end = _aware(last["at"]) if last else None
        widths = (first["uncertainty_ms"] or 0, (last["uncertainty_ms"] or 0) if last else 0)
        bars.append(Bar("alert", label, _aware(first["at"]), end, *widths))
    return sorted(bars, key=lambda bar: (bar.start, bar.label))


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
