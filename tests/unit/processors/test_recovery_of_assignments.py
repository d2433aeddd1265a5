"""What a worker does with its tables when partitions are taken from it, given to it, or Kafka does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.recovery import CutRecovery
from deploytrail_processors.safe_app import SafeApp, SafeConsumer
from deploytrail_processors.tables import Table
from deploytrail_schemas.errors import RetryLater
from faust.tables.recovery import RebalanceAgain, ServiceStopped
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

SOURCE, CHANGELOG = "source", "app-seen-changelog"


class Quiet:
    """A forwarder whose barrier is always behind it."""

    async def barrier(self) -> None:
        """Everything is delivered."""


@pytest.fixture
def app() -> SafeApp:
    made = SafeApp("app", forwarder=cast(Forwarder, Quiet()), follows=SOURCE, store="memory://")
    made.Table("seen", partitions=4, key_type=str, value_type=None)
    made.consumer_generation_id = 2
    return made


@pytest.fixture
def recovery(app: SafeApp) -> CutRecovery:
    found = cast(Any, app.tables).recovery
    assert isinstance(found, CutRecovery)
    found._generation_id = 2
    return found


class Consumer(SafeConsumer):
    """The repaired consumer without a client; `said` is what happened, in order."""

    def __init__(self, app: SafeApp) -> None:
        self.app = app
        self.said: list[str] = []
        self.found: dict[int, int | None] = {}
        self._active_partitions, self._paused_partitions = set(), set()
        for name in ("_acked", "_acked_index", "_gap"):
            setattr(self, name, {TP(SOURCE, 0): [7], TP(SOURCE, 1): [8]})

    def assignment(self) -> set[TP]:
        return {TP(SOURCE, 0)}

    def stop_flow(self) -> None:
        self.said.append("flow stopped")

    async def wait_empty(self) -> None:
        assert self._acked, "nothing is acknowledged any more"
        self.said.append("committed")

    async def cuts(self, topic: str, partitions: set[int]) -> dict[int, int | None]:
        assert topic == SOURCE
        return {partition: self.found.get(partition) for partition in partitions}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int | None]:
        return dict.fromkeys(partitions, 0)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The thread's own loop stays as it is: Faust asks for it."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def test_a_kafka_that_does_not_answer_ends_the_worker_instead_of_its_recovery(recovery: CutRecovery) -> None:
    with pytest.raises(RetryLater, match="Kafka does not answer"):
        run(recovery._wait(asyncio.sleep(600), timeout=0.01))


def test_no_stream_goes_on_while_a_rebalance_has_begun(recovery: CutRecovery) -> None:
    async def meanwhile() -> None:
        recovery.on_partitions_revoked({TP(SOURCE, 0)})

    with pytest.raises(RebalanceAgain):
        recovery.loop.run_until_complete(recovery._wait(meanwhile(), timeout=30))


def test_what_is_assigned_is_paused_before_anything_else(app: SafeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust makes it active, and pauses it some turns of the loop later: records of that moment met no tables."""
    consumer = Consumer(app)
    seen: list[set[TP]] = []

    async def stock(self: Any, assigned: set[TP], _: int = 0) -> None:
        self._set_active_tps(assigned)
        seen.append(set(self._active_partitions))

    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", stock)
    run(consumer.on_partitions_assigned({TP(SOURCE, 0), TP(CHANGELOG, 0)}, 3))

    assert seen == [set()]


def test_a_worker_that_is_stopped_ends_its_recovery_quietly(recovery: CutRecovery) -> None:
    recovery._stopped.set()

    with pytest.raises(ServiceStopped):
        run(recovery._wait(asyncio.sleep(600), timeout=0.01))


def test_a_recovery_that_ends_amid_the_next_rebalance_is_none(recovery: CutRecovery, app: SafeApp) -> None:
    recovery.cuts = {0: 5}
    recovery.on_partitions_revoked({TP(SOURCE, 0)})

    with pytest.raises(RebalanceAgain):
        run(recovery.on_recovery_completed(2))
    assert app.progress.at == {}


def test_no_stream_begins_where_nobody_has_said_what_is_committed(recovery: CutRecovery) -> None:
    with pytest.raises(RetryLater, match="which offsets are committed"):
        run(recovery.on_recovery_completed(2))


@pytest.mark.parametrize(("generation", "at"), [(3, {0: 5}), (4, {})])
def test_rows_in_memory_are_not_trusted_after_a_generation_of_others(
    recovery: CutRecovery, app: SafeApp, generation: int, at: dict[int, int]
) -> None:
    """Others may have had the partition, and left rows of what they did not commit."""
    app.progress.at = {0: 5}
    run(recovery.on_rebalance(set(), set(), set(), generation))

    assert app.progress.at == at


@pytest.mark.requirement("M8.4")
def test_what_is_as_it_was_committed_is_not_read_again_and_all_else_from_the_begin(
    recovery: CutRecovery, app: SafeApp
) -> None:
    [table] = recovery._tables()
    assert isinstance(table, Table)
    for partition in range(3):
        table.data.data[f"{partition}/row"] = table._partitions[f"{partition}/row"] = partition
    app.progress.at = {0: 5, 1: 5}
    app.progress.written = {0: 4, 1: 6}
    consumer = Consumer(app)
    consumer.found = {0: 5, 1: 5, 2: 9}
    changelogs = {TP(CHANGELOG, partition) for partition in range(3)}
    recovery.active_highwaters.update(dict.fromkeys(changelogs, 70))
    begins: dict[TP, int | None] = dict.fromkeys(changelogs, 40)
    run(recovery._build_offsets(consumer, changelogs, begins, "active"))

    assert begins == {TP(CHANGELOG, 0): 70, TP(CHANGELOG, 1): -1, TP(CHANGELOG, 2): -1}
    assert dict(table.data.items()) == {"0/row": 0}
    assert table.cuts == recovery.cuts == {0: 5, 1: 5, 2: 9}
    assert app.progress.at == {0: 5}


def test_what_is_acknowledged_is_committed_before_partitions_go(app: SafeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(app)

    async def forget(self: Consumer, revoked: set[TP]) -> None:
        self.said.append("forgotten")

    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", forget)
    run(consumer.on_partitions_revoked({TP(SOURCE, 0)}))

    assert consumer.said == ["flow stopped", "committed", "forgotten"]


def test_what_an_earlier_assignment_has_acknowledged_is_not_committed_by_this_one(
    app: SafeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def assign(*_: Any) -> None: ...

    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", assign)
    consumer = Consumer(app)
    run(consumer.on_partitions_assigned({TP(SOURCE, 0)}, 3))

    assert set(consumer._acked) == set(consumer._acked_index) == set(consumer._gap) == {TP(SOURCE, 1)}


@pytest.mark.parametrize(("generation", "at"), [(2, {0: 13}), (3, {0: 10})])
def test_a_commit_that_returns_after_a_rebalance_says_nothing_of_the_rows_that_were_read_since(
    app: SafeApp, monkeypatch: pytest.MonkeyPatch, generation: int, at: dict[int, int]
) -> None:
    async def commit(*_: Any) -> bool:
        app.consumer_generation_id = generation
        return True

    monkeypatch.setattr(driver.Consumer, "_commit", commit)
    app.progress.at = {0: 10}
    consumer = Consumer(app)
    consumer.barrier = Quiet().barrier
    run(consumer._commit({TP(SOURCE, 0): 13, TP("another", 0): 99}))

    assert app.progress.at == at
