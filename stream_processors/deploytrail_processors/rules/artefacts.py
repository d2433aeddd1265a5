"""Is what runs here what was deployed there? Artefacts are compared by digest, else by commit, else by version.

The answer may be that nobody can tell: a revision of a configuration repository says nothing of an image's tag, and a
tag such as `latest` names another artefact every day. What cannot be told accuses nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)
_PARTS = re.compile(r"[^0-9a-z]+", re.ASCII)
# Tags that are moved.
_MOVED = frozenset({"latest", "stable", "main", "master", "edge", "nightly", "dev", "develop", "prod", "production"})


@dataclass(frozen=True, slots=True, order=True)
class Artefact:
    """What runs, is declared or was deployed, as far as it is said."""

    digest: str = ""
    version: str = ""
    commit: str = ""

    def __bool__(self) -> bool:
        return bool(self.digest or self.version or self.commit)

    @property
    def name(self) -> str:
        """In words: its version, else the beginning of its digest or commit."""
        return self.version or self.digest[:19] or self.commit[:12]

    def is_same(self, other: Artefact) -> bool | None:
        """Whether both are one; None where it cannot be told."""
        if self.digest and other.digest:
            return self.digest == other.digest
        ours, theirs = self.version.lower().removeprefix("v"), other.version.lower().removeprefix("v")
        if ours and ours == theirs and ours not in _MOVED:
            return True
        if _share_a_commit(self, other):
            return True
        if not ours or not theirs or {ours, theirs} & _MOVED or "," in ours + theirs:
            return None
        if _COMMIT.fullmatch(ours) or _COMMIT.fullmatch(theirs):
            return None  # of which repository, nobody knows
        longer, shorter = sorted((ours, theirs), key=len, reverse=True)
        # 4.3.0 is what the image 4.3.0-ab12 was built of; 4.3 and 4.3.0 are two tags.
        return longer.startswith(shorter) and longer[len(shorter)] in "-+_"


def artefact_of(value: Mapping[str, Any]) -> Artefact:
    """The artefact that a record names."""
    return Artefact(value["artifact_digest"], value["version"], value["commit_sha"])


def any_is_same(ours: Iterable[Artefact], theirs: Iterable[Artefact]) -> bool | None:
    """Whether one of ours is one of theirs; None where that cannot be told."""
    others = list(theirs)
    found = {one.is_same(other) for one in ours for other in others}
    return True if True in found else None if None in found or not found else False


def _share_a_commit(one: Artefact, other: Artefact) -> bool:
    return any(
        len(ours) >= 7 and len(theirs) >= 7 and (ours.startswith(theirs) or theirs.startswith(ours))
        for ours in _commits(one)
        for theirs in _commits(other)
    )


def _commits(artefact: Artefact) -> list[str]:
    parts = _PARTS.split(artefact.version.lower())
    # A date, 20260101, is made of digits too.
    return [c for c in (artefact.commit.lower(), *parts) if _COMMIT.fullmatch(c) and not c.isdecimal()]
