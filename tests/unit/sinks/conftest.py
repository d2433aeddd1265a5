"""An archive that is past most of its dates, for the tests of the log's minimum index: built once, a copy for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import Published
from support.archive_pruned import build, copy_of


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive before anything is purged: nothing is changed there."""
    folder = tmp_path_factory.mktemp("before")
    build(folder)
    return folder


@pytest.fixture
def log(before: Path, tmp_path: Path) -> Published:
    """Its log, to work on."""
    return copy_of(before, tmp_path)


@pytest.fixture
def store(log: Published) -> LocalFolder:
    """The archive of that log."""
    assert isinstance(log.store, LocalFolder)
    return log.store
