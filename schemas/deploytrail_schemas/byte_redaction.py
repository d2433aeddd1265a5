"""Secrets in bytes of any kind are overwritten in their place: for what cannot be decoded.

Pure. The bytes may be text, JSON, or Avro that is damaged; in Avro a string has its length before
it, which may look like one more letter of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploytrail_schemas.codec import HEADER_BYTES, MARKER
from deploytrail_schemas.redaction import HINTS, Search, merged
from deploytrail_schemas.secret_names import is_harmless, kind_of_name
from deploytrail_schemas.secret_shapes import HEX, LONG, MIN_RANDOM, Span, pattern, random_text

_PRINTABLE = r"[\t\n\r\x20-\x7e\x80-\xff]{6,}"
_ENTRY_NAME = r"[\w.-]{3,63}"


def redact_bytes(data: bytes) -> tuple[bytes, list[str]]:
    """The bytes with each secret overwritten, and the kinds of what was found; the length stays.

    So what a reader finds wrong with them stays the same.
    """
    begin = HEADER_BYTES if data.startswith(MARKER) else 0
    text = data[begin:].decode("latin-1")  # one character a byte
    found = merged([*_entries(text), *_told(text), *_random(text)])
    if not found:
        return data, []
    parts: list[str] = []
    at = 0
    for start, end, kind in found:
        parts += text[at:start], f"[redacted:{kind}]"[: end - start].ljust(end - start, "*")
        at = end
    clean = ("".join(parts) + text[at:]).encode("latin-1")
    return data[:begin] + clean, sorted({kind for _, _, kind in found})


def _told(text: str) -> Iterator[Span]:
    """What text search finds in each printable stretch."""
    search = Search(text, "")
    for run in pattern(_PRINTABLE).finditer(text) if search else ():
        for start, end, kind in search.run(run.group(), is_name=True):
            yield run.start() + start, run.start() + end, kind


def _random(text: str) -> Iterator[Span]:
    for found in pattern(LONG).finditer(text):
        strings = [(found.start() + at, piece) for at, piece in _strings(found.group())]
        inside = [(at + start, at + end, kind) for at, piece in strings for start, end, kind in random_text(piece)]
        yield from inside
        if not inside and not any(pattern(HEX).fullmatch(piece) for _, piece in strings):
            yield from (
                (found.start() + start, found.start() + end, kind) for start, end, kind in random_text(found.group())
            )


def _strings(text: str) -> Iterator[tuple[int, str]]:
    """Stretches of letters that may be Avro strings, since the letter before them is their length."""
    for at, letter in enumerate(text, 1):
        size = ord(letter) >> 1
        if not ord(letter) & 1 and MIN_RANDOM <= size <= len(text) - at:
            yield at, text[at : at + size]


def _entries(text: str) -> Iterator[Span]:
    """Values of Avro maps whose key is a secret's name."""
    lower = text.lower()
    for hint in HINTS:
        at = lower.find(hint)
        while at >= 0:
            for before in range(max(0, at - 64), at):
                behind = before + 1 + (ord(text[before]) >> 1)
                name = text[before + 1 : behind]
                if behind > at and pattern(_ENTRY_NAME).fullmatch(name) and (kind := kind_of_name(name)):
                    start, end = _string(text, behind)
                    if start < end and not is_harmless(text[start:end], name):
                        yield start, end, kind
            at = lower.find(hint, at + 1)


def _string(text: str, at: int) -> tuple[int, int]:
    """Where the Avro string at an offset begins and ends: its length is zigzag, seven bits a byte."""
    length, shift, byte = 0, 0, 0x80
    while byte & 0x80 and at < len(text) and shift < 35:
        byte = ord(text[at])
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return (at, at) if length & 1 else (at, min(at + (length >> 1), len(text)))
