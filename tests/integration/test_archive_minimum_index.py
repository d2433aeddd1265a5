"""The log's minimum index in every kind of store: entries go behind their dates, and not before."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from deploytrail_sinks.archive.pruning import prune
from deploytrail_sinks.archive.store import ObjectKept, open_store
from support.archive_at import TODAY
from support.archive_pruned import IN_EIGHT_YEARS, MINIMUM, build, bundles_of, kept_checkpoints, look_at, pruned
from support.object_stores import make_bucket, url_of

pytestmark = pytest.mark.usefixtures("credentials")
_BUCKETS = itertools.count()


def bucket_at(endpoint: str) -> tuple[str, str]:
    make_bucket(endpoint, name := f"pruned-{next(_BUCKETS)}")
    return endpoint, name


@pytest.mark.requirement("M5.5", "M7.1")
@pytest.mark.timeout(600)
def test_a_purge_takes_entries_from_s3_with_all_their_versions(moto: str, tmp_path: Path) -> None:
    store = open_store(url_of(*bucket_at(moto), lock="none"))
    log = build(tmp_path, store)
    before = bundles_of(store)
    found = pruned(log)
    log.publish()

    assert found.of_log.minimum == MINIMUM
    assert {*before} - {*bundles_of(store)} == {*found.of_log.objects} and len(found.of_log.objects) > 3
    assert [store.versions(name) for name in found.of_log.objects] == [()] * len(found.of_log.objects)
    assert look_at(store, log)[0].flaws == []
    assert look_at(store, log, kept_checkpoints(store)[0])[0].flaws == []


@pytest.mark.requirement("M5.5")
@pytest.mark.timeout(600)
def test_what_the_server_locks_stays_even_where_our_clock_is_wrong(versitygw: str, tmp_path: Path) -> None:
    store = open_store(url_of(*bucket_at(versitygw)))
    log = build(tmp_path, store)
    before = bundles_of(store)
    assert pruned(log, TODAY).of_log.objects == ()
    prune(store, MINIMUM, TODAY)
    with pytest.raises(ObjectKept):
        prune(store, MINIMUM, IN_EIGHT_YEARS)

    assert bundles_of(store) == before
    assert look_at(store, log)[0].flaws == []
