"""`make truth TRUTH=clocks`: clocks that are known to be wrong, by how much, and what is made of them.

Seeds to tune on are 1 to 6; those that are reported are 101 to 112, and nothing is tuned on them.
"""

from __future__ import annotations

from truth.clock_score import Score, Verdicts, decide, score, total
from truth.clock_ways import WAYS
from truth.clocks import GROUPS, simulate

TUNED_ON, REPORTED = range(1, 7), range(101, 113)
SKEWED = tuple(g.name for g in GROUPS if g.says_sent and g.clock in ("off", "hours", "little"))
GOOD = tuple(g.name for g in GROUPS if g.clock in ("good", "ntp", "vendor"))
MS = 1000


def print_tables(words: list[str]) -> int:
    """Print them; `tune` prints them for the seeds to tune on. Exit status 1 where an aim is missed."""
    seeds = TUNED_ON if "tune" in words else REPORTED
    scores: dict[str, dict[str, Score]] = {name: {} for name in WAYS}
    verdicts = {name: Verdicts() for name in WAYS}
    for seed in seeds:
        records = simulate(seed)
        for name, way in WAYS.items():
            corrected = way(records)
            score(records, corrected, scores[name])
            decide(records, corrected, verdicts[name])
    ours, decided = scores["deploytrail"], verdicts["deploytrail"]
    _by_group(f"{len(seeds)} simulations, seeds {seeds[0]} to {seeds[-1]}", ours)
    _by_way(scores, verdicts)
    return _aims(ours, decided)


def _by_group(title: str, scores: dict[str, Score]) -> None:
    print(f"\n{title}: by the clock rule; milliseconds")
    print(
        f"  {'producers':<30}{'events':>8}{'inside ±':>10}{'raw error':>12}{'error':>9}{'99th':>10}{'±':>9}"
        f"{'± bound':>9}"
    )
    rows = [(group.name, scores[group.name]) for group in GROUPS] + [("all", total(scores.values()))]
    for name, found in rows:
        before = Score(errors=found.before).error
        print(
            f"  {name:<30}{len(found.errors):>8}{found.coverage:>10.2%}{before / MS:>12,.1f}{found.error / MS:>9,.1f}"
            f"{found.worst_error / MS:>10,.0f}{found.width / MS:>9,.0f}"
            f"{found.bound_width / MS if found.bound_widths else float('nan'):>9,.0f}"
        )


def _by_way(scores: dict[str, dict[str, Score]], verdicts: dict[str, Verdicts]) -> None:
    print("\nwhat follows, next to two customs (each taken as sure to a second)")
    print(
        f"  {'':<16}{'inside ±':>10}{'error':>10}{'99th':>13}{'durations < 0':>15}{'unknown':>9}{'false outside':>15}"
        f"{'false inside':>14}{'uncertain':>11}  of"
    )
    for name, by_group in scores.items():
        found, decided = total(by_group.values()), verdicts[name]
        print(
            f"  {name:<16}{found.coverage:>10.2%}{found.error / MS:>10,.1f}{found.worst_error / MS:>13,.0f}"
            f"{decided.negative:>15}{decided.unknown:>9}{decided.false_outside:>15}{decided.false_inside:>14}"
            f"{decided.uncertain:>11}  {decided.asked}"
        )


def _aims(ours: dict[str, Score], decided: Verdicts) -> int:
    whole, skewed = total(ours.values()), total(ours[name] for name in SKEWED)
    good = total(ours[name] for name in GOOD)
    least = min(ours, key=lambda name: ours[name].coverage)
    aims = (
        (f"inside ± {whole.coverage:.2%}, aim 99 % or more", whole.coverage >= 0.99),
        (f"median ± of those bound on both sides {whole.bound_width / MS:.0f} ms, aim 250", whole.bound_width <= 250e3),
        (f"median error of skewed producers {skewed.error / MS:.0f} ms, aim 200", skewed.error <= 200e3),
        (f"good clocks made worse by {good.worse / MS:.0f} ms at most, aim 20", good.worse <= 20e3),
        (f"negative durations {decided.negative}, aim 0", decided.negative == 0),
        (f"false verdicts outside {decided.false_outside}, aim 0", decided.false_outside == 0),
    )
    print(f"\nleast often inside: {least}, {ours[least].coverage:.2%}")
    print(f"of all times that were right, made worse by more than 20 ms: {whole.spoilt} of {whole.right}")
    for words, met in aims:
        print(f"{words}: {'met' if met else 'missed'}")
    return 0 if all(met for _, met in aims) else 1
