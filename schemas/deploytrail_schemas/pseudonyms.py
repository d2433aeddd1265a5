"""Personal names replaced by stable pseudonyms before a record is stored anywhere for good.

What is in the archive stays, so a name that may have to go must never get there. Which pseudonym is whose
stands in an ordinary table, a SQLite file of whoever runs the gateway; erasing a row of it erases the person from
the whole trail. Pseudonyms are random, not derived: without the table nobody can try names out.
"""

from __future__ import annotations

import base64
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Set
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.known_names import KnownNames, words_of
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields

# Where a record names a person, and in which field it says that it is none.
PERSONAL = {
    RecordType.DEPLOYMENT_EVENT: (("deployer", "deployer_type"),),
    RecordType.APPROVAL: (("approver", ""),),
}
# Names of things, which policies and rules know them by: that somebody is called as a service is must not rename it.
_OF_THINGS = frozenset(
    {"region", "environment", "service", "reported_region", "reported_environment", "reported_service", "team", "tier"}
    | {"cluster", "cohort", "source", "stage", "build_system", "reporter", "producer_id", "pipeline", "job"}
    # And of tags and labels, as Prometheus and Kubernetes call them:
    | {"alertname", "app", "component", "container", "daemonset", "deployment", "env", "exporter", "group", "host"}
    | {"hostname", "image", "namespace", "node", "pod", "product", "project", "replicaset", "rule", "statefulset"}
)
_PSEUDONYM = re.compile(r"person-[a-z2-7]{16}")
_PATIENCE = 10.0  # seconds
_TICK_NS = 50_000_000  # file systems tell times by ticks of the kernel, 10 ms at most


