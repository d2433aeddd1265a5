"""Which services need which: the graph that service policies declare, walked in both directions.

In: of each service those that it cannot do without. Out: how far one is from another, and everything that stands on
one. Each service is visited once, by its shortest way, so cycles end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

# How many steps away a dependency is still remembered for `distance`: further ones are no candidates for causes.
FAR = 2
# Radii of so many services are kept: each may name every other.
_REMEMBERED = 256


class Reached(NamedTuple):
    """A service that stands on another: in how many steps, and by way of which one (itself at the first step)."""

    service: str
    depth: int
    way: str


@dataclass(frozen=True)
class Graph:
    """`needs`: of each service those that it depends on."""

    needs: Mapping[str, tuple[str, ...]]

    @cached_property
    def needed_by(self) -> dict[str, tuple[str, ...]]:
        """Of each service those that declare to depend on it."""
        found: dict[str, set[str]] = {}
        for service, needed in self.needs.items():
            for name in needed:
                found.setdefault(name, set()).add(service)
        return {name: tuple(sorted(services)) for name, services in found.items()}

    @cached_property
    def _near(self) -> dict[str, dict[str, int]]:
        return {}

    def distance(self, service: str, dependency: str) -> int | None:
        """In how many steps a service needs another: 0 for itself; None for more than `FAR`, or not at all."""
        if service not in self._near:
            self._near[service] = {service: 0, **{one.service: one.depth for one in _walk(self.needs, service, FAR)}}
        return self._near[service].get(dependency)

    @cached_property
    def _radii(self) -> dict[str, tuple[tuple[Reached, ...], bool]]:
        return {}

    def stand_on(self, service: str) -> tuple[Reached, ...]:
        """Every other service that needs this one, at first hand or by way of others; the nearest first."""
        return self._radius(service)[0]

    def is_in_a_cycle(self, service: str) -> bool:
        """Whether a service needs itself by way of others."""
        return self._radius(service)[1]

    def _radius(self, service: str) -> tuple[tuple[Reached, ...], bool]:
        if service not in self._radii:
            found = tuple(_walk(self.needed_by, service, None))
            cycle = any(service in self.needed_by.get(one.service, ()) for one in found)
            if len(self._radii) >= _REMEMBERED:
                self._radii.clear()
            self._radii[service] = found, cycle
        return self._radii[service]


def _walk(edges: Mapping[str, tuple[str, ...]], start: str, deepest: int | None) -> list[Reached]:
    """Everything that the edges lead to from a start, breadth first, in order of depth and name."""
    seen, found = {start}, []
    level, depth = [Reached(start, 0, start)], 0
    while level and (deepest is None or depth < deepest):
        depth += 1
        following: list[Reached] = []
        for one in level:
            for name in edges.get(one.service, ()):
                if name not in seen:
                    seen.add(name)
                    following.append(Reached(name, depth, name if depth == 1 else one.service))
        level = sorted(following)
        found.extend(level)
    return found
