"""From findings and records to the people on call.

One page for each change of an incident, in the order of its partition. A page is intended in the
state topic, sent, and its result written; then the offset is committed. After a crash between
these, what was intended is sent again under its key.

Where a policy says who is told next, the receiver is asked before each step whether somebody has acknowledged.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from deploytrail_schemas.codec import DecodeError, decode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks import metrics
from deploytrail_sinks.http_json import Refused
from deploytrail_sinks.on_call import ledger
from deploytrail_sinks.on_call.alerts import change_of, hear
from deploytrail_sinks.on_call.escalation import misses_deployer, plan_for
from deploytrail_sinks.on_call.incidents import Action, Change, Said, changes, moment
from deploytrail_sinks.on_call.ledger import Incident, Status, intend, settle, waited
from deploytrail_sinks.on_call.people import People
from deploytrail_sinks.on_call.senders import Sender
from deploytrail_sinks.on_call.state_topic import StateTopic
from deploytrail_sinks.policies import Policies

log = logging.getLogger(__name__)
GROUP = "deploytrail-sink-on-call"
TOPICS = (Topic.FINDINGS, Topic.RECORDS)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_COMMIT_SECONDS = 0.5
_ASK_AGAIN_SECONDS = 5.0
_TIMEOUT = 30.0


class OnCallSink:
    """One consumer: `run` until `stop`."""

    def __init__(self, settings: Settings, sender: Sender, wall_clock: Callable[[], int]) -> None:
        self._sender, self._wall_clock = sender, wall_clock
        self._history = settings.backfill_partition
        self._max_age = int(settings.oncall_max_age_minutes * 60_000_000)
        self._wait = int(settings.oncall_wait_seconds * 1_000_000)
        self._state, self._policies, self._people = StateTopic(settings), Policies(settings), People()
        self._consumer = Consumer(
            # A receiver that is away holds the stream up, at most until the page is too old.
            consumer_config(settings, GROUP)
            | {
                "partition.assignment.strategy": "range",
                "max.poll.interval.ms": 2 * 3_600_000,
                "fetch.wait.max.ms": 50,
                "enable.partition.eof": True,
            }
        )
        self._done: dict[tuple[str, int], int] = {}
        self._mine: frozenset[str] = frozenset()
        self._begins: dict[tuple[str, int], int] = {}  # what comes before is read for its people only
        # When a receiver that did not say who acknowledged is asked again, and of which incident it was asked: the ones
        # behind that come first then, lest one that it never answers for keeps all others waiting.
        self._ask_again, self._asked_of = 0.0, ""
        self._committed_at = 0.0
        self._stop = threading.Event()
        self.ready = False

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Consume until `stop`. RetryLater where Kafka stays away."""
        self._policies.start()
        self._consumer.subscribe([t.value for t in TOPICS], on_assign=self._assigned, on_revoke=self._revoked)
        said = False
        try:
            while not self._stop.is_set():
                if self.ready and not said:
                    on_ready()
                    said = True
                message = self._consumer.poll(0.1)
                if message is not None:
                    self._take(message)
                self._send_what_waited()
                self._commit_if_due()
            self._commit()
        finally:
            self._stop.set()
            self._policies.close()
            self._consumer.close()

    def stop(self) -> None:
        """Let `run` end; a page that waits for its receiver stays intended."""
        self._stop.set()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._handle(message)
        elif error.code() == KafkaError._PARTITION_EOF:  # what was handled before may have been deleted since
            self._begins.pop((message.topic() or "", message.partition() or 0), None)

    def _handle(self, message: Message) -> None:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        begins = self._begins.get((topic, partition), 0)
        if offset + 1 >= begins:
            self._begins.pop((topic, partition), None)
        # History does not wake anybody.
        if partition != self._history:
            try:
                kind, value = decode(_bytes(message.value()))
            except DecodeError as error:
                log.warning(
                    "%s:%s:%s cannot be read, the ClickHouse sink sets it aside: %s", topic, partition, offset, error
                )
            else:
                if kind is RecordType.RECORD:
                    self._people.learn(value)
                if offset < begins:
                    return  # it was handled before
                place = f"{topic}:{partition}"
                for one in changes(kind, value, self._policies.at(moment(value))):
                    for change in self._of_alert(one, place, offset) if isinstance(one, Said) else [one]:
                        if not self._apply(change, place, offset):
                            return  # stopped: not done, so not committed
        self._done[topic, partition] = max(offset + 1, begins)

    def _of_alert(self, said: Said, place: str, offset: int) -> list[Change]:
        """What pages need after what was said of an alert. They follow from the rows of all alerts that each is about,
        so that a crash behind the row of this one loses nothing."""
        known = self._state.alert(said.signal_id)
        alert = hear(known, said, place, offset)
        if alert is None:
            return []
        if alert != known:
            self._state.write_alert(alert)
        return [change_of(page, self._state.alerts_of(page), at=said.at, word=said.word) for page in alert.pages]

    def _apply(self, change: Change, place: str, offset: int) -> bool:
        """Whether the change is settled; False where it was stopped before."""
        known = self._state.get(change.key)
        wait_until = self._wall_clock() + self._wait if self._wait and self._may_wait(change) else 0
        after = intend(known, change, place, offset, wait_until=wait_until)
        if after is None:
            return True
        if after.status is Status.INTENDED:
            return self._send(after)
        self._state.write(after)
        return True

    def _may_wait(self, change: Change) -> bool:
        if change.may_wait or (change.cause and self._state.is_told_of(change.cause)):
            return True
        # The record that names the deployer may be right behind.
        about = self._people.about(change.details)
        is_page = change.action is Action.TRIGGER
        return is_page and misses_deployer(about, change.severity, self._policies.at(change.at))

    def _send_what_waited(self) -> None:
        if self._begins:
            return  # its people are still being read, and whom a page names first is written for good
        for incident in sorted(self._state.waiting, key=lambda one: one.key <= self._asked_of):
            # Others' incidents are known here too, as they were when partitions last moved.
            if not self._mine & incident.seen.keys():
                continue
            now = self._wall_clock()
            intended = waited(incident, now)
            if intended is None and ledger.is_unanswered(incident, now):
                intended = self._unanswered(incident)
            if intended is not None and not self._send(intended):
                return  # stopped

    def _unanswered(self, incident: Incident) -> Incident | None:
        """The next step of an incident that nobody has acknowledged; None where none is to be sent now."""
        if time.monotonic() < self._ask_again:
            return None  # pages must not wait for one question after another to a receiver that hangs
        try:
            acknowledged = self._sender.acknowledged(incident)
        except RetryLater as error:
            if not self._ask_again:
                log.error("who acknowledged %s is not known, nobody else is told yet: %s", incident.key, error)
            self._ask_again, self._asked_of = time.monotonic() + _ASK_AGAIN_SECONDS, incident.key
            return None
        self._ask_again = 0.0
        if acknowledged:
            self._state.write(ledger.acknowledge(incident))
            metrics.ONCALL_ESCALATIONS.labels("acknowledged").inc()
            return None
        after = ledger.next_step(incident)
        metrics.ONCALL_ESCALATIONS.labels("told" if after.next_at else "unanswered").inc()
        if after.next_at:
            return after
        log.error("nobody has acknowledged %s: all of %d steps were taken", incident.key, incident.step)
        self._state.write(after)
        return None

    def _send(self, intended: Incident) -> bool:
        old = intended.at < self._wall_clock() - self._max_age
        if intended.action is Action.TRIGGER and old and not intended.sent:
            self._settle(intended, Status.TOO_OLD, "")
            return True
        about = self._people.about(intended.details)
        plan = plan_for(about, intended.severity, self._policies.at(intended.at))
        intended = ledger.telling(intended, plan)
        self._state.write(intended)
        return self._deliver(intended)

    def _deliver(self, intended: Incident) -> bool:
        pause, given_up_at = _FIRST_PAUSE, time.monotonic() + self._max_age / 1e6
        while True:
            try:
                answer = self._sender.send(intended, self._wall_clock())
            except RetryLater as error:
                if pause == _FIRST_PAUSE:
                    log.error("the page %s (%s) waits: %s", intended.key, intended.action.value, error)
                if time.monotonic() > given_up_at:
                    log.error("the page %s is given up: its receiver was away for too long", intended.key)
                    self._settle(intended, Status.TOO_OLD, str(error))
                    return True
                if self._stop.wait(pause * random.uniform(0.5, 1.5)):
                    return False
                pause = min(pause * 2, _LONGEST_PAUSE)
            except Refused as error:
                log.error("the page %s was refused and is not sent again: %s", intended.key, error)
                self._settle(intended, Status.REFUSED, str(error))
                return True
            else:
                self._settle(intended, Status.OPEN if intended.action is Action.TRIGGER else Status.RESOLVED, answer)
                return True

    def _settle(self, intended: Incident, status: Status, answer: str) -> None:
        self._state.write(settle(intended, status, answer, self._wall_clock()))
        metrics.ONCALL_PAGES.labels(intended.action.value, status.value).inc()

    def _commit_if_due(self) -> None:
        if self._done and time.monotonic() - self._committed_at > _COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        done, self._done = self._done, {}
        self._committed_at = time.monotonic()
        if not done:
            return
        try:
            self._consumer.commit(
                offsets=[TopicPartition(*place, offset) for place, offset in done.items()], asynchronous=False
            )
        except KafkaException as error:
            # Whoever has the partitions now reads them again; the state knows what was done.
            log.info("offsets were not committed: %s", error)

    def _assigned(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        if self._stop.is_set():  # a rebalance that the client ends while it is closed, and Kafka answers it no more
            return
        self._done = {}
        self._mine = frozenset(f"{one.topic}:{one.partition}" for one in assigned)
        self._state.read()
        self._begins = {}
        try:
            consumer.assign([self._from_where(one) for one in consumer.committed(assigned, timeout=_TIMEOUT)])
        except KafkaException as error:
            raise RetryLater(f"Kafka does not say where to go on: {error}") from error
        self.ready = True

    def _from_where(self, committed: TopicPartition) -> TopicPartition:
        """Of records also what was handled since the oldest that still pages: its people are not kept in the state."""
        if committed.topic != Topic.RECORDS.value or committed.partition == self._history or committed.offset < 0:
            return committed
        since = (self._wall_clock() - self._max_age) // 1000
        [found] = self._consumer.offsets_for_times(
            [TopicPartition(committed.topic, committed.partition, since)], timeout=_TIMEOUT
        )
        if not 0 <= found.offset < committed.offset:
            return committed
        self._begins[committed.topic, committed.partition] = committed.offset
        return TopicPartition(committed.topic, committed.partition, found.offset)

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._commit()
        self._mine = frozenset()


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
