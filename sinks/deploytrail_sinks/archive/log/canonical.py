"""Canonical JSON (RFC 8785): one value, one sequence of bytes, so that it can be hashed. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from deploytrail_schemas.errors import EncodeError

_LARGEST_INTEGER = 2**53 - 1  # the largest that I-JSON gives exactly (RFC 7493, 2.2)
_strings = json.JSONEncoder(ensure_ascii=False).encode


def canonical(value: Any) -> bytes:
    """The bytes of a JSON value; EncodeError where it has none, such as NaN or a lone surrogate."""
    try:
        return _text(value).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise EncodeError(f"has no canonical JSON: {error}") from error


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _strings(value)
        case int():
            if abs(value) > _LARGEST_INTEGER:
                raise EncodeError(f"{value} is beyond 2^53 - 1; write it as a string")
            return str(value)
        case float():
            return _number(value)
        case dict():
            # By UTF-16 code units (3.2.3), which is not the order of code points.
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return "{" + ",".join(f"{_strings(name)}:{_text(value[name])}" for name in names) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_text, value)) + "]"
    raise EncodeError(f"{type(value).__name__} is no JSON value")


def _number(value: float) -> str:
    """As ECMAScript writes a number (ECMA-262, Number::toString), from Python's shortest digits."""
    if not math.isfinite(value):
        raise EncodeError(f"{value} is no JSON number")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0") if fraction.strip("0") else ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)  # where the decimal point stands, counted from the first digit
    point -= len(whole + fraction) - len(digits)  # zeros before the first digit count for nothing
    digits = digits.rstrip("0") or "0"
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    written = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{written}e{'+' if power > 0 else '-'}{abs(power)}"
