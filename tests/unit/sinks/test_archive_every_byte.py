"""Every byte of every object of an archive of a thousand events counts; so does that each is there, in its place.

Some bytes of each object by default; all of them, and every bit of the small ones, with DEPLOYTRAIL_TEST_EVERY_BYTE=1.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from deploytrail_sinks.archive.log.timestamps import read_roots
from support.archive_attack import Target, a_thousand_events, misses
from support.timestamp_authority import authority_at, make_authority

EVERY_BYTE = os.environ.get("DEPLOYTRAIL_TEST_EVERY_BYTE") == "1"  # eight minutes of both cores
WORKERS = (os.cpu_count() or 1) if EVERY_BYTE else 1
SMALL = 700  # bytes


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """Stamped by an authority where there is one here."""
    folder = tmp_path_factory.mktemp("attacked")
    pytest.importorskip("rfc3161_client")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: it is the time stamp authority")
    (folder / "authority").mkdir()
    roots = make_authority(folder / "authority")
    with authority_at(roots.parent) as url:
        return a_thousand_events(folder / "signer", url, tuple(read_roots(roots.read_bytes())))


def test_a_thousand_events_with_all_that_an_archive_has_are_whole(target: Target) -> None:
    kinds = {name.split("/")[1] for name in target.objects if name.startswith("log/")}

    assert target.flaws(target.objects) == []
    assert kinds == {"batches", "checkpoint", "checkpoints", "states", "tile", "timestamps"}


def flipped(name: str, data: bytes, at: int, bit: int) -> dict[str, bytes | None]:
    return {name: data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]}


class Flips:
    """One changed bit in each byte; in small objects each bit. A second run over them gives the same."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    def __iter__(self) -> Iterator[tuple[str, Callable[[], dict[str, bytes | None]]]]:
        rng = random.Random(7)
        for name, data in self._objects.items():
            sample = {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(3))}
            for at in range(len(data)) if EVERY_BYTE else sorted(sample):
                for bit in range(8) if EVERY_BYTE and len(data) < SMALL else (rng.randrange(8),):
                    yield f"{name} byte {at} bit {bit}", partial(flipped, name, data, at, bit)


@pytest.mark.requirement("M5.1")
@pytest.mark.timeout(7200 if EVERY_BYTE else 120)
def test_every_flipped_byte_is_found_and_its_object_named(target: Target) -> None:
    count, missed = misses(target, Flips(target.objects), WORKERS)

    assert missed == []
    assert count >= len(target.objects) * 3


def beside(name: str) -> list[str]:
    """Names where nothing is and somebody might put an object: another class, partition, number, spelling, kind."""
    if name.startswith("log/"):
        folder, _, last = name.rpartition("/")
        number = f"{folder}/{int(last) + 1:020}" if last.isdigit() and len(last) == 20 else f"{name}9"
        return [number, f"{name}/x", f"log/other/{last}", f"{folder}/{last}\u200b"]
    topic, partition, kept, last = name.split("/")
    return [
        f"{topic}/{partition}/{kept}/{int(last[:20]) + 7:020}.avro",
        f"{topic}/{partition}/production-regulated-2/{last}",
        f"{topic}/199/{kept}/{last}",
        f"{topic}/{partition}/{kept}/{last}.bak",
        f"{topic}\u200b/{partition}/{kept}/{last}",
    ]


def structural(objects: dict[str, bytes]) -> Iterator[tuple[str, Callable[[], dict[str, bytes | None]]]]:
    """Deletions, truncations, renames, and each in the place of each other: swaps, going back to old ones."""
    rng = random.Random(8)
    late = sorted(name for name in objects if name.startswith("log/timestamps/"))[-2:]  # not in the log yet
    for name, data in objects.items():
        for at in {0, 1, len(data) // 2, len(data) - 1, rng.randrange(len(data))}:
            yield f"{name} truncated to {at}", partial(dict, {name: data[:at]})
        for more in (b"\0", b"\n", data):
            yield f"{name} lengthened by {more[:9]!r}", partial(dict, {name: data + more})
        if name not in late:
            yield f"{name} deleted", partial(dict, {name: None})
        for other in beside(name):
            yield f"{other} put there, as {name} is", partial(dict, {other: data})
            if name not in late:
                yield f"{name} renamed {other}", partial(dict, {name: None, other: data})
    for one, two in itertools.permutations(objects, 2):
        if objects[one] != objects[two] and (EVERY_BYTE or rng.random() < 0.1):
            yield f"{one} is what {two} is", partial(dict, {one: objects[two]})
            yield f"{one}|{two} swapped", partial(dict, {one: objects[two], two: objects[one]})


@pytest.mark.requirement("M5.1")
@pytest.mark.timeout(3600 if EVERY_BYTE else 240)
def test_every_deletion_truncation_rename_and_swap_is_found_and_the_object_named(target: Target) -> None:
    count, missed = misses(target, list(structural(target.objects)), WORKERS)

    assert missed == []
    assert count > len(target.objects) * 15
