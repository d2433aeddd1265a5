"""Whom a poller asks: its file is read whole, and refused with all that is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail.adapters.base import Defaults
from deploytrail.polling.config import Watched, load, read
from deploytrail.polling.memory import Memory
from deploytrail_schemas.errors import ConfigurationError


def test_a_source_has_its_usual_address_and_pace() -> None:
    (found,) = read({"sources": [{"kind": "github", "projects": ["acme/shop"], "region": "eu-west-1"}]})

    assert found == Watched(
        "github", "https://api.github.com", "", ("acme/shop",), defaults=Defaults(region="eu-west-1")
    )
    assert found.name == "github:api.github.com"


def test_argo_cd_is_asked_for_every_project_where_none_is_named() -> None:
    (found,) = read({"sources": [{"kind": "argocd", "url": "https://argocd.example.com/", "every": 5}]})

    assert (found.url, found.projects, found.every) == ("https://argocd.example.com", ("*",), 5.0)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(
            {
                "sources": [
                    {"kind": "github", "projects": []},
                    {"kind": "gitlab", "url": "https://u:p@git.example.com", "projects": ["a/b"], "every": -1},
                    {"kind": "travis", "projects": ["a"], "tokn": "x"},
                ]
            }
        )

    for part in (
        "sources[0].projects is missing",
        "sources[1].url holds a credential",
        "sources[1].every is -1",
        "sources[2].kind is 'travis'",
        "sources[2] has no field 'tokn'",
        "sources[2].url is ''",
    ):
        assert part in str(refused.value)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "sources: {}", "sources: []", "sources: [a: b", "other: 1"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "poll.yaml").write_text(text)

    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_POLL"):
        load(tmp_path / "poll.yaml")


def test_progress_is_the_same_when_it_is_read_back(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "deep" / "poll.json")
    progress = memory.of("github:api.github.com", "acme/shop")
    progress.reached, progress.open["1"], progress.published["id"] = 7, 8, 9
    memory.save()

    assert Memory(tmp_path / "deep" / "poll.json").of("github:api.github.com", "acme/shop") == progress
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["poll.json"]
