"""Other people's payloads as our records: one file a source, pure, and sure to survive any payload.

A module here that does not begin with `_` is a source: it has `SOURCE`, a `base.Source`. Ids
follow from the source's own ids, so that a webhook, its repetition and a poller give the same record.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from deploytrail.adapters.base import Source


@cache
def names() -> tuple[str, ...]:
    """The names of all sources, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base" and m.name[0] != "_"))


@cache
def load(name: str) -> Source:
    """A source by its name; KeyError for a name that is none."""
    if name not in names():
        raise KeyError(name)
    source = import_module(f"{__name__}.{name}").SOURCE
    assert isinstance(source, Source)
    return source
