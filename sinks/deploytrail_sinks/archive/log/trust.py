"""Whom to trust: the log's keys, the witnesses' keys, and how many of them (https://c2sp.org/tlog-policy). Pure.

log VKEY [URL]                      a key of the log; while one replaces another, both
#retired VKEY SIZE                  a key of the log that was replaced: it counts for trees of up to SIZE entries
#sequencer VKEY [SIZE]              a key of the sequencer; with SIZE a retired one
witness NAME VKEY [URL]             a witness, and where checkpoints are submitted to it
group NAME all|any|NUMBER NAME …    this many of these witnesses or groups
quorum NAME|none                    which of them must have cosigned

The end of a retired key is a size, not a time: the size is signed, and a time would be what whoever stole the key says
it is. Up to its end a stolen key could still sign another past, so it never speaks alone: `check`. To tools of others
lines with # are comments, and the key is none of the log's.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace

from deploytrail_schemas.errors import ConfigurationError

from deploytrail_sinks.archive.log.checkpoint import Checkpoint, read_checkpoint
from deploytrail_sinks.archive.log.notes import KeyKind, Note, NoteError, Verifier, read_verifier, signers

NONE = "none"
_OURS = ("#sequencer", "#retired")  # to others a comment


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
    sequencers: list[Verifier] = field(default_factory=list)  # retired ones too
    retired: list[Verifier] = field(default_factory=list)  # keys of the log

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

        `quorum=False`: of an older checkpoint that a newer one is shown to follow; witnesses may have changed since,
        and a retired key counts, since what it signed is held against what a key in use did.
        """
        checkpoint = read_checkpoint(note)
        keys = [*self.logs, *self.retired] if not quorum else self.logs
        own = [key for key in keys if key.name == checkpoint.origin and key.speaks_for(checkpoint.size)]
        if not own:
            known = ", ".join(sorted({verifier.name for verifier in self.logs}))
            raise NoteError(f"is of the log {checkpoint.origin}; trusted: {known or 'none'}")
        if not signers(own, note):
            ended = [key.end for key in self.retired if any(s.key_id == key.key_id for s in note.signatures)]
            why = f"; a retired key, which ends at {ended[0]} entries, signed it" if ended else ""
            raise NoteError(f"is signed by no trusted key of {checkpoint.origin}{why}")
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
        if not words or (words[0].startswith("#") and words[0] not in _OURS):
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
        case ["#retired", key, size] if _is_size(size):
            verifier = replace(read_verifier(key), end=int(size))
            _new_key(trust, verifier)
            trust.retired.append(verifier)
        case ["#sequencer", key, *ends] if len(ends) < 2 and all(map(_is_size, ends)):
            verifier = replace(read_verifier(key), end=int(ends[0]) if ends else None)
            if any(verifier.public == other.public for other in trust.sequencers):
                raise ValueError(f"the key of {verifier.name} is there twice")
            trust.sequencers.append(verifier)
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
    known = [*trust.logs, *trust.retired, *(witness.verifier for witness in trust.witnesses.values())]
    if any(verifier.public == other.public for other in known):
        raise ValueError(f"the key of {verifier.name} is there twice")


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _known(trust: Trust, name: str) -> None:
    if name not in trust.witnesses and name not in trust.groups:
        raise ValueError(f"{name} is not defined above")
