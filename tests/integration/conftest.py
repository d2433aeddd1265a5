"""S3 servers that several files of tests use, each with its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import object_stores


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with object_stores.moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_stores.versitygw(tmp_path_factory.mktemp("versitygw")) as endpoint:
        yield endpoint


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What both let in, as boto3 finds it."""
    for name, value in object_stores.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
