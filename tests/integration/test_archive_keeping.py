"""What is kept longer, more firmly or under a hold is so in the folder and in a real S3 server, locked or not."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_sinks.archive.acts import record_act
from deploytrail_sinks.archive.holds import ADDED, RELEASED
from deploytrail_sinks.archive.holds_in_store import HoldsInStore
from deploytrail_sinks.archive.lengthen_command import Moved, lengthen
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.purge import look
from deploytrail_sinks.archive.retention import read_policy
from deploytrail_sinks.archive.s3 import connect
from deploytrail_sinks.archive.store import Lock, ObjectKept, ObjectStore, open_store
from deploytrail_sinks.archive.verify import verify
from support.archive_at import TODAY, archive_of, in_days, lock_of
from support.archive_log import TOPIC, fill, published
from support.object_stores import REGION, make_bucket, url_of

pytestmark = pytest.mark.usefixtures("credentials")
_BUCKETS = itertools.count()
NOBODY = Principals({})


def counts_of(store: ObjectStore) -> tuple[int, int]:
    """How many segments a purge would let go today, and how many sequences end with one that stays."""
    found = look(store, "", NOBODY, TODAY)
    return len(found.goes), len(found.stays)


@pytest.fixture(params=["folder", "versitygw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(f"file:{tmp_path}/archive")
    endpoint = request.getfixturevalue("versitygw")
    make_bucket(endpoint, name := f"archive-{next(_BUCKETS)}")
    return open_store(url_of(endpoint, name))


class TestWithoutALock:
    """Where the archive, or the policy of a class, has no lock, dates and holds are words, and hold all the same."""

    @pytest.fixture
    def unlocked(self, versitygw: str) -> ObjectStore:
        make_bucket(versitygw, bucket := f"archive-{next(_BUCKETS)}")
        return open_store(url_of(versitygw, bucket, lock="none"))

    @pytest.mark.requirement("M5.5")
    def test_dates_move_on_and_holds_hold(self, unlocked: ObjectStore) -> None:
        unlocked.create("a", b"one", in_days(-1))
        moved = [unlocked.lengthen("a", in_days(days)) for days in (9, 9, 2)]

        assert moved == [True, False, False]
        assert unlocked.retain_until("a") == in_days(9)
        with pytest.raises(ObjectKept, match="it is kept until"):
            unlocked.delete("a", TODAY)
        unlocked.hold("a", True)
        assert (unlocked.is_held("a"), unlocked.retain_until("a")) == (True, in_days(9))
        with pytest.raises(ObjectKept, match="legal hold"):
            unlocked.delete("a", TODAY + timedelta(days=10))
        unlocked.hold("a", False)
        unlocked.delete("a", TODAY + timedelta(days=10))
        assert unlocked.versions("a") == ()

    @pytest.mark.requirement("M5.5")
    def test_a_longer_policy_keeps_its_segments_from_a_purge(self, unlocked: ObjectStore) -> None:
        archive_of(unlocked, range(10), days_ago=40, policy="production=30")
        assert counts_of(unlocked) == (1, 1)

        assert lengthen(unlocked, read_policy("production=5000")) == Moved(2, 0)
        assert lengthen(unlocked, read_policy("production=5000")) == Moved(0, 0)
        assert counts_of(unlocked) == (0, 1)
        assert look(unlocked, "", NOBODY, TODAY).stays[0].why.startswith("it is kept until")
        assert verify(unlocked).flaws == []

    @pytest.mark.requirement("M5.5")
    def test_a_class_without_a_lock_in_a_locked_bucket_is_whole_and_purged(self, versitygw: str) -> None:
        make_bucket(versitygw, bucket := f"archive-{next(_BUCKETS)}")
        store = open_store(url_of(versitygw, bucket))
        archive_of(store, range(10), days_ago=40, policy="production=30:none")

        assert verify(store).flaws == []
        assert counts_of(store) == (1, 1)
        assert lengthen(store, read_policy("production=5000:none")).segments == 2
        assert {lock_of(store, name) for name in store.list("")} == {Lock.NONE}
        assert lengthen(store, read_policy("production=5000:compliance")).segments == 2
        assert {lock_of(store, name) for name in store.list("")} == {Lock.COMPLIANCE}
        assert verify(store).flaws == []

    def test_a_lock_that_the_bucket_gives_by_itself_makes_no_date_earlier(self, versitygw: str) -> None:
        make_bucket(versitygw, bucket := f"archive-{next(_BUCKETS)}")
        connect(REGION, versitygw).put_object_lock_configuration(
            Bucket=bucket,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
            },
        )
        store = open_store(url_of(versitygw, bucket, lock="none"))
        archive_of(store, range(5))

        assert [store.retain_until(name) for name in store.list("")] == [in_days(3 * 366 + 1)]
        assert verify(store).flaws == []

    def test_a_lock_that_somebody_took_off_is_named(self, versitygw: str) -> None:
        make_bucket(versitygw, bucket := f"archive-{next(_BUCKETS)}")
        archive_of(open_store(url_of(versitygw, bucket, lock="governance")), range(5))
        store, client = open_store(url_of(versitygw, bucket, lock="governance")), connect(REGION, versitygw)
        [name] = store.list("")
        client.put_object_retention(
            Bucket=bucket,
            Key=f"trail/{name}",
            VersionId=store.versions(name)[0].id,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": TODAY + timedelta(days=2)},
            BypassGovernanceRetention=True,
        )

        [flaw] = verify(store).flaws
        assert flaw.name == name and flaw.detail.startswith(f"is kept until {in_days(2)}; it was created to be kept")


@pytest.mark.requirement("M5.5")
def test_the_log_is_kept_as_long_as_the_segment_that_is_kept_longest(store: ObjectStore, tmp_path: Path) -> None:
    fill(store, range(20), every=20)
    log = published(tmp_path / "signer", store)
    moved = lengthen(store, read_policy("production=9000"))
    longest = max(store.retain_until(name) or "" for name in store.list(TOPIC))
    of_log = [name for name in store.list("log") if name != CHECKPOINT]

    assert moved == Moved(1, len(of_log))
    assert {store.retain_until(name) for name in of_log} == {longest}
    assert log.check()[0].flaws == []


@pytest.mark.requirement("M5.5")
def test_a_hold_is_on_what_comes_later_in_every_store(store: ObjectStore) -> None:
    ada, grace = (Signer(name, Ed25519PrivateKey.generate()) for name in ("ada", "grace"))
    people = Principals({one.name: one.key.public_key() for one in (ada, grace)})
    holds = HoldsInStore(store, people)
    archive_of(store, range(5), on_stored=holds.created)
    assert [store.is_held(name) for name in store.list(TOPIC)] == [False]
    record_act(store, ADDED, {"prefix": TOPIC, "reason": "case 17"}, ada, TODAY)
    assert holds.put_on() == 1
    archive_of(store, range(5, 15), on_stored=holds.created)
    assert [store.is_held(name) for name in store.list(TOPIC)] == [True, True, True]

    for who in (ada, grace):
        record_act(store, RELEASED, {"hold": "hold-0", "reason": "over"}, who, TODAY)
    archive_of(store, range(15, 20), on_stored=holds.created)
    assert [store.is_held(name) for name in store.list(TOPIC)] == [True, True, True, False]
    holds.take_off()
    assert not [name for name in store.list(TOPIC) if store.is_held(name)]
