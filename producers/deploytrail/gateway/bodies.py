"""Bodies of requests: bounded, unpacked, and read strictly."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any

from deploytrail_schemas.json_values import JsonError, parse_json
from starlette.requests import Request

from deploytrail._reported import MAX_BODY_BYTES
from deploytrail.gateway.problems import Problem


async def body_of(request: Request) -> bytes:
    """The body, unpacked. Problem 413 for one that is too large, also once unpacked; 415 or 400 for its packing."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise Problem(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return bytes(data)
    if encoding != "gzip":
        raise Problem(415, f"Content-Encoding is {encoding!r}; expected gzip or none")
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Problem(400, f"the body is no gzip: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise Problem(413, f"the body has more than {MAX_BODY_BYTES} bytes once unpacked")
    return plain


def parsed(body: bytes) -> Any:
    """The value of a JSON body; Problem 400 for what is none."""
    try:
        return parse_json(body, MAX_BODY_BYTES)
    except JsonError as error:
        raise unreadable(error) from error


def unreadable(error: JsonError) -> Problem:
    """The answer to a body that cannot be read."""
    return Problem(413 if error.too_large else 400, error.detail)
