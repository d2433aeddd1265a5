"""What a dead letter carries: the message as it came, but for its secrets.

Pure. Bytes without a secret stay as they are, to the last bit. A sound record is written anew
without its secrets, and can be replayed; in anything else each secret is overwritten in its place,
so that what was wrong with the bytes stays wrong at the same offset.
"""

from __future__ import annotations

from deploytrail_schemas.byte_redaction import redact_bytes
from deploytrail_schemas.codec import DecodeError, decode, encode, writer_of
from deploytrail_schemas.errors import EncodeError
from deploytrail_schemas.headers import DETAIL, ORIGIN, REASON, REDACTED
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.redaction import redact_text, redact_value
from deploytrail_schemas.schema import versions

Header = tuple[str, str | bytes | None]
DETAIL_BYTES = 1024
RECORD = "record"  # what REDACTED names where a sound record was written anew


def dead_letter(
    key: bytes | None,
    value: bytes | None,
    headers: list[Header],
    origin: tuple[str, int, int],
    reason: DeadLetterReason,
    detail: str,
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Key, value and headers of the dead letter of a message; `origin`: topic, partition, offset."""
    found: set[str] = set()
    kept: list[Header] = [(name, _clean_header(given, found)) for name, given in headers]
    key = _clean(key, found)
    value = _clean_record(value, found)
    topic, partition, offset = origin
    kept += [
        (REASON, reason.value.encode()),
        (DETAIL, redact_text(detail).encode("utf-8", "replace")[:DETAIL_BYTES]),
        (ORIGIN, f"{topic}:{partition}:{offset}".encode()),
    ]
    if found:
        kept.append((REDACTED, ",".join(sorted(found)).encode()))
    return key, value, kept


def _clean_record(value: bytes | None, found: set[str]) -> bytes | None:
    try:
        kind, record = decode(value)
        clean = redact_value(record)
        if clean == record:
            return value
        if writer_of(value).version == max(versions(kind)):
            found.add(RECORD)
            return encode(kind, clean)
    except (DecodeError, EncodeError):
        pass  # no sound record: its bytes are searched
    return _clean(value, found)


def _clean(given: bytes | None, found: set[str]) -> bytes | None:
    if not given:
        return given
    clean, kinds = redact_bytes(given)
    found.update(kinds)
    return clean


def _clean_header(given: str | bytes | None, found: set[str]) -> bytes | None:
    return _clean(given.encode() if isinstance(given, str) else given, found)
