"""Which ClickHouse a row belongs to: the shard of its region, then of its service. Pure.

One partition of the trail is one region, so a whole range mostly has one shard; rows are looked at one
by one only where a partition mixes regions or a region has several shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploytrail_schemas.codec import DecodeError, decode_routing
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.regions import OTHER, RegionMap
from deploytrail_schemas.settings import Settings

if TYPE_CHECKING:
    from deploytrail_sinks.clickhouse.batches import Row

DEFAULT = 0  # the shard of DEPLOYTRAIL_CLICKHOUSE_URL


@dataclass(frozen=True, slots=True)
class Shards:
    """`hosts[n]`: the replicas of shard n. `by_region`: the shards that a region is spread over."""

    hosts: tuple[tuple[str, ...], ...]
    by_region: dict[str, tuple[int, ...]]
    regions: RegionMap

    @classmethod
    def from_settings(cls, settings: Settings) -> Shards:
        """ConfigurationError where the settings cannot be read."""
        hosts: list[tuple[str, ...]] = [urls(settings.clickhouse_url, "DEPLOYTRAIL_CLICKHOUSE_URL")]
        by_region: dict[str, tuple[int, ...]] = {}
        for entry in filter(None, (part.strip() for part in settings.clickhouse_shards.split(";"))):
            region, equals, places = entry.partition("=")
            region = region.strip()
            if not equals or not region or region in by_region:
                raise ConfigurationError(
                    f"DEPLOYTRAIL_CLICKHOUSE_SHARDS has {entry!r}; expected region=URL,URL|URL, each region once"
                )
            found = []
            for replicas in (urls(place, "DEPLOYTRAIL_CLICKHOUSE_SHARDS") for place in places.split("|")):
                if replicas not in hosts:
                    hosts.append(replicas)
                found.append(hosts.index(replicas))
            by_region[region] = tuple(found)
        return cls(tuple(hosts), by_region, RegionMap.from_settings(settings))

    def of(self, region: str, service: str) -> int:
        """The shard of a row; ClickHouse's `CRC32(service)` gives the same among a region's shards."""
        places = self.by_region.get(region, (DEFAULT,))
        return places[0] if len(places) == 1 else places[zlib.crc32(service.encode()) % len(places)]

    def split(self, partition: int, rows: list[Row]) -> dict[int, list[Row]]:
        """The rows of one range by shard, in their order. What cannot be read goes to the default one."""
        if len(self.hosts) == 1:
            return {DEFAULT: rows}
        names = self.regions.regions_of(partition) if partition != OTHER else []
        if len(names) == 1 and len(self.by_region.get(names[0], (DEFAULT,))) == 1:
            return {self.of(names[0], ""): rows}
        found: dict[int, list[Row]] = {}
        for row in rows:
            found.setdefault(self._of_row(row), []).append(row)
        return found

    def _of_row(self, row: Row) -> int:
        try:
            _, value = decode_routing(row.value)
        except DecodeError:
            return DEFAULT
        return self.of(str(value.get("region", "")), str(value.get("service", "")))


def urls(text: str, setting: str) -> tuple[str, ...]:
    """The URLs of the replicas of a shard; ConfigurationError where one is none."""
    found = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    if not found or any(not _is_url(url) for url in found):
        raise ConfigurationError(f"{setting} has {text!r}; expected http(s)://host:port, several separated by commas")
    return found


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def tables_suffix(settings: Settings) -> str:
    """Behind the name of the table that a shard itself holds: `_local` on a cluster."""
    return "_local" if settings.clickhouse_cluster else ""


def every_url(shards: Shards) -> Iterable[str]:
    """The replicas of each shard, separated by commas; the default one first."""
    return (",".join(replicas) for replicas in shards.hosts)
