"""Policies in force: looked up as they were at an instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.in_force import InForce, Versions
from deploytrail_schemas.policies.scope import narrowness, places_of
from deploytrail_schemas.policies.service import Service

from deploytrail_processors.rules.graph import Graph
from deploytrail_processors.rules.policies.intake import Intake
from deploytrail_processors.rules.policies.thresholds import Thresholds

if TYPE_CHECKING:
    from deploytrail_processors.rules.schedule import Schedule


@dataclass(frozen=True)
class Policies(InForce):
    """The policies in force at one moment."""

    def versions(self, *named: tuple[str, str]) -> str:
        """The versions of documents by kind and name, as a verdict names what it was judged by."""
        return ", ".join(d.key for d in (self.document(*one) for one in dict.fromkeys(named)) if d is not None)

    @cached_property
    def graph(self) -> Graph:
        """Which services need which."""
        specs = {d.name: d.spec for d in self.of_kind("service")}
        return Graph({name: spec.depends_on for name, spec in specs.items() if isinstance(spec, Service)})

    @cached_property
    def unreadable_services(self) -> tuple[str, ...]:
        """Services whose policy is invalid."""
        return tuple(sorted(d.name for d in self.of_kind("service") if not isinstance(d.spec, Service)))

    @cached_property
    def thresholds(self) -> Thresholds:
        """The limits in force."""
        document = self._by_name.get(("thresholds", "default"))
        return document.spec if document and isinstance(document.spec, Thresholds) else Thresholds()

    @cached_property
    def change_windows(self) -> tuple[Document, ...]:
        """Documents of change windows, the invalid ones too."""
        return tuple(d for d in self.documents if d.kind == "change_window")

    @cached_property
    def break_glasses(self) -> tuple[Document, ...]:
        """Documents of the kind `break_glass`, the invalid ones too."""
        return tuple(d for d in self.documents if d.kind == "break_glass")

    def calendar(self, name: str) -> Document | None:
        """The document of a calendar, valid or not; None where there is none of this name."""
        return self._by_name.get(("calendar", name))

    @cached_property
    def schedules(self) -> dict[tuple[str, ...], Schedule]:
        """What `rules.schedule` has worked out for subjects, remembered as long as these policies are in force."""
        return {}

    def accepts_unsigned(self, place: Mapping[str, str] | None) -> bool:
        """Whether a record is accepted that nobody signed: where no policy of the kind `intake` covers it, or
        the narrowest of those that do accepts it. Of two equally narrow ones the refusing one wins; an invalid
        one always refuses.

        `place` has service, environment and region; None: what concerns every place, which any of them may refuse.
        """
        every = self.of_kind("intake")
        if not every:
            return True
        places = [None] if place is None else places_of(place, [d.scope for d in every])
        return all(self._accepts_unsigned(every, one) for one in places)

    @staticmethod
    def _accepts_unsigned(every: tuple[Document, ...], place: Mapping[str, str] | None) -> bool:
        covering = [d for d in every if place is None or d.scope.covers(place)]
        accepts = [(narrowness(d.scope), isinstance(d.spec, Intake) and d.spec.accept_unsigned) for d in covering]
        if place is None or any(d.spec is None for d in covering):
            return all(accepted for _, accepted in accepts)
        narrowest = max((narrowness for narrowness, _ in accepts), default=0)
        return all(accepted for narrowness, accepted in accepts if narrowness == narrowest)


@dataclass(frozen=True)
class PolicySet(Versions):
    """Every version of every policy."""

    def at(self, when: int) -> Policies:
        """The policies in force at an instant: of each, the newest version effective by then."""
        found = super().at(when)
        assert isinstance(found, Policies)
        return found

    def _together(self, documents: tuple[Document, ...]) -> Policies:
        return Policies(documents)
