"""Policies in force: looked up as they were at an instant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deploytrail_processors.rules.graph import Graph
from deploytrail_processors.rules.policies.alias import Alias, Aliases
from deploytrail_processors.rules.policies.document import Document
from deploytrail_processors.rules.policies.intake import Intake
from deploytrail_processors.rules.policies.scope import narrowness
from deploytrail_processors.rules.policies.service import Service
from deploytrail_processors.rules.policies.thresholds import Thresholds

if TYPE_CHECKING:
    from deploytrail_processors.rules.schedule import Schedule


@dataclass(frozen=True)
class Policies:
    """The policies in force at one moment."""

    documents: tuple[Document, ...] = ()

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Document]:
        return {(d.kind, d.name): d for d in self.documents}

    @cached_property
    def _by_kind(self) -> dict[str, tuple[Document, ...]]:
        kinds = {d.kind for d in self.documents}
        return {kind: tuple(d for d in self.documents if d.kind == kind) for kind in kinds}

    def of_kind(self, kind: str) -> tuple[Document, ...]:
        """Documents of a kind, the invalid ones too."""
        return self._by_kind.get(kind, ())

    def document(self, kind: str, name: str) -> Document | None:
        """A document, valid or not; None where there is none of this name."""
        return self._by_name.get((kind, name))

    def service(self, name: str) -> Service:
        """The policy of a service; an empty one where there is none."""
        document = self._by_name.get(("service", name))
        return document.spec if document and isinstance(document.spec, Service) else Service()

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
        covering = [d for d in self.documents if d.kind == "intake" and (place is None or d.scope.covers(place))]
        accepts = [(narrowness(d.scope), isinstance(d.spec, Intake) and d.spec.accept_unsigned) for d in covering]
        if place is None or any(d.spec is None for d in covering):
            return all(accepted for _, accepted in accepts)
        narrowest = max((narrowness for narrowness, _ in accepts), default=0)
        return all(accepted for narrowness, accepted in accepts if narrowness == narrowest)

    @cached_property
    def regions(self) -> Aliases:
        """Names of regions."""
        return self._aliases("region")

    @cached_property
    def environments(self) -> Aliases:
        """Names of environments."""
        return self._aliases("environment")

    @cached_property
    def services(self) -> Aliases:
        """Names of services."""
        return self._aliases("service")

    def _aliases(self, kind: str) -> Aliases:
        specs = {d.name: d.spec for d in self.documents if d.kind == kind}
        return Aliases({name: spec.aliases for name, spec in specs.items() if isinstance(spec, (Service, Alias))})


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
