"""Names in policy files that mean nothing, or not what they seem to: said before anything is applied.

In: the documents of files, and what is applied already. Out: lines with file and line. What could make a policy cover
nothing is refused, since a freeze that freezes nothing looks like one that does. What may well be meant, such as a
service that nobody describes, is warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import chain

from deploytrail_schemas.instants import LATEST
from deploytrail_schemas.policies.alias import USUAL_ENVIRONMENTS, plain, usual_environment
from deploytrail_schemas.policies.scope import EVERYWHERE

from deploytrail_processors.policy_changes import Source
from deploytrail_processors.rules.aliases import Mapped, environment, region, service
from deploytrail_processors.rules.policies import Approvals, Policies, PolicySet, Retention, Service

_THE_THRESHOLDS = "default"


def nothing_means(sources: list[Source], standing: PolicySet, regions: frozenset[str]) -> list[str]:
    """Names that no record can have, as far as policies and settings tell: they are refused.

    `regions`: those of the settings, which need no policy.
    """
    policies = _together(sources, standing)
    return list(chain.from_iterable(_meaningless(source, policies, regions) for source in sources))


def seems_wrong(sources: list[Source], standing: PolicySet) -> list[str]:
    """Names that no document describes, and those that mean another one than is written."""
    policies = _together(sources, standing)
    return list(
        chain.from_iterable((*_other_names(source, policies), *_undescribed(source, policies)) for source in sources)
    )


def _together(sources: Iterable[Source], standing: PolicySet) -> Policies:
    """What would be in force at last, once the files were applied."""
    found = {(d.kind, d.name): d for d in standing.at(LATEST).documents}
    return Policies(tuple((found | {(s.document.kind, s.document.name): s.document for s in sources}).values()))


def _meaningless(source: Source, policies: Policies, regions: frozenset[str]) -> Iterator[str]:
    document, scope = source.document, source.document.scope
    for name in scope.environments:
        if policies.environments.find(name) is None and usual_environment(name) is None:
            known = [d.name for d in policies.of_kind("environment")]
            near = _near(name, [*known, *USUAL_ENVIRONMENTS, *USUAL_ENVIRONMENTS.values()])
            yield (
                f"{source.place_of('spec.scope.environments')}: spec.scope.environments: {name!r} is no environment "
                f"that anybody knows{near}; declare it by a policy of the kind environment if it is one"
            )
    places = {plain(one) for one in regions} | EVERYWHERE
    for name in scope.regions:
        if policies.regions.find(name) is None and plain(name) not in places:
            near = _near(name, [*regions, *(d.name for d in policies.of_kind("region"))])
            yield (
                f"{source.place_of('spec.scope.regions')}: spec.scope.regions: {name!r} is no region that anybody "
                f"knows{near}; declare it by a policy of the kind region, or in DEPLOYTRAIL_REGIONS, if it is one"
            )
    if document.kind == "thresholds" and document.name != _THE_THRESHOLDS:
        yield (
            f"{source.place_of('name')}: name: no rule reads thresholds/{document.name}; "
            f"those that count are thresholds/{_THE_THRESHOLDS}"
        )
    if isinstance(document.spec, Approvals) and document.spec.roles:
        for role in document.spec.holders.keys() - set(document.spec.roles):
            yield (
                f"{source.place_of(f'spec.holders.{role}')}: spec.holders: nobody is asked for the role {role!r}; "
                f"roles are {', '.join(document.spec.roles)}, and of one without holders the approval's word is taken"
            )


def _other_names(source: Source, policies: Policies) -> Iterator[str]:
    """Aliases: the policy covers what is recorded of them, which may be more than is written."""
    scope = source.document.scope
    found: list[tuple[str, str, Mapped]] = [
        *(("services", name, service(name, policies)) for name in scope.services),
        *(("environments", name, environment(name, policies)) for name in scope.environments),
        *(("regions", name, region(name, policies)) for name in scope.regions),
    ]
    for field, name, mapped in found:
        if plain(mapped.name) != plain(name):
            yield (
                f"{source.place_of(f'spec.scope.{field}')}: spec.scope.{field}: {name!r} is recorded as "
                f"{mapped.name!r} ({mapped.by}), and all of that is covered; write {mapped.name}"
            )


def _undescribed(source: Source, policies: Policies) -> Iterator[str]:
    services = [d for d in policies.of_kind("service") if isinstance(d.spec, Service)]
    if not services:
        return  # nobody describes services here
    names = [d.name for d in services]
    document, scope = source.document, source.document.scope
    told = {
        "scope.services": [n for n in scope.services if policies.services.find(n) is None],
        "scope.teams": _missing(scope.teams, [d.spec.team for d in services]),
        "scope.tiers": _missing(scope.tiers, [d.spec.tier for d in services]),
    }
    candidates = {"scope.services": names, "scope.teams": [d.spec.team for d in services]}
    if isinstance(document.spec, Service):
        told["depends_on"] = [n for n in document.spec.depends_on if n not in names]
        told["regimes"] = [n for n in document.spec.regimes if policies.document("regime", n) is None]
        candidates |= {"depends_on": names, "regimes": [d.name for d in policies.of_kind("regime")]}
    if isinstance(document.spec, Retention):
        under = [name for d in services for name in d.spec.regimes]
        told["regimes"] = [n for n in document.spec.regimes if n not in under]
        candidates["regimes"] = under
    for field, missing in told.items():
        for name in missing:
            near = _near(name, candidates.get(field, []))
            yield f"{source.place_of(f'spec.{field}')}: spec.{field}: no policy here knows {name!r}{near}"


def _missing(asked: Iterable[str], known: Iterable[str]) -> list[str]:
    have = {plain(one) for one in known}
    return [one for one in asked if plain(one) not in have]


def _near(name: str, known: Iterable[str]) -> str:
    by_plain = {plain(one): one for one in known}
    near = get_close_matches(plain(name), by_plain, n=1, cutoff=0.7)
    return f"; did you mean {by_plain[near[0]]}?" if near else ""
