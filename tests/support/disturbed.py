"""Two workers of every app over the trail, and a story told to them while they are disturbed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.replay import Replay
from deploytrail_processors.replay_command import makers
from deploytrail_processors.state_formats import end_offsets
from deploytrail_schemas.exit_codes import UNAVAILABLE
from deploytrail_schemas.kafka import producer_config, why_undelivered
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from support.commands import Command, run
from support.story import APPS, apply_policies, encoded, tell, wait_until_read
from support.values import NOON

# A slow machine may not come to the end of a stop in the time that it has; nothing is lost by that.
ENDED_WELL = {0, UNAVAILABLE}
CRASHED = "Crashed reason="  # what a worker says at the begin of an end by itself


class Teller(threading.Thread):
    """Writes the story onto the trail, all partitions beside each other, over some seconds."""

    def __init__(
        self, kafka: str, partitions: Iterable[int], lives: int, seconds: float, *, begin: int = NOON, name: str = "p"
    ) -> None:
        super().__init__(daemon=True)
        stories = [encoded(tell(lives, partition, begin=begin, name=name, hours=3)) for partition in partitions]
        self._messages = [message for row in zip_longest(*stories) for message in row if message is not None]
        self._producer = Producer(producer_config(Settings(kafka=kafka)) | {"delivery.timeout.ms": 600_000})
        self._seconds = seconds
        self._errors: list[str] = []
        self._again: list[tuple[int, bytes, bytes]] = []  # what Kafka may not have

    def run(self) -> None:
        began = time.monotonic()
        for number, message in enumerate(self._messages):
            self._write(message)
            self._producer.poll(0)
            time.sleep(max(0.0, began + number * self._seconds / len(self._messages) - time.monotonic()))

    def finish(self) -> int:
        """How many messages were written, once all are acknowledged."""
        self.join()
        left = self._producer.flush(300)
        while self._again:
            self._write(self._again.pop(0))
            left = self._producer.flush(300)
        if left or self._errors:
            raise RuntimeError(f"the story was not delivered: {self._errors[:3]}")
        return len(self._messages)

    def _write(self, sent: tuple[int, bytes, bytes]) -> None:
        partition, key, value = sent

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._errors.append(error.str())
            elif why_undelivered(error, message):
                self._again.append(sent)

        self._producer.produce(Topic.EVENTS.value, value, key, partition=partition, on_delivery=delivered)


class Pair:
    """Two processes with every app over the trail in each."""

    def __init__(self, kafka: str, folder: Path, apps: tuple[str, ...] = APPS, **env: str) -> None:
        self.kafka, self.folder, self._apps = kafka, folder, apps
        self._env = {"DEPLOYTRAIL_KAFKA": kafka, **env}
        self.workers: list[Command] = []

    def __enter__(self) -> Pair:
        apply_policies(self.kafka, self.folder)
        try:
            self.workers += [self._new("a"), self._new("b")]
            for worker in self.workers:
                worker.wait_ready(180)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for worker in self.workers:
                stack.callback(worker.kill)

    def kill(self, number: int) -> None:
        """kill -9, and a new worker in its place."""
        self.workers[number].kill()
        self.workers[number] = self._new("ab"[number])
        self.workers[number].wait_ready(180)

    def restart(self, number: int) -> None:
        """SIGTERM, and a new worker in its place once the old one has ended well."""
        assert self.workers[number].stop(90) in ENDED_WELL
        self.workers[number] = self._new("ab"[number])
        self.workers[number].wait_ready(180)

    def revive(self) -> list[str]:
        """Start workers anew that ended by themselves, as a supervisor does; what those have said."""
        ended = [
            n for n, worker in enumerate(self.workers) if worker.process.poll() is not None or CRASHED in worker.said()
        ]
        for number in ended:
            self.workers[number].process.wait(60)
        said = [self.workers[number].said() for number in ended]
        for number in ended:
            self.workers[number] = self._new("ab"[number])
            self.workers[number].wait_ready(180)
        return said

    def wait_until_read(self, seconds: float = 300) -> list[str]:
        """Until every app has committed all of the trail. Workers that end by themselves are started anew; what those
        have said."""
        said = self.revive()
        wait_until_read(self.kafka, self._apps, seconds=seconds, meanwhile=lambda: said.extend(self.revive()))
        return said

    def stop(self, excuse: str | None = None) -> None:
        """SIGTERM to both at once. AssertionError with what one has said that did not end well, but for one that was
        just ending by itself, and said `excuse`."""
        with ThreadPoolExecutor() as pool:
            exits = list(pool.map(lambda worker: worker.stop(90), self.workers))
        for code, worker in zip(exits, self.workers, strict=True):
            said = worker.said()
            assert code in ENDED_WELL or (excuse is not None and excuse in said), f"exit code {code}:\n{said[-8000:]}"

    def differences(self) -> list[dict[str, Any]]:
        """What a replay would have written otherwise."""
        words = ("processor", "--replay", "--compare", "--json", *self._apps)
        done = run(*words, env=self._env, cwd=self.folder, seconds=240)
        assert done.returncode in (0, 1), done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["differences"]
        return found

    def said(self) -> dict[str, tuple[set[str], set[str]]]:
        """Of each app everything it has said, and what an undisturbed run says: ids of findings, superseded ones
        too, and the newest revision of each record."""
        settings = Settings(kafka=self.kafka)
        ends = end_offsets(settings, Topic.EVENTS)
        with closing(PolicyReader(settings)) as reader:
            replay = Replay(
                settings, makers(self._apps, settings), reader.read_to_end(), dict.fromkeys(self._apps, ends)
            )
        found: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in self._apps}
        for partition in range(settings.partitions):
            for side, outputs in enumerate((replay.written(partition), replay.told(partition).outputs)):
                for name, output in outputs.items():
                    found[name][side].update(output.findings)
                    found[name][side].update(f"{r['deployment_id']} {r['revision']}" for r in output.records.values())
        return found

    def _new(self, name: str) -> Command:
        state = {"DEPLOYTRAIL_STATE": str(self.folder / f"state-{name}")}
        return Command("processor", *self._apps, env=self._env | state, cwd=self.folder)