class NameMap:
    """The table of names and pseudonyms; several processes and threads may use it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None  # the state of the file that was read
        self._read_to = (-1, 0)  # its erasures and its last row, as far as it was read
        self._by_name: dict[str, str] = {}
        self._known = KnownNames()

    def pseudonym(self, name: str) -> str:
        """Whose name it is, by a pseudonym: the same for the same name, made at its first use. RetryLater."""
        key = _key(name)
        self.known()
        if (known := self._by_name.get(key)) is not None:
            return known
        with self._open() as table:
            found = table.execute("SELECT pseudonym FROM names WHERE name = ?", (key,)).fetchone()
            if found is None:
                fresh = f"person-{base64.b32encode(os.urandom(10)).decode().lower()}"
                made = datetime.now(UTC).isoformat(timespec="seconds")
                # Somebody else may have made one meanwhile: his counts.
                table.execute("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", (key, fresh, made))
                found = table.execute("SELECT pseudonym FROM names WHERE name = ?", (key,)).fetchone()
        return str(found[0])

    def known(self) -> KnownNames:
        """Every name that is in the table now; it is read again only where its file has changed. RetryLater."""
        with self._lock:
            state = self._state()
            if state is None or state != self._seen:
                self._read()
                # Who writes in the same tick of the clock leaves the same time: until it is over, read again.
                settled = state is not None and time.time_ns() - state[1] > _TICK_NS
                self._seen = state if settled else None
            return self._known

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        """Take what was added; all of it anew once somebody was erased, which may number the rows anew, too."""
        rows = "SELECT rowid, name, pseudonym FROM names WHERE rowid > ? ORDER BY rowid"
        with self._open() as table:
            erasures = int(table.execute("PRAGMA user_version").fetchone()[0])
            count = int(table.execute("SELECT count(*) FROM names").fetchone()[0])
            before, last = self._read_to
            found = table.execute(rows, (last,)).fetchall() if erasures == before else []
            if erasures != before or len(self._by_name) + len(found) != count:
                last, self._by_name, self._known = 0, {}, KnownNames()
                found = table.execute(rows, (last,)).fetchall()
        for _, name, pseudonym in found:
            self._by_name[name] = pseudonym
            self._known.add(name, pseudonym)
        self._read_to = erasures, found[-1][0] if found else last

    def find(self, name: str) -> str | None:
        """The pseudonym of a name that is in the table."""
        with self._open() as table:
            found = table.execute("SELECT pseudonym FROM names WHERE name = ?", (_key(name),)).fetchone()
        return None if found is None else str(found[0])

    def name_of(self, pseudonym: str) -> str | None:
        """Who it is, as long as that is known."""
        with self._open() as table:
            found = table.execute("SELECT name FROM names WHERE pseudonym = ?", (pseudonym,)).fetchone()
        return None if found is None else str(found[0])

    def erase(self, name: str) -> str | None:
        """Forget a name for good, its bytes in the file too. The pseudonym that is nobody's now, or None."""
        pseudonym = self.find(name)
        with self._open() as table:
            table.execute("DELETE FROM names WHERE name = ?", (_key(name),))
            _count_erasure(table)
        with self._open() as table:
            table.execute("VACUUM")
            _count_erasure(table)
        return pseudonym

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as table, table:
                yield table
        except sqlite3.OperationalError as error:
            raise RetryLater(f"the map of names {self._path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{self._path} is no map of names: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        table = sqlite3.connect(self._path, timeout=_PATIENCE)
        # Nothing of an erased name may stay in free pages or beside the file.
        table.execute("PRAGMA secure_delete = ON")
        table.execute("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, pseudonym TEXT UNIQUE, made TEXT)")
        return table


def pseudonymised(kind: RecordType, value: dict[str, Any], names: NameMap) -> dict[str, Any]:
    """The value with pseudonyms for the people whom it names, and for everybody else in the map whom one of its texts
    names; the same object where there is nobody. RetryLater.

    A name of one word that also is a word of what its service, environment or the like is called means that thing.
    """
    own = {
        field: names.pseudonym(value[field])
        for field, kind_field in PERSONAL.get(kind, ())
        if value.get(field) and value.get(kind_field) != "automation" and not _PSEUDONYM.fullmatch(value[field])
    }
    known, words = names.known(), _words_of_enums(kind)
    if not known.may_be_in(_texts(value, words | own.keys())):
        return {**value, **own} if own else value
    spared = words_of(_names_of_things(value))

    def cleaned(item: Any) -> Any:
        if isinstance(item, str):
            return known.replaced(item, spared=spared)
        if isinstance(item, dict):
            return {known.replaced(name, of_several_words=True): of_field(name, v) for name, v in item.items()}
        return [cleaned(v) for v in item] if isinstance(item, list) else item

    def of_field(field: str, item: Any) -> Any:
        is_of_a_thing = field in _OF_THINGS and isinstance(item, str)
        return known.replaced(item, of_several_words=True) if is_of_a_thing else cleaned(item)

    kept = {field: own.get(field, value[field]) for field in words | own.keys() if field in value}
    return {field: kept[field] if field in kept else of_field(field, item) for field, item in value.items()}


def _names_of_things(value: dict[str, Any]) -> Iterator[str]:
    for field, item in value.items():
        if isinstance(item, dict):
            yield from _names_of_things(item)
        elif field in _OF_THINGS and isinstance(item, str):
            yield item


def _texts(value: dict[str, Any], but: Set[str]) -> Iterator[str]:
    for field, item in value.items():
        if field in but or not item:
            continue
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from _texts(item, frozenset())
            yield from item
        elif isinstance(item, list):
            yield from (one for one in item if isinstance(one, str))


@cache
def _words_of_enums(kind: RecordType) -> frozenset[str]:
    """The fields whose words our schema gives."""
    return frozenset(
        field["name"] for field in fields(kind) if isinstance(field["type"], dict) and field["type"]["type"] == "enum"
    )


def _count_erasure(table: sqlite3.Connection) -> None:
    erasures = int(table.execute("PRAGMA user_version").fetchone()[0])
    table.execute(f"PRAGMA user_version = {(erasures + 1) % (1 << 31)}")


def _key(name: str) -> str:
    """Ada@Example.com and ada@example.com are one person."""
    return name.strip().casefold()
