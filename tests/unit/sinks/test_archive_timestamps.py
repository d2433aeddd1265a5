"""Time stamps of checkpoints, from a real authority: `openssl ts`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.timestamp_words import StampError
from deploytrail_sinks.archive.log.timestamps import check_stamp, read_roots, request_stamp
from support.archive_log import MemoryStore, fill, published
from support.timestamp_authority import authority_at, make_authority

pytest.importorskip("rfc3161_client")
if shutil.which("openssl") is None:
    pytest.skip("openssl is missing: it is the time stamp authority", allow_module_level=True)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def authority(roots: Path) -> Iterator[str]:
    with authority_at(roots.parent) as url:
        yield url


@pytest.mark.requirement("M5.1")
def test_a_stamp_covers_its_bytes_and_no_others(authority: str, roots: Path, tmp_path: Path) -> None:
    trusted = read_roots(roots.read_bytes())
    stamp = request_stamp(authority, b"checkpoint")

    at = check_stamp(stamp, b"checkpoint", trusted)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    with pytest.raises(StampError, match="covers other bytes"):
        check_stamp(stamp, b"checkpoint2", trusted)
    with pytest.raises(StampError, match="no trusted authority"):
        check_stamp(stamp, b"checkpoint", read_roots(make_authority(tmp_path).read_bytes()))
    with pytest.raises(StampError):
        check_stamp(stamp[:-10], b"checkpoint", trusted)


@pytest.mark.requirement("M5.1")
def test_published_checkpoints_are_stamped_and_verified(authority: str, roots: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store, stamp_url=authority, stamp_every=0.0)
    fill(store, range(40, 80))
    log.publish()
    asked = Asked(log.trust, log.trust.sequencers, stamp_roots=read_roots(roots.read_bytes()))
    report, of_log = verify_archive(store, asked)
    stamps = list(store.list("log/timestamps"))

    assert report.flaws == []
    assert of_log is not None
    assert of_log.timestamps == len(stamps) == 2
    store.objects[stamps[0]], store.objects[stamps[1]] = store.objects[stamps[1]], store.objects[stamps[0]]
    assert {flaw.name for flaw in verify_archive(store, asked)[0].flaws} >= set(stamps)


def test_a_deleted_stamp_that_the_log_has_entered_is_missed(authority: str, tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store, stamp_url=authority, stamp_every=0.0)
    for begin in (40, 80):
        fill(store, range(begin, begin + 40))
        log.publish()
    first = next(store.list("log/timestamps"))
    del store.objects[first]

    assert first in {flaw.name for flaw in log.check()[0].flaws}


def test_an_authority_that_is_away_delays_no_checkpoint(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, range(40))
    log = published(tmp_path, store, stamp_url="http://127.0.0.1:9", stamp_every=0.0)

    assert log.check()[0].flaws == []
    assert list(store.list("log/timestamps")) == []
    with pytest.raises(RetryLater, match="does not answer"):
        request_stamp("http://127.0.0.1:9", b"x")
