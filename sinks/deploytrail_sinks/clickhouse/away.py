"""A ClickHouse that does not answer, in words: its client's errors quote every layer of their transport."""

from __future__ import annotations

import re

from deploytrail_schemas.local_stack import if_not_set

_CAUSE = re.compile(r"\[Errno -?\d+\] ([^\"')]+)")
_MOST = 500  # characters of what is told


def in_words(url: str, error: Exception) -> str:
    """One line: what the system said where no connection was made, else what ClickHouse or its client said."""
    said = (str(error).splitlines() or [repr(error)])[0]
    cause = _CAUSE.search(said) if getattr(error, "code", None) is None else None
    if cause is None:
        return f"ClickHouse at {url}: {said[:_MOST]}"
    unset = if_not_set("clickhouse_url", url)
    setting = "DEPLOYTRAIL_CLICKHOUSE_URL (or …_SHARDS)"
    return f"ClickHouse at {url} does not answer: {cause[1]}; is {setting} right, and does it run?{unset}"
