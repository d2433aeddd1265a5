"""Reading of policy documents: every field is asked for, every problem collected."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

LONGEST_MINUTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (dotted path) and what was expected."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}" if self.path else self.detail


class Reader:
    """Reads a mapping field by field and collects what is wrong.

    What a kind asks of its reader is the one declaration of its fields: the published JSON Schema is
    made of the same questions (`schema`).
    """

    def __init__(self, raw: dict[str, Any], path: str) -> None:
        self.raw, self.path = raw, path
        self.problems: list[Problem] = []
        self.seen: set[str] = set()

    def wrong(self, name: str, detail: str) -> None:
        self.problems.append(Problem(f"{self.path}.{name}", detail))

    def is_wrong(self, name: str) -> bool:
        """Whether something was found wrong with a field by now."""
        return any(problem.path == f"{self.path}.{name}" for problem in self.problems)

    def text(self, name: str, default: str | None = None, *, about: str = "") -> str:
        """A text; required where there is no default. `about` tells writers of policies what it is: see `schema`."""
        self.seen.add(name)
        value = self.raw.get(name, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)  # tier: 1 is written without quotes
        if not isinstance(value, str):
            self.wrong(name, f"is {value!r}; expected text" if name in self.raw else "is missing")
            return ""
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None, *, about: str = "") -> str:
        """One of a few words."""
        value = self.text(name, default, about=about)
        if value not in choices and (value or name in self.raw):
            self.wrong(name, f"is {value!r}; expected {_either(choices)}")
        return value

    def texts(self, name: str, *, about: str = "") -> tuple[str, ...]:
        """A list of texts; left out, none."""
        self.seen.add(name)
        value = self.raw.get(name, [])
        if not isinstance(value, list) or any(
            isinstance(item, bool) or not isinstance(item, (str, int, float)) for item in value
        ):
            # [no, on] are truth values in YAML: they want quotes.
            self.wrong(name, f"is {value!r}; expected a list of texts")
            return ()
        return tuple(str(item) for item in value)

    def names(self, name: str, *, about: str = "") -> tuple[str, ...]:
        """A list of names of places or services: none is empty, none is a pattern."""
        value = self.texts(name, about=about)
        for one in value:
            if not one.strip() or "*" in one or "?" in one:
                self.wrong(
                    name, f"holds {one!r}; expected names, without * and ?; all of them are meant by leaving it out"
                )
        return value

    def choices(self, name: str, choices: tuple[str, ...], *, about: str = "") -> tuple[str, ...]:
        """A list of words out of a few."""
        value = self.texts(name, about=about)
        for word in value:
            if word not in choices:
                self.wrong(name, f"holds {word!r}; expected {_either(choices)}")
        return value

    def number(self, name: str, default: float | None, *, about: str = "") -> float | None:
        """Minutes above 0; what is left out has the default."""
        self.seen.add(name)
        value = self.raw.get(name, default)
        if value is None and name not in self.raw:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < LONGEST_MINUTES:
            self.wrong(name, f"is {value!r}; expected minutes above 0")
            return default
        return float(value)

    def count(
        self, name: str, default: int | None, *, least: int = 1, most: int = 1_000_000, about: str = ""
    ) -> int | None:
        """A whole number; what is left out has the default."""
        self.seen.add(name)
        value = self.raw.get(name, default)
        if value is None and name not in self.raw:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(name, f"is {value!r}; expected a whole number from {least} to {most}")
            return default
        return value

    def texts_by_name(self, name: str, *, about: str = "") -> dict[str, tuple[str, ...]]:
        """A mapping from names of the writer's own to lists of texts; left out, an empty one."""
        self.seen.add(name)
        inner = Reader.inner(self, name)
        found = {str(own): inner.texts(own) for own in inner.raw}
        self.problems.extend(inner.finish())
        return found

    def flag(self, name: str, *, about: str = "") -> bool:
        """True or false; left out, false."""
        self.seen.add(name)
        value = self.raw.get(name, False)
        if not isinstance(value, bool):
            self.wrong(name, f"is {value!r}; expected true or false")
        return value is True

    def inner(self, name: str, *, about: str = "") -> Reader:
        """A reader of a mapping inside; left out, an empty one."""
        self.seen.add(name)
        value = self.raw.get(name, {})
        if not isinstance(value, dict):
            self.wrong(name, f"is {value!r}; expected a mapping")
            value = {}
        return Reader(value, f"{self.path}.{name}")

    def inners(self, name: str, *, about: str = "") -> list[Reader]:
        """A reader of each mapping of a list; at least one of them."""
        self.seen.add(name)
        value = self.raw.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
            self.wrong(name, f"is {value!r}; expected a list of mappings" if name in self.raw else "is missing")
            return []
        return [Reader(one, f"{self.path}.{name}[{index}]") for index, one in enumerate(value)]

    def finish(self) -> list[Problem]:
        unknown = [name for name in self.raw if name not in self.seen]
        return self.problems + [
            Problem(f"{self.path}.{name}", f"is no field here{self._meant(name)}") for name in unknown
        ]

    def _meant(self, name: object) -> str:
        near = get_close_matches(str(name), sorted(self.seen - self.raw.keys()), n=1)
        return f"; did you mean {near[0]}?" if near else ""


def _either(choices: tuple[str, ...]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
