"""A simulated day of a company: what its producers would have reported, and what truly happened.

In: a seed. Out: the lines that `deploytrail backfill` reads, and the ground truth to compare with.
Pure: the same seed gives the same bytes on every machine.
"""

from deploytrail_local.simulation.day import Line, simulate, write_lines
from deploytrail_local.simulation.truth import Alert, Deployment, GroundTruth
from deploytrail_local.simulation.world import DAY, PRODUCERS, REGIONS, SERVICES

__all__ = [
    "DAY",
    "PRODUCERS",
    "REGIONS",
    "SERVICES",
    "Alert",
    "Deployment",
    "GroundTruth",
    "Line",
    "simulate",
    "write_lines",
]
