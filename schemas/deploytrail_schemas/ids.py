"""Ids: time-ordered ones from the library, name-based ones wherever two reporters must agree."""

from __future__ import annotations

import hashlib
import os
import time
import uuid

# The namespaces are part of every stored id: they never change.
DELIVERIES = uuid.UUID("5c1f6d0e-8a53-5d0b-9b1e-0f6c2f1c7a10")
FINDINGS = uuid.UUID("a5a0f6de-52b3-5f6e-8a0a-6a0f3f7d9c21")


def uuid7() -> str:
    """A new UUID version 7 (RFC 9562): 48 bits of wall-clock milliseconds, then random bits."""
    millis = time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10), "big")
    value = (millis & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (tail >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | tail & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def name_based_id(source: str, delivery: str, *parts: str) -> str:
    """The UUID of one thing that a source said, the same whoever carries it (webhook or poller).

    `source` is the adapter's name, `delivery` and `parts` name the thing in the source's own
    words. UUID version 5 (RFC 9562); parts are joined by a byte that no UTF-8 text holds.
    """
    return _name_based(DELIVERIES, source, delivery, *parts)


def finding_id(rule: str, subject: str, *evidence: str) -> str:
    """The UUID of a verdict: rule, whom it is about, what it rests on."""
    return _name_based(FINDINGS, rule, subject, *evidence)


def _name_based(namespace: uuid.UUID, *parts: str) -> str:
    name = b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)
    digest = hashlib.sha1(namespace.bytes + name, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))
