"""From what a caller says to a DeploymentEvent that fits its schema, whatever the caller said.

Pure but for what it says once on stderr: an argument of the wrong type is a warning, never an
exception in a deploy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from deploytrail_schemas.instants import check_range, parse_instant, to_micros
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.redaction import redact_text, redact_value
from deploytrail_schemas.schema import fields, is_instant

from deploytrail._report import say_once

TEXT_LIMIT = 4096
# Text is read so far before secrets are taken out and it is cut: half a token at the cut would not be known as one.
READ_LIMIT = 4 * TEXT_LIMIT
MAP_LIMIT = 256  # entries of tags and config_changes
# What must not be empty, and what stands there when nobody says.
REQUIRED = {"service": "unknown", "environment": "unknown", "region": "other"}
# Set here, never by a caller.
OURS = frozenset({"event_id", "event_type", "producer_id", "producer_seq", "monotonic_ns", "boot_id", "clock_state"})


@cache
def _specs() -> dict[str, tuple[str, Any]]:
    """Name → (type, symbols of an enum) of every field that a caller may give."""
    specs: dict[str, tuple[str, Any]] = {}
    for field in fields(RecordType.DEPLOYMENT_EVENT):
        declared = field["type"]
        if isinstance(declared, list):
            declared = next(t for t in declared if t != "null")
        name = declared if isinstance(declared, str) else declared["type"]
        if field["name"] not in CANONICAL_FIELDS and field["name"] not in OURS:
            specs[field["name"]] = ("instant" if is_instant(field) else name, isinstance(declared, dict) and declared)
    return specs


def build(facts: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an event: what the caller says, and for the rest what the environment tells.

    Text that is too long is cut; what no field holds goes into `tags`; what cannot be read is
    left out. Each of these is said once. Secrets are taken out of every text.
    """
    if _names_another_commit(facts, known):
        known = {name: text for name, text in known.items() if name != "committed_at"}
    extra = {name: _text(text) for name, text in known.items() if name not in _specs()}
    value = {name: _converted(name, _specs()[name], text, extra) for name, text in known.items() if name in _specs()}
    for name, given in facts.items():
        if given is None or (isinstance(given, str) and not given):
            continue
        spec = _specs().get(name)
        if spec is None and (name in OURS or name in CANONICAL_FIELDS):
            say_once(f"argument {name}", f"{name} cannot be given: deploytrail sets it itself")
            continue
        try:
            if spec is None:
                extra[_text(name)] = _text(given)
                say_once(f"argument {name}", f"an event has no field {name!r}; it is kept in tags")
            else:
                value[name] = _converted(name, spec, given, extra)
        except Exception as error:  # a caller's object may do anything when it is read
            say_once(f"argument {name}", f"{name} is left out: {_safe_repr(given)} ({_safe_repr(error)})")
    if extra:
        value["tags"] = extra | value.get("tags", {})
    for name, instead in REQUIRED.items():
        if not value.get(name):
            given_by = f"argument or DEPLOYTRAIL_{name.upper()}"
            say_once(f"missing {name}", f"no {name} is given, by {given_by}; it is recorded as {instead!r}")
            value[name] = instead
    if value.get("rollback_of") and "kind" not in value:
        value["kind"] = "rollback"
    return redact_value(value)


def _names_another_commit(facts: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether the caller deploys another commit than the one that the environment tells of."""
    said = facts.get("commit_sha")
    return isinstance(said, str) and said not in ("", known.get("commit_sha", ""))


# When a registered deployment is to begin, and to have begun: what the Approval beside the event says.
PLANNED = {"planned_start": "valid_from", "planned_end": "valid_until"}


def planned_in(facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """The facts without what was planned; and that, as an Approval's `valid_from` and `valid_until` (µs). What cannot
    be read is left out and said, and so is an end that does not lie behind its start."""
    planned: dict[str, int] = {}
    for name, field in PLANNED.items():
        given = facts.get(name)
        if given is None or given == "":
            continue
        try:
            planned[field] = _instant(given)
        except Exception as error:  # a caller's object may do anything when it is read
            say_once(f"argument {name}", f"{name} is left out: {_safe_repr(given)} ({_safe_repr(error)})")
    if "valid_until" in planned and planned["valid_until"] <= planned.get("valid_from", 0):
        say_once("argument planned_end", "planned_end does not lie behind planned_start; both are left out")
        planned = {}
    return {name: given for name, given in facts.items() if name not in PLANNED}, planned


def _converted(name: str, spec: tuple[str, Any], given: Any, extra: dict[str, str]) -> Any:
    kind, declared = spec
    if kind == "string":
        return _text(given)
    if kind == "enum":
        symbol = str(getattr(given, "value", given))
        if symbol in declared["symbols"]:
            return symbol
        say_once(f"argument {name}", f"{name} is {symbol!r}; expected one of {', '.join(declared['symbols'])}")
        extra[name] = _text(symbol)
        return "unknown"
    if kind == "instant":
        return _instant(given)
    if kind == "boolean":
        return bool(given)
    if kind == "long":
        number = int(given)
        if not -(1 << 63) <= number < 1 << 63:
            raise ValueError("does not fit 64 bits")
        return number
    if kind == "double":
        share = float(given)
        if not 0 <= share <= 1:  # NaN neither
            raise ValueError("expected a share from 0 to 1")
        return share
    items = list(dict(given).items())
    if len(items) > MAP_LIMIT:
        say_once(f"argument {name}", f"{name} has {len(items)} entries; the first {MAP_LIMIT} are kept")
    return {_text(key): _text(item) for key, item in items[:MAP_LIMIT] if item is not None}


def _text(given: object) -> str:
    if isinstance(given, bytes):
        text = given.decode("utf-8", "replace")
    else:
        text = str(getattr(given, "value", given)) if not isinstance(given, (str, BaseException)) else str(given)
    # Environments and file names may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    text = text[:READ_LIMIT].encode("utf-8", "replace").decode()
    if len(text) <= TEXT_LIMIT:
        return text
    text = redact_text(text)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def _instant(given: Any) -> int:
    if isinstance(given, datetime):
        return check_range(to_micros(given if given.tzinfo else given.replace(tzinfo=UTC)))
    return parse_instant(given) if isinstance(given, str) else check_range(int(given))


def error_text(error: object) -> str:
    """A few words of what went wrong: the type and message of an exception, or the text as given."""
    if not isinstance(error, BaseException):
        return "" if error is None else redact_text(_text(error))
    try:
        message = str(error)
    except Exception:  # an exception's own text may be broken
        message = ""
    return redact_text(_text(f"{type(error).__name__}: {message}" if message else type(error).__name__))


def _safe_repr(given: object) -> str:
    try:
        return redact_text(repr(given)[:READ_LIMIT])[:100]
    except Exception:
        return f"a {type(given).__name__}"
