"""`deploytrail sink archive`."""

from __future__ import annotations

from deploytrail_sinks.archive.sink import ArchiveSink
from deploytrail_sinks.serving import serve


def main(argv: list[str]) -> int:
    """The exit code of the sink."""
    return serve("archive", argv, ArchiveSink)
