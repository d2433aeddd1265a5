"""RFC 3161 time stamps of published checkpoints: an authority says that a checkpoint was there at a time.

A stamp covers the kept checkpoint's bytes, signatures and all. Needs the extra `timestamps` (rfc3161-client).
"""

from __future__ import annotations

import hashlib
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from deploytrail_schemas.errors import ConfigurationError, MissingDependencyError, RetryLater

from deploytrail_sinks.archive.log.timestamp_words import StampError, check_unsigned_words

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

NO_STAMP = (
    "is no time stamp; expected an authority's answer as it came (RFC 3161, DER), such as a copy from log/timestamps"
)
_SECONDS = 20.0
_LIMIT = 1 << 20
_HASHES = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


def request_stamp(url: str, data: bytes) -> bytes:
    """A time stamp of data from an authority, undecided whom it is from; RetryLater, ConfigurationError."""
    try:
        from rfc3161_client import TimestampRequestBuilder
    except ImportError:
        raise MissingDependencyError("time stamps need the extra `timestamps`: deploytrail-sinks[timestamps]") from None
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{url!r} is no time stamp authority; expected http:// or https://")
    asked = TimestampRequestBuilder().data(data).nonce(nonce=True).cert_request(cert_request=True).build()
    request = urllib.request.Request(url, asked.as_bytes(), {"Content-Type": "application/timestamp-query"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            stamp: bytes = answer.read(_LIMIT)
    except OSError as error:
        raise RetryLater(f"the time stamp authority does not answer: {error}") from error
    try:
        decoded = _decode(stamp)
        if decoded.tst_info.nonce != asked.nonce:
            raise StampError("it answers another request: the nonce differs")
        _check_imprint(decoded, data)
    except StampError as error:
        raise RetryLater(f"the time stamp authority's answer is of no use: {error}") from error
    return stamp


def check_stamp(stamp: bytes, data: bytes, roots: list[x509.Certificate]) -> datetime:
    """When the authority says it saw the data; StampError. Chains are judged as of the stamp's own time."""
    try:
        from rfc3161_client import VerificationError, VerifierBuilder
    except ImportError:
        raise MissingDependencyError("time stamps need the extra `timestamps`: deploytrail-sinks[timestamps]") from None
    decoded = _decode(stamp)
    _check_imprint(decoded, data)
    if not roots:  # nobody is trusted: then only what it covers can be said
        return decoded.tst_info.gen_time.astimezone(UTC)
    builder = VerifierBuilder()
    for root in roots:
        builder = builder.add_root_certificate(root)
    try:
        builder.build().verify_message(decoded, data)
    except (VerificationError, ValueError) as error:
        raise StampError(f"is of no trusted authority: {error}") from error
    check_unsigned_words(stamp)
    return decoded.tst_info.gen_time.astimezone(UTC)


def imprint_of(stamp: bytes) -> tuple[str, bytes]:
    """What a stamp is of, whoever made it: the name of a hash, and the digest; StampError."""
    try:
        return _imprint(_decode(stamp))
    except ImportError:
        raise MissingDependencyError("time stamps need the extra `timestamps`: deploytrail-sinks[timestamps]") from None


def read_roots(pem: bytes, file: object = "the file of time stamp roots") -> list[x509.Certificate]:
    """The authorities' root certificates; ConfigurationError names the file."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:  # its words are about the library
        raise ConfigurationError(
            f"{file} holds no certificates in PEM; expected the authority's root certificates, "
            "each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
        ) from None


def _decode(stamp: bytes) -> TimeStampResponse:
    from rfc3161_client import decode_timestamp_response

    try:
        decoded = decode_timestamp_response(stamp)
        if decoded.status != 0:
            raise StampError(f"the authority refused: status {decoded.status}")
        _ = decoded.tst_info
    except ValueError:  # its words are about the parser
        raise StampError(NO_STAMP) from None
    return decoded


def _imprint(decoded: TimeStampResponse) -> tuple[str, bytes]:
    imprint = decoded.tst_info.message_imprint
    algorithm = _HASHES.get(imprint.hash_algorithm.dotted_string)
    if algorithm is None:
        raise StampError(f"uses the hash {imprint.hash_algorithm.dotted_string}; expected SHA-2")
    return algorithm, imprint.message


def _check_imprint(decoded: TimeStampResponse, data: bytes) -> None:
    algorithm, message = _imprint(decoded)
    if hashlib.new(algorithm, data).digest() != message:
        raise StampError("covers other bytes")
