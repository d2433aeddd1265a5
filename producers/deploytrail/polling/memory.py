"""What a poller remembers over restarts: how far it came, what was open, which records it has published.

One JSON file, replaced as a whole and fsynced, after what it tells of is durable in Kafka: a crash in
between publishes some records again, which are known by their ids. Losing the file costs one look back.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploytrail_schemas.errors import ConfigurationError

_VERSION = 1


@dataclass(slots=True)
class Progress:
    """Of one project. `reached`: µs up to which a whole round has looked; 0 before the first. `open`: thing → µs
    since when. `published`: record id → µs when it was last met. `held`: record id → µs since when its webhook has time
    to come first."""

    reached: int = 0
    open: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


class Memory:
    """The progress of every project of one poller."""

    def __init__(self, path: Path) -> None:
        """ConfigurationError where the file is there and cannot be read: nothing is overwritten unseen."""
        self._path = path
        self._projects: dict[str, Progress] = {}
        if path.exists():
            try:
                self._projects = {name: _progress(item) for name, item in _read(path).items()}
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise ConfigurationError(
                    f"{path} is no memory of a poller ({error}); move it away: then the next round is as the first"
                ) from error

    def of(self, source: str, project: str) -> Progress:
        """The progress of a project, to be changed in place and then saved."""
        return self._projects.setdefault(f"{source} {project}", Progress())

    def save(self) -> None:
        """Write all of it, so that a crash leaves the old or the new."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        data = {name: asdict(progress) for name, progress in self._projects.items()}
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, "projects": data}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text("utf-8"))
    if value["version"] != _VERSION:
        raise ValueError(f"version {value['version']}")
    projects: dict[str, Any] = value["projects"]
    return projects


def _progress(item: dict[str, Any]) -> Progress:
    times = [{str(k): int(v) for k, v in item[name].items()} for name in ("open", "published", "held")]
    return Progress(int(item["reached"]), *times)
