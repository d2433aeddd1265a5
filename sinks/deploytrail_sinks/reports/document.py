"""What a report is made of: facts, and tables of text. Rows may be many: they are kept in a file, not in memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

Row = tuple[str, ...]


class Rows(Protocol):
    """Rows that can be read as often as wanted."""

    def __iter__(self) -> Iterator[Row]: ...

    def __len__(self) -> int: ...


class Spooled:
    """Rows in a temporary file that goes with this object."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as this
        self._count = 0

    def append(self, row: Sequence[str]) -> None:
        """One more row, behind all others. OSError where the folder of temporary files has no room."""
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(row).encode() + b"\n")
        except OSError as error:
            raise no_room(error) from error
        self._count += 1

    def __iter__(self) -> Iterator[Row]:
        at = 0
        while True:
            self._file.seek(at)  # somebody else may read as well
            line = self._file.readline()
            if not line:
                return
            at += len(line)
            yield tuple(json.loads(line))

    def __len__(self) -> int:
        return self._count


def no_room(error: OSError) -> OSError:
    """The same error, with what to do."""
    said = f"cannot keep the rows of the report: {error.strerror}; set TMPDIR to a folder with room"
    return OSError(error.errno, said, tempfile.gettempdir())


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report. `name`: as `--table` calls it. `note`: what it is, in a sentence."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Rows
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A report. `facts`: label and text. `main`: the table that CSV gives where none is named."""

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    main: str
    pictures: tuple[str, ...] = field(default=())  # SVG

    def table(self, name: str) -> Table:
        """A table by its name; KeyError for another."""
        return {table.name: table for table in self.tables}[name]

    def names(self) -> list[str]:
        """The names of all tables."""
        return [table.name for table in self.tables]


def rows(of: Iterable[Sequence[str]]) -> list[Row]:
    """Rows that are few."""
    return [tuple(row) for row in of]
