"""What a rebuild keeps: rows of which Kafka holds the message no longer, also in what views once made of them.

Where a time to live took a row from its own table, what materialized views made of it is all that is left, and
what runs may hang on it. So tables and views' tables are copied one by one, before the replay: of rows that replace
each other and are equal, the one that comes last stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.clusters import is_topic
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.clickhouse.buffer import Offsets, Place
from deploytrail_sinks.clickhouse.tables import TOPIC_OF_TABLE


def filled(client: Client, database: str) -> dict[str, frozenset[Topic]]:
    """Every table that the sink fills, then those that materialized views fill from them, with their rows' topics."""
    query = "SELECT create_table_query FROM system.tables WHERE database = {d:String} AND engine = 'MaterializedView'"
    named = rf"`?{re.escape(database)}`?\.`?(\w+)"
    sources: dict[str, set[str]] = {}
    for (text,) in client.query(query, parameters={"d": database}).result_rows:
        if target := re.search(rf" TO {named}", str(text)):
            read = re.findall(rf"\b(?:FROM|JOIN) {named}", str(text))
            sources.setdefault(target[1], set()).update(read)

    def topics(table: str) -> frozenset[Topic]:
        if table in TOPIC_OF_TABLE:
            return frozenset({TOPIC_OF_TABLE[table]})
        return frozenset(topic for source in sources.get(table, ()) for topic in topics(source))

    return {table: topics(table) for table in (*TOPIC_OF_TABLE, *sorted(sources.keys() - TOPIC_OF_TABLE.keys()))}


@dataclass(frozen=True, slots=True)
class Keeping:
    """Copies rows from the tables in use, once before the replay and once behind it.

    `oldest`: the first offset that Kafka has, by partition. `stored`: how far the sink had come when this began;
    what it had not stored by then may come while the replay runs.
    """

    live: str
    shadow: str
    oldest: Offsets
    stored: Offsets

    def before(self, client: Client) -> None:
        """Copy what Kafka has lost and the sink had stored, and all of partitions that Kafka does not know."""
        for table, topics in filled(client, self.live).items():
            known = []
            for place in self._places(topics):
                known.append(place[1])
                if bound := self._bound(place):
                    self._copy(client, table, f"kafka_partition = {place[1]} AND kafka_offset < {bound}")
            others = f"kafka_partition NOT IN ({', '.join(map(str, sorted(set(known))))})" if known else "1"
            self._copy(client, table, others)

    def behind(self, client: Client, ends: Offsets) -> None:
        """Copy what the sink has stored since of what Kafka has lost, and all of partitions that were not replayed.

        `ends`: up to where the others were.
        """
        for table, topics in filled(client, self.live).items():
            for place in self._places(topics):
                bound, limit = self._bound(place), self.oldest[place]
                if place not in ends:
                    self._copy(client, table, f"kafka_partition = {place[1]} AND kafka_offset >= {bound}")
                elif bound < limit:
                    where = f"kafka_partition = {place[1]} AND kafka_offset >= {bound} AND kafka_offset < {limit}"
                    self._copy(client, table, where)

    def _bound(self, place: Place) -> int:
        return min(self.oldest[place], self.stored.get(place, 0))

    def _places(self, topics: frozenset[Topic]) -> Iterator[Place]:
        return (place for place in sorted(self.oldest) if any(is_topic(place[0], topic) for topic in topics))

    def _copy(self, client: Client, table: str, where: str) -> None:
        # What was replaced already need not come again. Not of aggregates: FINAL gives their parts of any row.
        final = " FINAL" if "Replacing" in _engine(client, self.live, table) else ""
        client.command(f"INSERT INTO {self.shadow}.{table} SELECT * FROM {self.live}.{table}{final} WHERE {where}")


def _engine(client: Client, database: str, table: str) -> str:
    query = "SELECT engine FROM system.tables WHERE database = {d:String} AND name = {t:String}"
    return str(client.query(query, parameters={"d": database, "t": table}).result_rows[0][0])
