"""What works on the archive beside its sink, on an S3 whose answers get lost: done once, however often it is tried.

A lost answer comes behind a request that was carried out; three in a row, and the client gives up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from botocore.retries.standard import ExponentialBackoff
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.acts import read_acts, record_act
from deploytrail_sinks.archive.holds import ADDED
from deploytrail_sinks.archive.holds_in_store import HoldsInStore
from deploytrail_sinks.archive.lengthen_command import lengthen
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.purge import purge
from deploytrail_sinks.archive.retention import read_policy
from deploytrail_sinks.archive.store import ObjectStore, open_store
from deploytrail_sinks.archive.verify import receipts, verify
from support.archive_at import TODAY, archive_of, in_days
from support.archive_log import TOPIC, Published, fill, published
from support.object_stores import FaultProxy, lost, make_bucket, refused, unheard, url_of

Answer = TypeVar("Answer")
_BUCKETS = itertools.count()
ATTEMPTS = 3  # of the client, before it gives up
ADA = Signer("ada", Ed25519PrivateKey.generate())
PEOPLE = Principals({"ada": ADA.key.public_key()})
FAULTS = {
    "lost": lost,
    "no answer": unheard,
    "500": refused(500, "InternalError"),
    "slow down": refused(503, "SlowDown"),
}


@pytest.fixture(scope="module")
def proxy(moto: str) -> Iterator[FaultProxy]:
    with FaultProxy(moto) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def at_once(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)  # the client's pause between attempts


@pytest.fixture
def bucket(moto: str) -> str:
    make_bucket(moto, name := f"acts-{next(_BUCKETS)}")
    return name


def passed(handler: Any, body: bytes) -> None:
    """No fault: the request before the one that meets it."""
    handler.answer(*handler.passed_on(body))


def until_it_works(do: Callable[[], Answer]) -> tuple[Answer, int]:
    """What it gives, and how often it had to be tried again."""
    for tried in itertools.count():
        try:
            return do(), tried
        except RetryLater:
            assert tried < 10
    raise AssertionError


class TestLog:
    @pytest.fixture
    def log(self, moto: str, proxy: FaultProxy, bucket: str, tmp_path: Path) -> Published:
        fill(open_store(url_of(moto, bucket)), range(20), every=20)
        return published(tmp_path / "signer", open_store(url_of(proxy.url, bucket)))

    @pytest.mark.requirement("M5.1")
    @pytest.mark.parametrize("fault", FAULTS)
    def test_it_goes_on_whole_through_every_kind_of_fault(
        self, fault: str, log: Published, moto: str, proxy: FaultProxy, bucket: str
    ) -> None:
        fill(open_store(url_of(moto, bucket)), range(20, 40), every=20)
        for method in ("PUT", "GET"):
            proxy.spoil(method, *[FAULTS[fault]] * ATTEMPTS)
        _, again = until_it_works(log.publish)
        report, of_log = log.check()

        assert again >= 1 and proxy.faults == []
        assert report.flaws == []
        assert of_log is not None
        assert (of_log.checkpoints, of_log.unpublished, of_log.uncovered_segments) == (2, 0, 0)

    @pytest.mark.requirement("M5.1")
    @pytest.mark.timeout(600)
    def test_there_is_one_tree_of_each_size_whichever_answer_was_lost(
        self, log: Published, moto: str, proxy: FaultProxy, bucket: str
    ) -> None:
        before = proxy.seen.count("PUT")
        fill(open_store(url_of(moto, bucket)), range(20, 30), every=10)
        log.publish()
        writes = proxy.seen.count("PUT") - before
        met = [0, writes // 2, writes - 3, writes - 2, writes - 1]
        for at, number in enumerate(met):
            first = 30 + 10 * at
            fill(open_store(url_of(moto, bucket)), range(first, first + 10), every=10)
            given_up = number >= writes - 2  # the checkpoint, and the newest one
            proxy.spoil("PUT", *[passed] * number, *[lost] * (ATTEMPTS if given_up else 1))
            _, again = until_it_works(log.publish)
            assert (again == 1) is given_up and proxy.faults == []
        report, of_log = log.check()

        assert writes == 6  # plan, bundle, tile, state, checkpoint, and the newest one
        assert report.flaws == []
        assert of_log is not None and of_log.checkpoints == len(met) + 2


class TestActs:
    @pytest.fixture
    def store(self, proxy: FaultProxy, bucket: str) -> ObjectStore:
        """Without a lock, so that what is past its date can go."""
        return open_store(url_of(proxy.url, bucket, lock="none"))

    @pytest.mark.requirement("M5.5")
    @pytest.mark.parametrize(("method", "number"), [("PUT", 0), ("DELETE", 0), ("DELETE", 1), ("DELETE", 2)])
    def test_a_purge_whose_answers_are_lost_has_one_receipt_and_ends(
        self, method: str, number: int, store: ObjectStore, proxy: FaultProxy
    ) -> None:
        archive_of(store, range(20), days_ago=40, policy="production=30")
        before = list(store.list(TOPIC))
        proxy.spoil(method, *[passed] * number, *[lost] * ATTEMPTS)
        _, again = until_it_works(lambda: purge(store, TOPIC, "over", ADA, PEOPLE, TODAY))
        acts = list(read_acts(store, PEOPLE))

        assert again == 1 and proxy.faults == []
        assert list(store.list(TOPIC)) == before[-1:]
        assert [(act.kind, len(act.said["segments"])) for act in acts] == [("purged", 3)]
        assert verify(store, purged=receipts(store, PEOPLE, TODAY)).flaws == []

    @pytest.mark.requirement("M5.5")
    @pytest.mark.parametrize("number", range(3))
    def test_a_hold_whose_answers_are_lost_is_on_everything_once_it_is_told_again(
        self, number: int, store: ObjectStore, proxy: FaultProxy
    ) -> None:
        archive_of(store, range(10))

        def add() -> int:
            if not list(read_acts(store, PEOPLE)):
                record_act(store, ADDED, {"prefix": TOPIC, "reason": "case 17"}, ADA, TODAY)
            return HoldsInStore(store, PEOPLE).put_on()

        proxy.spoil("PUT", *[passed] * number, *[lost] * ATTEMPTS)
        held, again = until_it_works(add)

        assert (held, again) == (2, 1) and proxy.faults == []
        assert [store.is_held(name) for name in store.list(TOPIC)] == [True, True]
        assert len(list(read_acts(store, PEOPLE))) == 1

    @pytest.mark.requirement("M5.5")
    @pytest.mark.parametrize("lock", ["none", "compliance"])
    def test_dates_move_on_though_the_answer_is_lost(self, lock: str, proxy: FaultProxy, bucket: str) -> None:
        store = open_store(url_of(proxy.url, bucket, lock=lock))
        archive_of(store, range(10))
        proxy.spoil("PUT", passed, *[lost] * ATTEMPTS)
        moved, again = until_it_works(lambda: lengthen(store, read_policy("production=5000")))

        assert (moved.segments, again) == (0, 1)  # both had been moved when the answer was lost
        assert {store.retain_until(name) for name in store.list(TOPIC)} == {in_days(5001)}
        assert in_days(5001) > (TODAY + timedelta(days=5000)).isoformat()
        assert verify(store).flaws == []
