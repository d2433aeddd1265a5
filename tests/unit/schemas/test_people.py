"""Two names of one person are one; nobody's names are known as such."""

from __future__ import annotations

import pytest
from deploytrail_schemas.people import different, is_among, is_bot, is_same, person


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ada", " ada ", True),
        ("ada", "ada@example.com", True),
        ("Ada Lovelace <ada@example.com>", "ada", True),
        ("1234+ada@users.noreply.github.com", "ada", True),
        ("1234-ada@users.noreply.gitlab.com", "ada@example.com", True),
        ("ada@example.com", "ada@example.org", False),
        ("ada", "bob", False),
        ("", "", False),
    ],
)
def test_names_are_compared_as_people(one: str, other: str, same: bool) -> None:
    assert is_same(one, other) is is_same(other, one) is same
    assert is_among(one, ["zoe", other]) is same


def test_a_name_is_known_without_its_wrapping() -> None:
    assert person("  Ada Lovelace <Ada@Example.com> ") == "ada@example.com"
    assert (is_bot("dependabot[bot]"), is_bot("abbot")) == (True, False)


def test_names_of_one_by_way_of_a_third_are_one() -> None:
    assert different(["ada@example.com", "bob", "ada", "ada@example.org"]) == [
        ["ada", "ada@example.com", "ada@example.org"],
        ["bob"],
    ]
