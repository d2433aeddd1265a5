"""What a look at an archive and its log saw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """What reading a segment gave: its digest, the offset behind it, and its entries as one digest of leaf hashes."""

    sha256: str
    next_offset: int
    entries: int
    leaves: bytes
    newest_ms: int = 0  # time of its newest record; zero where it has none
    retain_until: str = ""  # the date that it was created with


@dataclass(slots=True)
class LogReport:
    """What was looked at in the log."""

    entries: int = 0  # that the newest published checkpoint covers
    root: str = ""  # of the tree of these entries, in base64 as the checkpoint has it
    unpublished: int = 0  # entries behind it
    checkpoints: int = 0
    trusted: bool = False  # whether signatures were checked with somebody's keys
    timestamps: int = 0
    oldest_stamp: str = ""  # times of those that a trusted authority made (RFC 3339); empty where nobody is trusted
    newest_stamp: str = ""
    stamped: int = 0  # entries that one of them covers
    uncovered_segments: int = 0  # not in the log yet
    minimum_index: int = 0  # entries before it need not be there: they were pruned, with a receipt
