"""What a batch appends: written before it is, so that whoever comes after a crash appends the same. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from deploytrail_sinks.archive.log.canonical import canonical

FORMAT = "1"


class PlanError(Exception):
    """A plan that cannot be read."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A segment of a batch: its object, how many entries it takes, and which offset comes behind it.

    Or another object that is entered, by one entry; the offset is then its number and one.
    """

    name: str
    sha256: str
    entries: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The segments that are appended at index `start`, in order."""

    start: int
    segments: tuple[Planned, ...]

    @property
    def end(self) -> int:
        """The size of the tree behind the batch."""
        return self.start + sum(segment.entries for segment in self.segments)

    def first_entries(self) -> list[tuple[int, Planned]]:
        """Each segment with the index of its first entry."""
        found, index = [], self.start
        for segment in self.segments:
            found.append((index, segment))
            index += segment.entries
        return found

    def encode(self) -> bytes:
        """The bytes of the plan's object."""
        rows = [
            {"entries": s.entries, "name": s.name, "next_offset": str(s.next_offset), "sha256": s.sha256}
            for s in self.segments
        ]
        return canonical({"format": FORMAT, "segments": rows, "start": self.start}) + b"\n"


def read_plan(data: bytes) -> Plan:
    """The plan of bytes; PlanError where they are not exactly those of a plan."""
    try:
        given: Any = json.loads(data)
        rows = tuple(
            Planned(row["name"], row["sha256"], row["entries"], int(row["next_offset"])) for row in given["segments"]
        )
        plan = Plan(given["start"], rows)
        if any(type(value) is not str for row in rows for value in (row.name, row.sha256)):
            raise PlanError("names something that is no object")
        if any(type(number) is not int for number in (plan.start, *(row.entries for row in rows))):
            raise PlanError("counts in something that is no number")
        if given["format"] != FORMAT or plan.encode() != data or any(row.entries < 1 for row in rows) or not rows:
            raise PlanError("is not written as a plan is")
    except PlanError:
        raise
    except Exception as error:  # damaged bytes can be any JSON
        raise PlanError(f"cannot be read: {type(error).__name__}") from error
    return plan


def encode_positions(size: int, positions: dict[str, int]) -> bytes:
    """The bytes that remember how far each sequence of segments is in the tree of a size."""
    offsets = {folder: str(offset) for folder, offset in positions.items()}
    return canonical({"format": FORMAT, "positions": offsets, "size": size}) + b"\n"


def read_positions(data: bytes) -> dict[str, int]:
    """The first offset behind what is in the log, by folder; PlanError."""
    try:
        return {str(folder): int(offset) for folder, offset in json.loads(data)["positions"].items()}
    except Exception as error:
        raise PlanError(f"cannot be read: {type(error).__name__}") from error
