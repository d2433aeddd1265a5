"""One contract for every store of the archive: the folder, moto, and a real S3 server with Object Lock."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_sinks.archive.s3 import S3Store, connect
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import LocalFolder, Lock, ObjectExists, ObjectKept, ObjectStore, Terms, open_store
from deploytrail_sinks.archive.verify import verify
from support.archive_at import TODAY, archive_of, in_days, lock_of
from support.archive_log import fill, published
from support.object_stores import REGION, FaultProxy, lost, make_bucket, refused, unheard, url_of

pytestmark = pytest.mark.usefixtures("credentials")
_BUCKETS = itertools.count()


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(getattr(request, "param", "moto"))
    return found


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"archive-{next(_BUCKETS)}"
    connect(REGION, endpoint)
    make_bucket(endpoint, name)
    return name


@pytest.fixture(params=["folder", "moto", "versitygw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(f"file:{tmp_path}/archive")
    endpoint = request.getfixturevalue(request.param)
    name = f"archive-{next(_BUCKETS)}"
    make_bucket(endpoint, name)
    return open_store(url_of(endpoint, name))


both = pytest.mark.parametrize("endpoint", ["moto", "versitygw"], indirect=True)


class TestContract:
    def test_an_object_is_created_once_and_read_back(self, store: ObjectStore) -> None:
        version = store.create("a/b.avro", b"one", in_days(3))
        with pytest.raises(ObjectExists):
            store.create("a/b.avro", b"two", in_days(3))

        assert store.read("a/b.avro") == store.read("a/b.avro", version) == b"one"
        assert [(v.id, v.size, v.is_deletion) for v in store.versions("a/b.avro")] == [(version, 3, False)]

    def test_the_same_bytes_again_are_the_same_object(self, store: ObjectStore) -> None:
        assert store.create("a", b"one", in_days(3)) == store.create("a", b"one", in_days(3))

        assert len(store.versions("a")) == 1

    def test_what_is_not_there_is_a_key_error(self, store: ObjectStore) -> None:
        store.create("a/b", b"one", in_days(3))
        for ask in (store.read, lambda n: store.lengthen(n, in_days(9)), lambda n: store.hold(n, True)):
            for name in ("a/c", "a/b/c"):
                with pytest.raises(KeyError):
                    ask(name)

        assert store.versions("a/c") == ()

    def test_names_below_a_prefix_come_in_order(self, store: ObjectStore) -> None:
        for name in ("b/2", "b/10", "b/1", "bb/1", "a"):
            store.create(name, name.encode(), in_days(3))

        assert list(store.list("b")) == ["b/1", "b/10", "b/2"]
        assert list(store.list("")) == ["a", "b/1", "b/10", "b/2", "bb/1"]
        assert list(store.list("c")) == []

    def test_folders_are_those_right_below(self, store: ObjectStore) -> None:
        for name in ("a/b/1.avro", "a/c/d/2.avro", "e/3.avro", "a/4.avro"):
            store.create(name, b"x", in_days(3))

        assert store.folders("") == ("a", "e")
        assert store.folders("a") == ("a/b", "a/c")
        assert store.folders("f") == ()

    def test_what_is_replaced_is_read_as_it_is_now(self, store: ObjectStore) -> None:
        store.create("log/checkpoints/1", b"x", in_days(3))
        with pytest.raises(KeyError):
            store.newest("log/checkpoint")
        for data in (b"one", b"two", b"two"):
            store.replace("log/checkpoint", data)
            assert store.newest("log/checkpoint") == data

    def test_a_retention_date_only_ever_moves_on(self, store: ObjectStore) -> None:
        store.create("a", b"one", in_days(5))
        moved = [store.lengthen("a", in_days(days)) for days in (9, 9, 2)]

        assert moved == [True, False, False]
        assert store.retain_until("a") == in_days(9)

    def test_a_lock_only_ever_becomes_firmer(self, store: ObjectStore) -> None:
        store.create("a", b"one", in_days(5), Terms(Lock.GOVERNANCE))
        firm = [store.lengthen("a", in_days(5), Terms(lock)) for lock in (Lock.NONE, Lock.COMPLIANCE, Lock.GOVERNANCE)]

        assert firm == [False, True, False]
        assert lock_of(store, "a") is Lock.COMPLIANCE
        assert store.retain_until("a") == in_days(5)

    def test_what_is_kept_cannot_be_deleted(self, store: ObjectStore) -> None:
        store.create("a", b"one", in_days(5))
        with pytest.raises(ObjectKept, match="it is kept until"):
            store.delete("a", TODAY)

        assert store.read("a") == b"one"

    def test_a_legal_hold_outlives_the_date(self, store: ObjectStore) -> None:
        store.create("a", b"one", in_days(5))
        store.hold("a", True)
        store.hold("a", True)
        assert store.is_held("a")
        with pytest.raises(ObjectKept, match="legal hold"):
            store.delete("a", TODAY + timedelta(days=6))

        store.hold("a", False)
        assert not store.is_held("a")


def test_a_folder_deletes_what_is_past_its_date(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    store.create("a/b", b"one", in_days(-1))
    store.delete("a/b", TODAY)

    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


@both
def test_s3_without_a_lock_deletes_what_is_past_its_date_with_all_its_versions(endpoint: str, bucket: str) -> None:
    store = open_store(url_of(endpoint, bucket, lock="none"))
    store.create("a", b"one", in_days(-1))
    connect(REGION, endpoint).put_object(Bucket=bucket, Key="trail/a", Body=b"two")
    store.delete("a", TODAY)

    assert store.versions("a") == ()


class TestObjectLock:
    @both
    def test_the_server_refuses_to_delete_even_where_our_clock_is_wrong(self, endpoint: str, bucket: str) -> None:
        store = open_store(url_of(endpoint, bucket))
        store.create("a", b"one", in_days(5))
        with pytest.raises(ObjectKept):
            store.delete("a", TODAY + timedelta(days=100))

        assert store.read("a") == b"one"

    @both
    def test_what_comes_after_its_date_is_taken_and_locked_for_a_day(self, endpoint: str, bucket: str) -> None:
        store = open_store(url_of(endpoint, bucket))
        store.create("a", b"one", "2020-01-01T00:00:00Z")

        assert (store.retain_until("a") or "") > in_days(0)

    @both
    def test_an_object_has_the_mode_of_its_terms(self, endpoint: str, bucket: str) -> None:
        store = S3Store(connect(REGION, endpoint), bucket, "trail", Lock.COMPLIANCE)
        store.create("g", b"one", in_days(5), Terms(Lock.GOVERNANCE))
        store.create("c", b"one", in_days(5))
        store.create("asked", b"one", in_days(5), Terms(Lock.GOVERNANCE, at_least=Lock.COMPLIANCE))
        store.create("less", b"one", in_days(5), Terms(at_least=Lock.GOVERNANCE))

        locks = [lock_of(store, name) for name in ("g", "c", "asked", "less")]
        assert locks == [Lock.GOVERNANCE, Lock.COMPLIANCE, Lock.COMPLIANCE, Lock.COMPLIANCE]

    def test_a_real_server_refuses_to_shorten_compliance(self, versitygw: str) -> None:
        make_bucket(versitygw, bucket := f"archive-{next(_BUCKETS)}")
        version = open_store(url_of(versitygw, bucket)).create("a", b"one", in_days(5))
        client = connect(REGION, versitygw)
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.put_object_retention(
                Bucket=bucket,
                Key="trail/a",
                VersionId=version,
                Retention={"Mode": "COMPLIANCE", "RetainUntilDate": TODAY + timedelta(days=2)},
            )

    @both
    def test_a_newer_version_and_a_deletion_hide_nothing_and_are_seen(self, endpoint: str, bucket: str) -> None:
        store, client = open_store(url_of(endpoint, bucket)), connect(REGION, endpoint)
        first = store.create("a/b", b"one", in_days(5))
        client.put_object(Bucket=bucket, Key="trail/a/b", Body=b"shadow")
        client.delete_object(Bucket=bucket, Key="trail/a/b")

        assert store.read("a/b") == b"one"
        assert list(store.list("a")) == ["a/b"]
        assert [(v.size, v.is_deletion) for v in store.versions("a/b")] == [(3, False), (6, False), (0, True)]
        assert store.versions("a/b")[0].id == first
        with pytest.raises(ObjectExists):  # the condition alone would let this pass over a marker of deletion
            store.create("a/b", b"two", in_days(5))

    @both
    def test_a_bucket_without_object_lock_is_said(self, endpoint: str) -> None:
        make_bucket(endpoint, bucket := f"archive-{next(_BUCKETS)}", lock=False)
        with pytest.raises(ConfigurationError, match="Object Lock on"):
            open_store(url_of(endpoint, bucket)).create("a", b"one", in_days(5))


@pytest.mark.requirement("M5.1", "M5.5")
def test_segments_go_through_every_store(store: ObjectStore) -> None:
    archive_of(store, range(12))
    archive_of(store, range(12, 20))
    names = list(store.list(""))

    assert [r.offset for n in names for r in read_segment(store.read(n)).records] == list(range(20))
    assert verify(store).flaws == []


@pytest.mark.requirement("M5.1")
@both
def test_an_object_that_was_deleted_and_put_anew_with_the_same_bytes_is_another_version(
    endpoint: str, bucket: str
) -> None:
    """Whoever may bypass governance deletes the first version, lock and all, and puts the same bytes there."""
    store, client = open_store(url_of(endpoint, bucket, lock="governance")), connect(REGION, endpoint)
    archive_of(store, range(15))
    first, second, _ = store.list("")
    data, [version] = store.read(first), store.versions(first)
    where = {"Bucket": bucket, "Key": f"trail/{first}"}
    until = datetime.fromisoformat(store.retain_until(first) or "")
    client.delete_object(**where, VersionId=version.id, BypassGovernanceRetention=True)
    client.put_object(**where, Body=data, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)

    assert store.read(first) == data
    assert read_segment(store.read(second)).previous_version == version.id
    [flaw] = verify(store).flaws
    assert (flaw.name, flaw.detail) == (first, f"is another version than {version.id}")


@pytest.mark.requirement("M5.1")
def test_the_log_goes_through_every_store(store: ObjectStore, tmp_path: Path) -> None:
    fill(store, range(60), every=20)
    log = published(tmp_path / "signer", store)
    fill(store, range(60, 80), every=20)
    log.publish()
    report, of_log = log.check()

    assert report.flaws == []
    assert of_log is not None
    assert (of_log.checkpoints, of_log.unpublished, of_log.uncovered_segments) == (2, 0, 0)


@both
def test_a_newer_version_over_an_object_of_the_log_is_named(endpoint: str, bucket: str, tmp_path: Path) -> None:
    store = open_store(url_of(endpoint, bucket))
    fill(store, range(20), every=20)
    log = published(tmp_path / "signer", store)
    state = next(store.list("log/states"))
    store.replace(state, b"newer")

    assert state in {flaw.name for flaw in log.check()[0].flaws}


@both
def test_verify_names_what_a_newer_version_hides(endpoint: str, bucket: str) -> None:
    store = open_store(url_of(endpoint, bucket))
    archive_of(store, range(12))
    hidden = list(store.list(""))[1]
    connect(REGION, endpoint).put_object(Bucket=bucket, Key=f"trail/{hidden}", Body=b"shadow")

    assert [(f.name, f.detail.partition(":")[0]) for f in verify(store).flaws] == [
        (hidden, "is hidden by newer versions")
    ]


class TestFaults:
    """What a server or the network between does wrong is waited for, or said."""

    @pytest.fixture
    def proxy(self, moto: str) -> Iterator[FaultProxy]:
        with FaultProxy(moto) as proxy:
            yield proxy

    @pytest.fixture
    def spoilt(self, proxy: FaultProxy, bucket: str) -> ObjectStore:
        return open_store(url_of(proxy.url, bucket))

    @pytest.mark.parametrize(
        "fault",
        [refused(500, "InternalError"), refused(503, "SlowDown"), refused(409, "ConditionalRequestConflict"), unheard],
        ids=["500", "slow down", "conflict", "no answer"],
    )
    def test_a_server_in_trouble_is_asked_again_and_then_waited_for(
        self, spoilt: ObjectStore, proxy: FaultProxy, fault: Any
    ) -> None:
        proxy.spoil("PUT", *[fault] * 3)
        while proxy.faults:
            with pytest.raises(RetryLater, match="cannot be created"):
                spoilt.create("a", b"one", in_days(5))

        spoilt.create("a", b"one", in_days(5))
        assert spoilt.read("a") == b"one"

    def test_a_creation_whose_answer_was_lost_is_found_done(self, spoilt: ObjectStore, proxy: FaultProxy) -> None:
        proxy.spoil("PUT", lost)
        version = spoilt.create("a", b"one", in_days(5))

        assert proxy.seen.count("PUT") == 2
        assert [v.id for v in spoilt.versions("a")] == [version]

    def test_a_lost_answer_over_another_object_is_no_success(self, spoilt: ObjectStore, proxy: FaultProxy) -> None:
        spoilt.create("a", b"one", in_days(5))
        proxy.spoil("PUT", lost)
        with pytest.raises(ObjectExists):
            spoilt.create("a", b"two", in_days(5))

        assert spoilt.read("a") == b"one"

    def test_segments_are_whole_after_every_kind_of_fault(self, spoilt: ObjectStore, proxy: FaultProxy) -> None:
        for round_number, fault in enumerate((lost, unheard, refused(500, "InternalError"), refused(503, "SlowDown"))):
            proxy.spoil("PUT", fault)
            proxy.spoil("GET", fault)
            archive_of(spoilt, range(10 * round_number, 10 * round_number + 10))
        records = [r.offset for n in spoilt.list("") for r in read_segment(spoilt.read(n)).records]

        assert records == list(range(40))
        assert verify(spoilt).flaws == []

    def test_a_wrong_clock_is_said_with_what_to_do(self, spoilt: ObjectStore, proxy: FaultProxy) -> None:
        proxy.spoil("PUT", *[refused(403, "RequestTimeTooSkewed")] * 3)
        with pytest.raises(RetryLater, match="set it by NTP"):
            spoilt.create("a", b"one", in_days(5))

    @pytest.mark.parametrize(
        ("code", "remedy"),
        [("AccessDenied", "allow s3:PutObject"), ("InvalidAccessKeyId", "check the credentials")],
    )
    def test_what_waiting_does_not_mend_is_an_error_of_configuration(
        self, spoilt: ObjectStore, proxy: FaultProxy, code: str, remedy: str
    ) -> None:
        proxy.spoil("PUT", refused(403, code))
        with pytest.raises(ConfigurationError, match=remedy):
            spoilt.create("a", b"one", in_days(5))

    def test_a_bucket_that_is_not_there_is_said(self, moto: str) -> None:
        with pytest.raises(ConfigurationError, match="make the bucket"):
            open_store(url_of(moto, "no-such-bucket")).create("a", b"one", in_days(5))

    def test_a_server_that_is_away_is_waited_for(self) -> None:
        with pytest.raises(RetryLater):
            open_store(url_of("http://127.0.0.1:1", "archive")).create("a", b"one", in_days(5))


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:bucket", "s3://b/p?colour=red", "s3://key:secret@b/p", "s3://b/p?lock=firm", "ftp://x", "file:"],
)
def test_an_archive_that_cannot_be_named_so_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_ARCHIVE") as refusal:
        open_store(url)

    assert "secret" not in str(refusal.value)
