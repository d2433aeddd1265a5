"""Reading of policy documents: every field is asked for, every problem collected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (dotted path) and what was expected."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}" if self.path else self.detail


class Reader:
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

    def inner(self, name: str) -> Reader:
        self.seen.add(name)
        value = self.raw.get(name, {})
        if not isinstance(value, dict):
            self.wrong(name, f"is {value!r}; expected a mapping")
            value = {}
        return Reader(value, f"{self.path}.{name}")

    def finish(self) -> list[Problem]:
        unknown = [Problem(f"{self.path}.{name}", "is no field here") for name in self.raw if name not in self.seen]
        return self.problems + unknown
