"""Bodies of requests: bounded, each and together, unpacked, and read strictly."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any

from deploytrail_schemas.json_values import JsonError, parse_json
from starlette.requests import ClientDisconnect, Request

from deploytrail._reported import MAX_BODY_BYTES
from deploytrail.gateway.problems import Problem

# Bodies that are on their way, of all callers together: whoever calls is known only once his body is here.
MOST_READING = 256 << 20
ALWAYS_READ = 64 << 10  # a body up to this finds room whatever others send


class _Reading:
    """How many bytes of large bodies are held at present."""

    def __init__(self) -> None:
        self.held = 0


_reading = _Reading()


async def body_of(request: Request) -> bytes:
    """The body, unpacked.

    Problem 413 for one that is too large, also once unpacked; 415 or 400 for its packing, 400 where the
    caller goes away before its end, 429 where too many others are on their way.
    """
    data = await _received(request)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return data
    if encoding != "gzip":
        raise Problem(415, f"Content-Encoding is {encoding!r}; expected gzip or none")
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Problem(400, f"the body is no gzip: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise Problem(413, f"the body has more than {MAX_BODY_BYTES} bytes once unpacked")
    return plain


async def _received(request: Request) -> bytes:
    data = bytearray()
    held = 0
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise Problem(413, f"the body has more than {MAX_BODY_BYTES} bytes")
            if len(data) > ALWAYS_READ:
                _reading.held += len(data) - held
                held = len(data)
                if _reading.held > MOST_READING:
                    raise Problem(429, "too many large bodies are on their way", headers={"Retry-After": "2"})
    except ClientDisconnect:
        raise Problem(400, "the caller went away before the end of the body") from None
    finally:
        _reading.held -= held
    return bytes(data)


def parsed(body: bytes) -> Any:
    """The value of a JSON body; Problem 400 for what is none."""
    try:
        return parse_json(body, MAX_BODY_BYTES)
    except JsonError as error:
        raise unreadable(error) from error


def unreadable(error: JsonError) -> Problem:
    """The answer to a body that cannot be read."""
    return Problem(413 if error.too_large else 400, error.detail)
