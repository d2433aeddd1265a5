"""Time zones of the `tzdata` package, and of nothing else.

`ZoneInfo(name)` prefers what the machine has under /usr/share/zoneinfo, of whatever age: two workers
could judge one start differently, and nobody could say by which rules. Here data and `VERSION` come
from one installed package, so that a finding names the database that it used, and installing that
version again recomputes it. The package is data that comes with the code: reading it is an import.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from io import BytesIO
from zoneinfo import ZoneInfo

import tzdata

VERSION: str = tzdata.IANA_VERSION  # of the IANA time zone database, such as 2026f


@cache
def names() -> frozenset[str]:
    """Every zone of the database, aliases included."""
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name; KeyError where the database has none of this name."""
    if name not in names():
        raise KeyError(name)
    data = files("tzdata.zoneinfo").joinpath(*name.split("/")).read_bytes()
    return ZoneInfo.from_file(BytesIO(data), key=name)
