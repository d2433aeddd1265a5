"""Regions and their partitions: one partition is one region, so that a region has one total order."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings

OTHER = 0


@dataclass(frozen=True, slots=True)
class RegionMap:
    """Which partition each region has; every region without one shares partition 0."""

    numbers: dict[str, int]
    partitions: int
    backfill_partition: int

    @classmethod
    def from_settings(cls, settings: Settings) -> RegionMap:
        """The map of the settings; ConfigurationError where a number is out of range or taken twice."""
        numbers: dict[str, int] = {}
        for entry in filter(None, (part.strip() for part in settings.regions.split(","))):
            name, equals, digits = entry.partition("=")
            if not equals or not name.strip() or not digits.strip().isdecimal():
                raise ConfigurationError(f"DEPLOYTRAIL_REGIONS has {entry!r}; expected name=number")
            numbers[name.strip()] = int(digits)
        taken: dict[int, str] = {settings.backfill_partition: "backfilled history"}
        for name, number in numbers.items():
            if not 0 < number < settings.partitions:
                raise ConfigurationError(
                    f"DEPLOYTRAIL_REGIONS gives {name} partition {number}; expected 1 to {settings.partitions - 1}"
                )
            if number in taken:
                raise ConfigurationError(
                    f"DEPLOYTRAIL_REGIONS gives partition {number} to {name}, but {taken[number]} has it"
                )
            taken[number] = name
        if not 0 < settings.backfill_partition < settings.partitions:
            raise ConfigurationError(
                f"DEPLOYTRAIL_BACKFILL_PARTITION is {settings.backfill_partition}; "
                f"expected 1 to {settings.partitions - 1}"
            )
        return cls(numbers, settings.partitions, settings.backfill_partition)

    def partition_of(self, region: str) -> int:
        """The partition of a region; 0 for one that has none of its own."""
        return self.numbers.get(region, OTHER)

    def knows(self, region: str) -> bool:
        """Whether a region has a partition of its own."""
        return region in self.numbers

    def regions_of(self, partition: int) -> list[str]:
        """The regions that have this partition."""
        return [name for name, number in self.numbers.items() if number == partition]
