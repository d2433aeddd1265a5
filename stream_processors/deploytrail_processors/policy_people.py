"""Documents that name somebody who has a pseudonym: what is applied is archived for good, so it may not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deploytrail_schemas.pseudonyms import NameMap
from deploytrail_schemas.settings import Settings

from deploytrail_processors.policy_changes import Source


def named_people(sources: Iterable[Source], settings: Settings) -> Iterator[str]:
    """Where a document says a name of the map, with what it must say instead. RetryLater.

    Names of one word are let through: they may as well be of a service or a team.
    """
    path = Path(settings.pseudonyms).expanduser() if settings.pseudonyms else None
    if path is None or not path.exists():
        return
    known = NameMap(path).known()
    for source in sources:
        for text in _texts(source.value):
            said = known.replaced(text, of_several_words=True)
            if said != text:
                yield (
                    f"{source.place}: {text!r} names somebody whom DEPLOYTRAIL_PSEUDONYMS knows, and what is applied "
                    f"is archived for good; say {said!r}"
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from (*_texts(name), *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
