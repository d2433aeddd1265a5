"""The rooms keep to their boundaries, and their versions to each other."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = {
    "deploytrail_schemas": ROOT / "schemas",
    "deploytrail": ROOT / "producers",
    "deploytrail_processors": ROOT / "stream_processors",
    "deploytrail_sinks": ROOT / "sinks",
    "deploytrail_local": ROOT / "deploy/local",
}


def imported_packages(source: str) -> set[str]:
    """Top-level packages that a module imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def trespasses(room: str, source: str) -> set[str]:
    """Other rooms that a module of `room` imports and must not: all but schemas."""
    return imported_packages(source) & (ROOMS.keys() - {room, "deploytrail_schemas"})


def modules_of(room: str) -> Iterator[Path]:
    return (ROOMS[room] / room).rglob("*.py")


def manifest(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_schemas(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): wrong for path in modules_of(room) if (wrong := trespasses(room, path.read_text()))
    }

    assert found == {}


def test_a_trespass_is_seen() -> None:
    assert trespasses("deploytrail_sinks", "def f():\n    from deploytrail.spool import x") == {"deploytrail"}
    assert trespasses("deploytrail_sinks", "import deploytrail_schemas.codec") == set()


def test_schemas_import_no_room() -> None:
    found = {name for path in modules_of("deploytrail_schemas") for name in imported_packages(path.read_text())}

    assert found & ROOMS.keys() == {"deploytrail_schemas"}


def test_sibling_versions_agree() -> None:
    versions = {name: manifest(folder)["version"] for name, folder in ROOMS.items()}

    assert set(versions.values()) == {manifest(ROOT)["version"]}


def test_rooms_depend_on_the_sibling_version_that_they_were_built_with() -> None:
    for folder in ROOMS.values():
        own = manifest(folder)
        siblings = [d for d in own["dependencies"] if d.startswith("deploytrail")]  # type: ignore[attr-defined]

        assert all(d.endswith(f"=={own['version']}") for d in siblings), folder


def test_every_room_has_a_readme() -> None:
    for folder in ROOMS.values():
        assert len((folder / "README.md").read_text("utf-8")) > 500, folder
