"""The demo's summary: planted against found, ids through every hop, times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of thing: how many were planted, found, missed and invented. `holds` None: only counted."""

    what: str
    planted: int
    found: int
    missed: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()
    holds: bool | None = True

    @classmethod
    def compare(cls, what: str, planted: Iterable[str], found: Iterable[str], *, counts: bool = True) -> Row:
        """A row of two sets; `counts` False: shown, but the summary does not depend on it."""
        wanted, got = frozenset(planted), frozenset(found)
        missed, invented = tuple(sorted(wanted - got)), tuple(sorted(got - wanted))
        holds = not missed and not invented
        return cls(what, len(wanted), len(got), missed, invented, holds if counts else None)


@dataclass(frozen=True, slots=True)
class Hop:
    """Distinct ids by kind of record at one hop; None where this hop does not keep the kind."""

    name: str
    ids: dict[str, frozenset[str] | None]


@dataclass(slots=True)
class Summary:
    """What the demo prints, and whether it holds."""

    rows: list[Row] = field(default_factory=list)
    hops: list[Hop] = field(default_factory=list)
    answers: list[tuple[str, list[str]]] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """What does not hold, in words."""
        found = [
            f"{row.what}: planted {row.planted}, found {row.found}; "
            f"missed {_few(row.missed)}; invented {_few(row.invented)}"
            for row in self.rows
            if row.holds is False
        ]
        first = self.hops[0] if self.hops else None
        for hop in self.hops[1:]:
            assert first is not None
            for kind, ids in hop.ids.items():
                wanted = first.ids[kind] or frozenset()
                if ids is not None and ids != wanted:
                    found.append(
                        f"{kind}s {hop.name}: {len(ids)} instead of {len(wanted)}; "
                        f"missing {_few(sorted(wanted - ids))}; unexpected {_few(sorted(ids - wanted))}"
                    )
        return found

    @property
    def holds(self) -> bool:
        """Whether everything that was planted was found, nothing was invented, and no hop lost or added an id."""
        return bool(self.rows) and bool(self.hops) and not self.failures

    def text(self) -> str:
        """The tables."""
        return "\n".join([*self._found(), "", *self._hops(), "", *self._asked(), *self._times(), "", self._verdict()])

    def _found(self) -> list[str]:
        lines = ["PLANTED AGAINST FOUND", f"  {'':<52}{'planted':>9}{'found':>9}"]
        for row in self.rows:
            mark = {True: "", False: "   DIFFERS", None: "   (counted only)"}[row.holds]
            lines.append(f"  {row.what:<52}{row.planted:>9}{row.found:>9}{mark}")
        return lines

    def _hops(self) -> list[str]:
        kinds = list(self.hops[0].ids) if self.hops else []
        lines = ["DISTINCT IDS THROUGH EVERY HOP", "  " + f"{'':<22}" + "".join(f"{kind + 's':>16}" for kind in kinds)]
        for hop in self.hops:
            counts = [hop.ids.get(kind) for kind in kinds]
            lines.append(f"  {hop.name:<22}" + "".join(f"{'–' if ids is None else len(ids):>16}" for ids in counts))
        return lines

    def _asked(self) -> list[str]:
        lines = []
        for question, answer in self.answers:
            lines += [question, *(f"  {line}" for line in answer), ""]
        return lines

    def _times(self) -> list[str]:
        return ["TIMES", *(f"  {what:<52}{seconds:>8.1f} s" for what, seconds in self.times)]

    def _verdict(self) -> str:
        if self.holds:
            return "Everything planted was found, nothing was invented, no hop lost a record."
        return "\n".join(["THE SUMMARY DOES NOT HOLD", *(f"  {failure}" for failure in self.failures)])


def _few(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) or "none") + more
