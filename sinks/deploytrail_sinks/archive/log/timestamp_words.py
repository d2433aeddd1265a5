"""The words of a time stamp that no signature covers: versions, and the name of the signature's algorithm. Pure.

A verifier that goes by the certificate's key reads past them, so whoever changes them would go unseen. RFC 5652
(5.1, 5.3) and RFC 5754 leave one value for each.
"""

from __future__ import annotations

from collections.abc import Sequence

_SEQUENCE, _SET, _KEY_ID = 0x30, 0x31, 0x80
_SHA2 = {  # the digest's OID: OIDs of signatures that use it
    "608648016503040201": ("2a8648ce3d040302", "2a864886f70d01010b"),
    "608648016503040202": ("2a8648ce3d040303", "2a864886f70d01010c"),
    "608648016503040203": ("2a8648ce3d040304", "2a864886f70d01010d"),
}
_ANY_DIGEST = ("2a864886f70d010101", "2a864886f70d01010a", "2b6570")  # RSA, RSASSA-PSS, Ed25519


class StampError(Exception):
    """A time stamp that does not cover what it should, or is not of a trusted authority."""


def check_unsigned_words(stamp: bytes) -> None:
    """StampError unless they are what they must be in the TimeStampResp of these bytes."""
    try:
        _, (_, token) = _inside(_one(stamp, _SEQUENCE), 2)
        _, (_, content) = _inside(token, 2)
        signed = _parts(_one(content, _SEQUENCE))
        (_, version), (kind, infos) = signed[0], signed[-1]
        signer = _parts(_one(infos, _SEQUENCE))
        (_, of_signer), (names, _), (_, digest) = signer[:3]
        algorithm = next(value for tag, value in signer[3:] if tag == _SEQUENCE)
        digest_oid, signature_oid = (_parts(value)[0][1].hex() for value in (digest, algorithm))
    except (IndexError, ValueError, StopIteration) as error:
        raise StampError("is not written as a time stamp is") from error
    if kind != _SET or version != b"\x03" or of_signer != (b"\x03" if names == _KEY_ID else b"\x01"):
        raise StampError("has a version that a time stamp cannot have")
    if signature_oid not in (*_SHA2.get(digest_oid, ()), *_ANY_DIGEST):
        raise StampError("names a signature that does not fit its digest")


def _one(data: bytes, tag: int) -> bytes:
    """What the only part has."""
    [(found, value)] = _parts(data)
    if found != tag:
        raise ValueError
    return value


def _inside(data: bytes, count: int) -> Sequence[tuple[int, bytes]]:
    parts = _parts(data)
    if len(parts) != count:
        raise ValueError
    return parts


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and values of DER, one level."""
    found, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            more = length & 0x7F
            length, at = int.from_bytes(data[at : at + more], "big"), at + more
        if at + length > len(data):
            raise ValueError
        found.append((tag, data[at : at + length]))
        at += length
    return found
