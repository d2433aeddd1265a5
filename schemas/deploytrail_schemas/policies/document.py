"""One version of one policy, read whole: valid, or with everything that is wrong in it.

Which kinds there are, and what reads each, says the room that reads: the processors know all, others what they act on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.policies.reader import Problem, Reader
from deploytrail_schemas.policies.scope import Scope, scope_or_all

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(NAME)
Kinds: TypeAlias = Mapping[str, Callable[[Reader], Any]]


@dataclass(frozen=True, slots=True)
class Document:
    """One version of one policy. `spec` None: invalid, for the `problems`."""

    kind: str
    name: str
    version: int
    effective_from: int
    spec: Any
    problems: tuple[Problem, ...] = ()
    scope: Scope = field(default_factory=Scope)
    text: str = ""  # the spec as canonical JSON, by which versions compare
    readable: Any = None  # the spec as far as it can be read; None where nothing can

    @property
    def key(self) -> str:
        """kind/name/version, as findings cite it."""
        return f"{self.kind}/{self.name}/{self.version}"


def read(value: object, kinds: Kinds) -> Document:
    """The document of a JSON value; invalid ones come back with every problem."""
    problems: list[Problem] = []
    document = value if isinstance(value, dict) else {}
    if not isinstance(value, dict):
        problems.append(Problem("", "a policy is a mapping with kind, name and spec"))
    problems.extend(
        Problem(str(key), "is no field of a policy document")
        for key in document.keys() - {"kind", "name", "version", "effective_from", "spec"}
    )
    kind, name = document.get("kind", ""), document.get("name", "")
    if not isinstance(kind, str) or kind not in kinds:
        problems.append(Problem("kind", f"is {kind!r}; expected one of {', '.join(kinds)}"))
        kind = str(kind)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problems.append(Problem("name", f"is {name!r}; expected letters, digits, dots, dashes, underscores"))
        name = str(name)
    version = document.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        problems.append(Problem("version", f"is {version!r}; expected an integer from 1"))
        version = 1
    effective = 0
    if "effective_from" in document:
        try:
            effective = parse_instant(_text(document["effective_from"]))
        except ValueError as error:
            problems.append(Problem("effective_from", str(error)))
    raw = document.get("spec")
    spec: Any = None
    scope = Scope()
    if not isinstance(raw, dict):
        problems.append(Problem("spec", "is missing or no mapping"))
    elif kind in kinds:
        reader = Reader(raw, "spec")
        spec = kinds[kind](reader)
        problems.extend(reader.finish())
        scope = getattr(spec, "scope", None) or scope_or_all(raw)
    text = json.dumps(raw, sort_keys=True, ensure_ascii=False, default=str)
    return Document(kind, name, version, effective, None if problems else spec, tuple(problems), scope, text, spec)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {value!r}; expected an RFC 3339 date-time such as 2026-11-02T09:30:00Z")
    return value


def parse(key: bytes | None, value: bytes, kinds: Kinds) -> Document:
    """The document of a message; one that is no JSON is an invalid document of the name in its key."""
    try:
        return read(json.loads(value), kinds)
    except ValueError as error:
        kind, _, rest = (key or b"").decode("utf-8", "replace").partition("/")
        name, _, version = rest.rpartition("/")
        number = int(version) if version.isdecimal() else 1
        return Document(kind, name, number, 0, None, (Problem("", f"no JSON: {error}"),))
