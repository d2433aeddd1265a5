"""ClickHouse's error codes and the HTTP statuses that its server gives them."""

from __future__ import annotations

import re

# https://clickhouse.com/docs/interfaces/http: the server maps codes to statuses as below.
_UNAUTHORISED = {194, 516}
_FORBIDDEN = {164, 192, 497}
_NOT_FOUND = {8, 10, 16, 46, 47, 50, 56, 57, 60, 81, 115}
_BAD_REQUEST = {
    6,
    26,
    27,
    31,
    33,
    36,
    38,
    41,
    42,
    43,
    44,
    53,
    62,
    69,
    70,
    72,
    117,
    130,
    131,
    170,
    321,
    349,
    386,
    456,
    457,
}
_CODE = re.compile(r"Code: (\d+)[.,]")
UNKNOWN = 1002


class RequestError(Exception):
    """A request that is answered without asking the engine."""

    def __init__(self, status: int, code: int, detail: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {detail}")
        self.status, self.code = status, code


def status_of(code: int) -> int:
    """The HTTP status of a ClickHouse error code."""
    if code in _UNAUTHORISED:
        return 401
    if code in _FORBIDDEN:
        return 403
    if code in _NOT_FOUND:
        return 404
    if code in _BAD_REQUEST:
        return 400
    return {48: 501, 159: 408, 202: 503, 210: 503, 394: 503}.get(code, 500)


def parse(text: str) -> tuple[int, str]:
    """The code of an engine's message, and the message from the code on."""
    found = _CODE.search(text)
    return (int(found[1]), text[found.start() :].strip()) if found else (UNKNOWN, text.strip())
