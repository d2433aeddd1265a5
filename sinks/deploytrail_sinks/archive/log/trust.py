"""Whom to trust: the log's keys, the witnesses' keys, and how many of them (https://c2sp.org/tlog-policy). Pure.

log VKEY [URL]                      a key of the log; while one replaces another, both
witness NAME VKEY [URL]             a witness, and where checkpoints are submitted to it
group NAME all|any|NUMBER NAME …    this many of these witnesses or groups
quorum NAME|none                    which of them must have cosigned
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from deploytrail_schemas.errors import ConfigurationError

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, read_checkpoint
from deploytrail_sinks.archive.log.notes import KeyKind, Note, NoteError, Verifier, read_verifier, signers

NONE = "none"


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody else who remembers the log's checkpoints."""

    name: str
    verifier: Verifier
    url: str


@dataclass(slots=True)
class Trust:
    """What a trust file says."""

    logs: list[Verifier] = field(default_factory=list)
    witnesses: dict[str, Witness] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str = ""
    sequencers: list[Verifier] = field(default_factory=list)

    def cosigners(self, note: Note) -> set[str]:
        """The names of the witnesses that cosigned; NoteError where a cosignature is false."""
        found = signers([witness.verifier for witness in self.witnesses.values()], note)
        return {name for name, witness in self.witnesses.items() if witness.verifier in found}

    def is_enough(self, cosigned: Set[str]) -> bool:
        """Whether these witnesses make the quorum."""
        return self.quorum == NONE or self._speaks(self.quorum, cosigned)

    def _speaks(self, name: str, cosigned: Set[str]) -> bool:
        if name in self.witnesses:
            return name in cosigned
        needed, members = self.groups[name]
        return sum(self._speaks(member, cosigned) for member in members) >= needed

    def check(self, note: Note, *, quorum: bool = True) -> Checkpoint:
        """The checkpoint of a note that a key of its log signed and the quorum cosigned; NoteError.

        `quorum=False`: of an older checkpoint that a newer one is shown to follow; witnesses may have changed since.
        """
        checkpoint = read_checkpoint(note)
        own = [verifier for verifier in self.logs if verifier.name == checkpoint.origin]
        if not own:
            known = ", ".join(sorted({verifier.name for verifier in self.logs}))
            raise NoteError(f"is of the log {checkpoint.origin}; trusted: {known or 'none'}")
        if not signers(own, note):
            raise NoteError(f"is signed by no trusted key of {checkpoint.origin}")
        cosigned = self.cosigners(note)
        if quorum and not self.is_enough(cosigned):
            raise NoteError(
                f"is cosigned by {', '.join(sorted(cosigned)) or 'no witness'}, which is not the quorum {self.quorum}"
            )
        return checkpoint


def read_trust(text: str) -> Trust:
    """The trust of a file's text; ConfigurationError names the line."""
    trust = Trust()
    members: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or (words[0].startswith("#") and words[0] != "#sequencer"):
            continue
        try:
            _take(trust, members, words)
        except (ConfigurationError, ValueError) as error:
            raise ConfigurationError(f"trust file, line {number}: {error}") from None
    if not trust.quorum:
        raise ConfigurationError("the trust file has no line `quorum NAME`; expected one, `quorum none` for no witness")
    return trust


def _take(trust: Trust, members: set[str], words: list[str]) -> None:
    match words:
        case ["log", key, *more] if len(more) < 2:
            verifier = read_verifier(key)
            _new_key(trust, verifier)
            trust.logs.append(verifier)
        case ["witness", name, key, *more] if len(more) < 2:
            verifier = read_verifier(key)
            _new_name(trust, name)
            _new_key(trust, verifier)
            if verifier.kind is KeyKind.ED25519:
                raise ValueError(f"the key of witness {name} is of a kind that signs no time; expected a cosigner's")
            trust.witnesses[name] = Witness(name, verifier, more[0] if more else "")
        case ["group", name, needed, *names] if names:
            _new_name(trust, name)
            for member in names:
                _known(trust, member)
                if member in members:
                    raise ValueError(f"{member} is a member twice")
                members.add(member)
            count = {"all": len(names), "any": 1}.get(needed) or (int(needed) if needed.isdecimal() else 0)
            if not 1 <= count <= len(names):
                raise ValueError(f"{needed} of {len(names)} members cannot be; expected all, any, or a number up to it")
            trust.groups[name] = count, tuple(names)
        case ["#sequencer", key]:
            trust.sequencers.append(read_verifier(key))
        case ["quorum", name]:
            if trust.quorum:
                raise ValueError("a second quorum; expected one")
            if name != NONE:
                _known(trust, name)
            trust.quorum = name
        case _:
            raise ValueError(f"{words[0][:40]!r} … is not understood; expected log, witness, group or quorum")


def _new_name(trust: Trust, name: str) -> None:
    if name == NONE or name in trust.witnesses or name in trust.groups:
        raise ValueError(f"the name {name} is taken")


def _new_key(trust: Trust, verifier: Verifier) -> None:
    known = [*trust.logs, *(witness.verifier for witness in trust.witnesses.values())]
    if any(verifier.public == other.public for other in known):
        raise ValueError(f"the key of {verifier.name} is there twice")


def _known(trust: Trust, name: str) -> None:
    if name not in trust.witnesses and name not in trust.groups:
        raise ValueError(f"{name} is not defined above")
