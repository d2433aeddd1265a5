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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.records import RecordType

# Where a record names a person, and in which field it says that it is none.
PERSONAL = {
    RecordType.DEPLOYMENT_EVENT: (("deployer", "deployer_type"),),
    RecordType.APPROVAL: (("approver", ""),),
}
_PSEUDONYM = re.compile(r"person-[a-z2-7]{16}")
_SHORTEST = 3  # letters of a name that is looked for in other texts too
_PATIENCE = 10.0  # seconds


class NameMap:
    """The table of names and pseudonyms; several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()

    def pseudonym(self, name: str) -> str:
        """Whose name it is, by a pseudonym: the same for the same name, made at its first use. RetryLater."""
        key = _key(name)
        with self._open() as table:
            found = table.execute("SELECT pseudonym FROM names WHERE name = ?", (key,)).fetchone()
            if found is None:
                fresh = f"person-{base64.b32encode(os.urandom(10)).decode().lower()}"
                made = datetime.now(UTC).isoformat(timespec="seconds")
                # Somebody else may have made one meanwhile: his counts.
                table.execute("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", (key, fresh, made))
                found = table.execute("SELECT pseudonym FROM names WHERE name = ?", (key,)).fetchone()
        return str(found[0])

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
        with self._open() as table:
            table.execute("VACUUM")
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


def pseudonymised(kind: RecordType, value: dict[str, Any], pseudonym: Callable[[str], str]) -> dict[str, Any]:
    """The value with pseudonyms for the people whom it names, also where another text of it repeats their names."""
    people: dict[str, str] = {}
    for field, kind_field in PERSONAL.get(kind, ()):
        name = value.get(field)
        if name and value.get(kind_field) != "automation" and not _PSEUDONYM.fullmatch(name):
            people[name] = pseudonym(name)
    if not people:
        return value
    spoken = sorted((name for name in people if len(name) >= _SHORTEST), key=len, reverse=True)
    pattern = (
        re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in spoken), re.IGNORECASE) if spoken else None
    )
    by_key = {_key(name): found for name, found in people.items()}

    def replaced(item: Any) -> Any:
        if isinstance(item, str):
            return pattern.sub(lambda found: by_key.get(_key(found[0]), found[0]), item) if pattern else item
        if isinstance(item, dict):
            return {replaced(k): replaced(v) for k, v in item.items()}
        return [replaced(v) for v in item] if isinstance(item, list) else item

    personal = {field for field, _ in PERSONAL[kind]}
    return {field: people.get(item, item) if field in personal else replaced(item) for field, item in value.items()}


def _key(name: str) -> str:
    """Ada@Example.com and ada@example.com are one person."""
    return name.strip().casefold()
