"""Sequencer, signer and witnesses as processes: killed at any moment, and from an event to a published checkpoint."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.notes import read_note
from support.archive_log import fill
from support.commands import run, running
from support.log_processes import ORIGIN, LogProcesses


@pytest.mark.requirement("M5.1", "M2.6")
@pytest.mark.timeout(600)
def test_a_log_is_cosigned_by_two_witnesses_and_verified(tmp_path: Path) -> None:
    log = LogProcesses(tmp_path)
    log.trust({})
    with ExitStack() as processes:
        urls = {}
        for name in ("w1", "w2"):
            arguments = ("--key", f"{name}.key", "--trust", "trust", "--memory", name, "--port", "0")
            witness = processes.enter_context(running("archive", "witness", *arguments, env=log.env, cwd=tmp_path))
            urls[name] = next(line for line in witness.lines if "ready on" in line).split()[-1]
        log.trust(urls)
        fill(log.store, range(100), every=25)
        for word in ("sequence", "sign"):
            processes.enter_context(running("archive", word, env=log.env, cwd=tmp_path))
        log.wait_covered(100)
        fill(log.store, range(100, 150), every=25)
        log.wait_covered(150)
    names = [signature.name for signature in read_note(log.store.newest(CHECKPOINT)).signatures]
    proof = run("archive", "prove", "shop-3", env=log.env, cwd=tmp_path)
    shown = run("archive", "verify-proof", "shop-3.proof.json", "--trust", "trust", env=log.env, cwd=tmp_path)

    assert names == [ORIGIN, "w1.example.com", "w2.example.com"]
    assert "150 records" in log.verify()
    assert proof.returncode == 0, proof.stderr
    assert shown.returncode == 0, shown.stdout + shown.stderr


@pytest.mark.requirement("M5.1")
@pytest.mark.timeout(600)
def test_processes_that_are_killed_at_any_moment_leave_a_whole_log(tmp_path: Path) -> None:
    log = LogProcesses(tmp_path)
    log.trust({})
    rng = random.Random(3)
    filled = 0
    published: dict[int, bytes] = {}
    for word in ["sequence", "sign"] * 6:
        fill(log.store, range(filled, filled + 300), every=3)
        filled += 300
        victim = log.command(word)
        begun = time.monotonic()
        aim = begun + rng.uniform(0.2, 1.2)  # import takes the first part of it
        while time.monotonic() < aim and victim.process.poll() is None:
            time.sleep(0.005)
        victim.kill()
        if log.covered():
            checkpoint, _ = open_checkpoint(log.store.newest(CHECKPOINT))
            assert published.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root
    for word in ("sequence", "sign"):
        done = run("archive", word, "--once", env=log.env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    assert f"{filled} records" in log.verify()
    assert log.covered() > filled


def test_a_second_signer_of_one_memory_is_refused(tmp_path: Path) -> None:
    log = LogProcesses(tmp_path)
    log.trust({})
    with running("archive", "sign", env=log.env, cwd=tmp_path):
        second = run("archive", "sign", "--once", env=log.env, cwd=tmp_path)

    assert second.returncode == 78
    assert "in use by another process" in second.stderr
