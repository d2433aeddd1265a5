"""Numbers of things, as people read them. Pure."""

from __future__ import annotations


def counted(number: float, one: str, many: str = "") -> str:
    """`1 record`, `2 records`; `many` where more of them are not called so, or where a verb follows."""
    return f"{number:g} {one}" if number == 1 else f"{_plain(number)} {many or f'{one}s'}"


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
