"""`make truth`: every way of answering, on companies whose causes are known; with the word `clocks`, see clock_tables.

Seeds to tune on are 1 to 6; those that are reported are 101 to 112, and nothing is tuned on them.
"""

from __future__ import annotations

import sys

from truth import clock_tables
from truth.answers import WAYS
from truth.company import simulate
from truth.score import BINS, Score, first_of_each_incident, score

TUNED_ON, REPORTED = range(1, 7), range(101, 113)


def main(words: list[str]) -> int:
    """Print the tables, with `clocks` those of clocks, with `tune` for the seeds to tune on.

    Exit status 1 where an aim is missed.
    """
    if "clocks" in words:
        return clock_tables.print_tables(words)
    seeds = TUNED_ON if "tune" in words else REPORTED
    totals = {name: Score() for name in WAYS}
    incidents = {name: Score() for name in WAYS}
    for seed in seeds:
        company = simulate(seed)
        firsts = first_of_each_incident(company)
        for name, way in WAYS.items():
            answers = way(company)
            totals[name].add(score(company, answers))
            incidents[name].add(score(company, answers, firsts))
    _table(f"every alert of {len(seeds)} companies", totals)
    _table("the first alert of every incident", incidents)
    _reliability(totals["deploytrail"])
    ours = totals["deploytrail"].wrong
    best = min(found.wrong for name, found in totals.items() if name != "deploytrail")
    met = ours * 2 <= best
    print(f"\nerrors: {ours}, {ours / best:.2f} × the {best} of the best custom")
    print(f"aim: at most 0.50 ×: {'met' if met else 'missed'}")
    return 0 if met else 1


def _table(title: str, scores: dict[str, Score]) -> None:
    asked = next(iter(scores.values()))
    print(f"\n{title}: {asked.asked}, of which {asked.caused} were caused by a deployment")
    print(f"  {'':<26}{'errors':>8}{'precision':>11}{'recall':>9}{'right none':>12}{'Brier':>8}")
    for name, found in scores.items():
        print(
            f"  {name:<26}{found.wrong:>8}{found.precision:>11.3f}{found.recall:>9.3f}{found.right_none:>12.3f}"
            f"{found.brier / found.asked:>8.3f}"
        )


def _reliability(found: Score) -> None:
    print("\nreliability: of the first answers that were this sure, so many were right")
    for low, high, (count, right) in zip(BINS, BINS[1:], found.bins, strict=False):
        share = f"{right / count:.3f}" if count else "-"
        print(f"  {low:.1f} to {min(high, 1.0):.1f}: {count:>6} answers, {share} right")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
