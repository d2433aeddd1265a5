"""Policies in force: looked up as they were at an instant."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from deploytrail_schemas.policies.alias import USUAL_ENVIRONMENTS, Alias, Aliases, Match, usual_environment
from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.scope import Scope
from deploytrail_schemas.policies.service import Service

PRODUCTION = "production"
Set = TypeVar("Set", bound="Versions")


@dataclass(frozen=True)
class InForce:
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
        """The policy of a service, an invalid one as far as it can be read; an empty one where there is none."""
        document = self._by_name.get(("service", name))
        return document.readable if document and isinstance(document.readable, Service) else Service()

    @cached_property
    def production(self) -> frozenset[str]:
        """The environments that are production: the one of that name, those whose policy says so, and those whose
        policy does not say, where the name usually means it (`prod`), what usually means it is recorded by that name,
        or nothing of the policy can be read."""
        said = {d.name: _says_production(d) for d in self.of_kind("environment")}
        usual = {PRODUCTION, *(name for name, meant in USUAL_ENVIRONMENTS.items() if meant == PRODUCTION)}
        recorded = {self.environment(name) for name in usual} | {name for name in said if _usually(name) == PRODUCTION}
        by_name = {name for name in recorded if said.get(name) is not False}
        return frozenset({PRODUCTION, *by_name, *(name for name, is_it in said.items() if is_it)})

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

    def environment(self, reported: str) -> str:
        """The name of records for a reported environment: by policy, else by what every company says."""
        return _named(reported, self.environments.find(reported) or usual_environment(reported))

    def scope(self, written: Scope) -> Scope:
        """A scope by the names that records have: what it names is what would be recorded for a report of that name."""
        return replace(
            written,
            services=tuple(_named(name, self.services.find(name)) for name in written.services),
            environments=tuple(map(self.environment, written.environments)),
            regions=tuple(_named(name, self.regions.find(name)) for name in written.regions),
        )

    def by_recorded_names(self, document: Document) -> Document:
        """A document whose scope, and that of its spec, has the names of records: see `scope`."""
        if document.scope == Scope():
            return document
        found, spec = self.scope(document.scope), document.spec
        return replace(document, scope=found, spec=replace(spec, scope=found) if hasattr(spec, "scope") else spec)

    def _aliases(self, kind: str) -> Aliases:
        # An invalid policy still names what it names: else what it covers would go by another name.
        specs = {d.name: d.readable for d in self.documents if d.kind == kind}
        return Aliases({name: spec.aliases for name, spec in specs.items() if isinstance(spec, (Service, Alias))})


def _says_production(document: Document) -> bool | None:
    """Whether an environment's policy says that it is production; None: it does not say."""
    return document.readable.production if isinstance(document.readable, Alias) else True


def _usually(name: str) -> str:
    usual = usual_environment(name)
    return usual.name if usual is not None else ""


def _named(reported: str, found: Match | None) -> str:
    return found.name if found is not None else reported


def is_production(environment: str, policies: InForce) -> bool:
    """Whether an environment, by its canonical name, is a production one: by that name, or by its policy."""
    return environment in policies.production


@dataclass(frozen=True)
class Versions:
    """Every version of every policy."""

    versions: Mapping[tuple[str, str, int], Document] = field(default_factory=dict)

    def with_documents(self: Set, documents: Iterable[Document]) -> Set:
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
    def _epochs(self) -> dict[int, InForce]:
        return {}

    def at(self, when: int) -> InForce:
        """The policies in force at an instant: of each, the newest version effective by then."""
        index = bisect_right(self._changes, when)
        epoch = self._changes[index - 1] if index else -1
        if epoch not in self._epochs:
            newest: dict[tuple[str, str], Document] = {}
            for d in sorted(self.versions.values(), key=lambda d: (d.effective_from, d.version)):
                if d.effective_from <= epoch:
                    newest[d.kind, d.name] = d
            written = InForce(tuple(newest[key] for key in sorted(newest)))
            # An alias in a scope would cover nothing: a freeze of `prod` has to freeze production.
            self._epochs[epoch] = self._together(tuple(map(written.by_recorded_names, written.documents)))
        return self._epochs[epoch]

    def _together(self, documents: tuple[Document, ...]) -> InForce:
        return InForce(documents)
