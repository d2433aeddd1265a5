"""One CI system: by which variables it is known, and where it keeps what an event has fields for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deploytrail_schemas.redaction import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Environment = Mapping[str, str]
    Identity = dict[str, str]

URLS = ("build_url", "repository")
_NO_PERSON = "[bot]"  # how GitHub ends the names of apps


class System(NamedTuple):
    """A CI system as a table.

    `marks`: what must be set where it runs, NAME or NAME=value. `fields`: by field of the event (and
    `tag` and `branch`), where its text is: a variable's name, or a text with {NAMES} of which each
    must be set; the first that gives something is taken. `machine`: NAME=value where no person
    started it. `target`: the environment that it deploys to, and other names that it gives it.
    `finish`: what no table can say.
    """

    name: str
    marks: tuple[str, ...]
    fields: dict[str, tuple[str, ...]]
    machine: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    finish: Callable[[Environment, Identity], Identity] | None = None

    def is_here(self, environ: Environment) -> bool:
        """Whether this environment is one of this system."""
        return all(_holds(mark, environ) for mark in self.marks)

    def read(self, environ: Environment) -> Identity:
        """What it tells of the build; fields of which it tells nothing are left out."""
        found = {"build_system": self.name}
        for field, places in self.fields.items():
            if text := next(filter(None, (_filled(place, environ) for place in places)), ""):
                found[field] = without_credentials(text) if field in URLS else text
        if self.finish is not None:
            found = self.finish(environ, found)
        for name in ("tag", "branch"):
            found[name] = bare(found.get(name, ""))
        if who := found.get("deployer"):
            machine = who.endswith(_NO_PERSON) or any(_holds(mark, environ) for mark in self.machine)
            found["deployer_type"] = "automation" if machine else "person"
        return {field: text for field, text in found.items() if text}

    def targets(self, environ: Environment) -> tuple[str, ...]:
        """The names of the environment that it deploys to."""
        return tuple(text for name in self.target if (text := environ.get(name, "").strip()))


def bare(text: str) -> str:
    """The branch's or tag's own name, without where git keeps it."""
    text = text.removeprefix("refs/").removeprefix("heads/")
    return text.removeprefix("origin/").removeprefix("tags/")


def _holds(mark: str, environ: Environment) -> bool:
    """NAME: it is set; NAME=value: it is this, in any case; NAME=value*: it begins so."""
    name, equals, value = mark.partition("=")
    text = str(environ.get(name, "")).lower()
    if not equals:
        return bool(text)
    value = value.lower()
    return text.startswith(value[:-1]) if value.endswith("*") else text == value


def _filled(place: str, environ: Environment) -> str:
    """The text of a variable, or of a pattern with its {NAMES} filled in; empty where one of them is not set."""
    if "{" not in place:
        return str(environ.get(place, ""))
    made = ""
    for part in place.split("{"):
        name, closed, rest = part.partition("}")
        if not closed:
            made += part
            continue
        text = str(environ.get(name, ""))
        if not text:
            return ""
        made += (text.rstrip("/") if rest.startswith("/") else text) + rest
    return made
