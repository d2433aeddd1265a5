"""Names of people, as four eyes compare them: whether two names may be of one person, or of nobody. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What a forge gives instead of a mailbox: the login stands in it.
# https://docs.github.com/en/account-and-profile/reference/email-addresses-reference and
# https://docs.gitlab.com/user/profile/#use-an-automatically-generated-private-commit-email
_PRIVATE = re.compile(r"(?:\d+[+-])?([^@]+)@users\.noreply\.(?:github|gitlab)\.com")
_NAMED = re.compile(r".*<([^<>]+)>")


def person(name: str) -> str:
    """A name as people are compared by it: of `Name <mailbox>` the mailbox, of a forge's private mailbox the login."""
    found = name.strip().casefold()
    if (named := _NAMED.fullmatch(found)) is not None:
        found = named[1].strip()
    private = _PRIVATE.fullmatch(found)
    return private[1] if private is not None else found


def is_same(name: str, other: str) -> bool:
    """Whether two names may be of one person. A name without a domain is the mailbox of that name in any."""
    one, two = person(name), person(other)
    return bool(one and two) and (
        one == two or (("@" in one) != ("@" in two) and one.split("@")[0] == two.split("@")[0])
    )


def is_among(name: str, people: Iterable[str]) -> bool:
    """Whether a person is one of these."""
    return any(is_same(name, other) for other in people)


def is_bot(name: str) -> bool:
    """Whether a name says itself that it is nobody's: forges write `name[bot]` of an app."""
    return person(name).split("@")[0].endswith("[bot]")


def different(names: Iterable[str]) -> list[list[str]]:
    """Names by person. Two that may be of one are one, also by way of a third."""
    people: list[list[str]] = []
    for name in sorted(set(names)):
        its = [known for known in people if is_among(name, known)]
        people = [known for known in people if known not in its] + [sorted([name, *(n for k in its for n in k)])]
    return sorted(people)
