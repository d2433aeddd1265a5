"""The JSON Schema (2020-12) of a policy document, for editors and other checkers.

Made of what the readers ask: a reader that answers nothing notes every question of a kind, so that
what is published and what is checked are one declaration. What only a reader can tell is in
`SEMANTIC`: a schema lets it pass, `deploytrail policy check` does not.
"""

from __future__ import annotations

import json
from typing import Any

from deploytrail_schemas.policies.document import NAME
from deploytrail_schemas.policies.reader import LONGEST_MINUTES, Problem, Reader

from deploytrail_processors.rules.policies.kinds import KINDS

JsonSchema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE_NAME = "policy.schema.json"
# Not $ alone: it ends before a last line break. Classes, not \d: it may know the digits of all scripts.
_END = r"(?![\s\S])"
_DAY, _TIME = r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
_INSTANT = f"^{_DAY}[Tt]{_TIME}([Zz]|[+-][0-9]{{2}}:[0-5][0-9]){_END}"
_TEXT = {"type": ["string", "number"]}
_NAME = {"pattern": r"^[^*?]*[^*?\s][^*?]*" + _END}
# What a file may say, and the topic never has: `deploytrail policy` puts what is meant in its place.
_OF_FILES = {
    "calendar": {"file": {"type": "string", "pattern": r"\.ics" + _END, "description": "An .ics file beside it."}}
}
# Field → what the reader knows of it beyond its shape.
SEMANTIC = {
    "effective_from": "the day exists, and lies in the years 2000 to 2099 in UTC",
    "version": "an integer, not 1.0, which JSON Schema takes for one",
    "change_window": "zone is of the IANA database, start and end are local "
    "times, rrule is of RFC 5545, the length is said once, the calendars left out exist",
    "calendar": "there are dates, or an iCalendar text that can be read, or a file of one; zone is of the database",
    "rollback_verification": "required checks are words of ours, at least one, and no time is above four hours",
    "reconciliation": "no time is above a week",
    "suppression": "severities are words of ours without critical, and no time is above a day",
    "required_fields": "fields or tags are asked for; heal speaks of those, and of feature_ticket or change_ticket",
    "regime": "fields, tags or controls are asked for",
    "escalation": "one to ten levels, each names somebody and lasts a day at most",
    "retention": "days are stated, and of regulated records at least seven years",
    "success_criteria": "one criterion is asked for; of a rollback rate, max_percent and either deployments or days; "
    "incidents are looked for for at most six hours, health for four",
    "velocity": "budget or burst is stated, and no time is above 31 days",
    "intake": "no teams, tiers and kinds in its scope: of a reporter whom nobody knows they cannot be asked",
    "several documents": "a name, and an alias, stands once",
}


def policy_schema() -> JsonSchema:
    """The schema of one document of a policy file."""
    return {
        "$schema": DIALECT,
        "$id": "urn:deploytrail:policy",
        "title": "deploytrail policy",
        "description": "One policy: its kind, its name, since when, and its spec. A YAML file may hold several.",
        "type": "object",
        "properties": {
            "kind": {"enum": list(KINDS), "description": "What the policy is about."},
            "name": {"type": "string", "pattern": f"^{NAME}{_END}", "description": "Its name within its kind."},
            "version": {
                "type": "integer",
                "minimum": 1,
                "description": "Left out, each change gets the next one; stated, it must be new for each change.",
            },
            "effective_from": {
                "type": "string",
                "format": "date-time",
                "pattern": _INSTANT,
                "description": "From when it holds; left out, from when it is applied.",
            },
            "spec": {"type": "object", "description": "What it says."},
        },
        "required": ["kind", "name", "spec"],
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"properties": {"spec": {"$ref": f"#/$defs/{kind}"}}},
            }
            for kind in KINDS
        ],
        "$defs": {kind: spec_schema(kind) for kind in KINDS},
    }


def schema_text() -> str:
    """The schema as the file that is published."""
    return json.dumps(policy_schema(), indent=1, ensure_ascii=False) + "\n"


def spec_schema(kind: str) -> JsonSchema:
    """The schema of a kind's spec."""
    # Some fields are asked for only where they are there: what an empty spec is asked too, and lacks, is required.
    bare, full = _Questions({}, "spec"), _Questions(_Everything(), "spec")
    for questions in (bare, full):
        KINDS[kind](questions)
    return _object(bare.properties | full.properties | _OF_FILES.get(kind, {}), bare.required)


class _Everything(dict[str, Any]):
    """A mapping that seems to have every field, each of them empty."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


class _Questions(Reader):
    """A reader that notes what it is asked, and answers with defaults."""

    def __init__(self, raw: dict[str, Any], path: str) -> None:
        super().__init__(raw, path)
        self.properties: dict[str, JsonSchema] = {}
        self.required: list[str] = []

    def text(self, name: str, default: str | None = None, *, about: str = "") -> str:
        self._note(name, dict(_TEXT), about, default)
        if default is None:
            self.required.append(name)
        return default or ""

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None, *, about: str = "") -> str:
        self._note(name, {"enum": list(choices)}, about, default)
        if default is None:
            self.required.append(name)
        return default or choices[0]

    def texts(self, name: str, *, about: str = "") -> tuple[str, ...]:
        self._note(name, {"type": "array", "items": dict(_TEXT)}, about)
        return ()

    def names(self, name: str, *, about: str = "") -> tuple[str, ...]:
        self._note(name, {"type": "array", "items": _NAME | _TEXT}, about)
        return ()

    def choices(self, name: str, choices: tuple[str, ...], *, about: str = "") -> tuple[str, ...]:
        self._note(name, {"type": "array", "items": {"enum": list(choices)}}, about)
        return ()

    def number(self, name: str, default: float | None, *, about: str = "") -> float | None:
        shape = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": LONGEST_MINUTES}
        self._note(name, shape, about, default)
        return default

    def count(
        self, name: str, default: int | None, *, least: int = 1, most: int = 1_000_000, about: str = ""
    ) -> int | None:
        self._note(name, {"type": "integer", "minimum": least, "maximum": most}, about, default)
        return default

    def texts_by_name(self, name: str, *, about: str = "") -> dict[str, tuple[str, ...]]:
        lists = {"type": "array", "items": dict(_TEXT)}
        self._note(name, {"type": "object", "additionalProperties": lists}, about)
        return {}

    def flag(self, name: str, *, about: str = "") -> bool:
        self._note(name, {"type": "boolean"}, about)
        return False

    def inner(self, name: str, *, about: str = "") -> Reader:
        # `raw` of the outer one goes down: inside it too, a full reader has every field.
        questions = _Questions(self.raw, f"{self.path}.{name}")
        shape = _object(questions.properties, questions.required)  # filled when the reader asks on
        self._note(name, shape, about)
        return questions

    def inners(self, name: str, *, about: str = "") -> list[Reader]:
        questions = _Questions(self.raw, f"{self.path}.{name}")
        each = _object(questions.properties, questions.required)  # filled when the reader asks on
        self._note(name, {"type": "array", "items": each, "minItems": 1}, about)
        self.required.append(name)
        return [questions]

    def finish(self) -> list[Problem]:
        return []

    def _note(self, name: str, shape: JsonSchema, about: str, default: float | str | None = None) -> None:
        said = {"description": about} if about else {}
        self.properties[name] = shape | said | ({} if default in (None, "") else {"default": default})


def _object(properties: dict[str, JsonSchema], required: list[str]) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
