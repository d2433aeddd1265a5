"""The spool on a real disk: several processes, crashes, damage, and no room."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from deploytrail import _report, _spool
from deploytrail._backlog import Backlog, Echo, Position, producers, read_delivered, waiting
from deploytrail._spool import Spool, SpoolFullError, frame, segments
from support.spool import command, environment, python, stored

MANY = 1 << 30


@pytest.fixture(autouse=True)
def _speak_again() -> Iterator[None]:
    _report.forget()
    yield
    _report.forget()


def _event(text: str = "event") -> Callable[[str, int], bytes]:
    return lambda _producer, seq: f"{seq}:{text}".encode()


def _payloads(spool: Path) -> list[bytes]:
    return [entry.payload for folder in producers(spool) for entry in Backlog(folder).read(MANY, MANY)]


def _segment(spool: Path) -> Path:
    return next(spool.glob("*/*.segment"))


@pytest.mark.requirement("M3.1")
def test_events_survive_the_process_in_order(tmp_path: Path) -> None:
    for text in ("a", "b", "c"):
        Spool(str(tmp_path), MANY).append(_event(text))

    assert _payloads(tmp_path) == [b"1:a", b"2:b", b"3:c"]


@pytest.mark.requirement("M3.1", "M7.3")
def test_numbers_are_gapless_across_short_lived_processes(tmp_path: Path) -> None:
    env = environment(tmp_path)
    ids = [command("start", env=env).stdout.strip() for _ in range(3)]
    for deployment in ids:
        command("succeed", deployment, env=env)
    events = stored(tmp_path)

    assert [event["producer_seq"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert len({event["producer_id"] for event in events}) == 1
    assert [event["deployment_id"] for event in events] == ids * 2
    assert [event["event_type"] for event in events] == ["started"] * 3 + ["succeeded"] * 3


@pytest.mark.requirement("M3.1", "M7.3")
def test_numbers_are_gapless_across_processes_threads_and_forks(tmp_path: Path) -> None:
    # Twelve wait for one lock: where the disk is slow, for longer than a deploy script would.
    script = """
import os, threading, deploytrail, deploytrail._spool
deploytrail._spool.LOCK_SECONDS = 50.0
def work(count):
    deployment = deploytrail.track()
    for _ in range(count):
        deployment.progress()
work(5)                                          # a reporter that the children inherit
threads = [threading.Thread(target=work, args=(20,)) for _ in range(4)]
for thread in threads: thread.start()
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        work(20)
        os._exit(0)
    children.append(pid)
for thread in threads: thread.join()
for pid in children: assert os.waitpid(pid, 0)[1] == 0
work(5)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=environment(tmp_path), stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in running]
    numbers = [event["producer_seq"] for event in stored(tmp_path)]

    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert numbers == list(range(1, 3 * (5 + 80 + 60 + 5) + 1)), outputs


@pytest.mark.requirement("M3.1")
def test_torn_tail_is_cut_and_its_number_given_again(tmp_path: Path) -> None:
    Spool(str(tmp_path), MANY).append(_event("kept"))
    with _segment(tmp_path).open("ab") as file:
        file.write(frame(_spool.EVENT, 2, b"2:torn by a crash")[:-3])
    Spool(str(tmp_path), MANY).append(_event("next"))

    assert _payloads(tmp_path) == [b"1:kept", b"2:next"]


@pytest.mark.requirement("M3.1")
def test_damage_in_the_middle_is_set_aside_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spool = Spool(str(tmp_path), MANY)
    for text in ("a", "b", "c"):
        spool.append(_event(text))
    data = bytearray(_segment(tmp_path).read_bytes())
    length = len(data) // 3
    data[length + 5] ^= 0xFF
    _segment(tmp_path).write_bytes(data)
    Spool(str(tmp_path), MANY).append(_event("d"))

    assert _payloads(tmp_path) == [b"1:a", b"3:c", b"4:d"]
    kept = list((tmp_path / "damaged").iterdir())
    assert [path.read_bytes() for path in kept] == [bytes(data[length : 2 * length])]
    assert (
        capfd.readouterr().err == f"deploytrail: {length} bytes of the spool are no event; they are kept in {kept[0]}\n"
    )


@pytest.mark.requirement("M3.1")
def test_segments_roll_and_go_once_delivered(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 8 * 100)  # so segments of 100 bytes
    for _ in range(9):
        spool.append(_event("x" * 20))
    folder = producers(tmp_path)[0]
    backlog = Backlog(folder)
    entries = backlog.read(5, MANY)
    before = segments(str(folder))
    backlog.delivered(entries[-1].behind, Echo(1, 2, 3))

    assert before == [1, 3, 5, 7, 9]
    assert segments(str(folder)) == [5, 7, 9]
    assert read_delivered(folder) == (entries[-1].behind, Echo(1, 2, 3))
    assert [entry.seq for entry in Backlog(folder).read(MANY, MANY)] == [6, 7, 8, 9]
    assert Spool(str(tmp_path), 800).append(_event())[1] >= 9
    assert _payloads(tmp_path)[-1] == b"10:event"


@pytest.mark.requirement("M3.1")
def test_numbers_go_on_when_everything_is_delivered(tmp_path: Path) -> None:
    Spool(str(tmp_path), MANY).append(_event())
    backlog = Backlog(producers(tmp_path)[0])
    backlog.delivered(backlog.read(MANY, MANY)[-1].behind, None)
    Spool(str(tmp_path), MANY).append(_event())

    assert _payloads(tmp_path) == [b"2:event"]


@pytest.mark.requirement("M3.1", "M8.4")
def test_progress_is_dropped_first_when_the_spool_fills(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 2000)
    dropped = 0
    for _ in range(100):
        try:
            spool.append(_event("x" * 30), droppable=True)
        except SpoolFullError:
            dropped += 1
    kept = len(_payloads(tmp_path))
    spool.append(_event("an end"))

    assert dropped == 100 - kept
    assert 20 <= kept <= 30
    assert _payloads(tmp_path)[-1] == b"101:an end"  # the numbers in between were given: the gap is seen
    assert _spool.read_lost(str(producers(tmp_path)[0])) == (101, dropped)


@pytest.mark.requirement("M3.1", "M8.4")
def test_progress_that_is_stored_makes_room_for_starts_and_ends(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 4000)
    spool.append(_event("start"))
    for _ in range(50):
        spool.append(_event("x" * 30), droppable=True)
    for number in range(40):
        spool.append(_event(f"end {number}".ljust(30)))
    texts = [payload.decode().split(":")[1] for payload in _payloads(tmp_path)]
    ends = [text.strip() for text in texts if text.startswith("end")]

    assert texts[0] == "start"
    assert ends == [f"end {number}" for number in range(40)]
    assert spool.untold == 50 - texts.count("x" * 30) > 0
    assert _used(tmp_path) <= 4000


@pytest.mark.requirement("M3.1", "M8.4")
def test_a_reader_whose_segment_is_written_anew_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 2400)
    for number in range(10):
        spool.append(_event(f"start {number}"))
        spool.append(_event("x" * 60), droppable=True)
    backlog = Backlog(producers(tmp_path)[0])
    first = backlog.read(2, MANY)
    sent = [entry.payload for entry in first]
    for number in range(60):
        spool.append(_event(f"end {number}"))
        if number == 30:
            sent += [entry.payload for entry in backlog.read(3, MANY)]
            backlog.delivered(first[-1].behind, None)
    while entries := backlog.read(5, MANY):
        sent += [entry.payload for entry in entries]
        backlog.delivered(entries[-1].behind, None)
    texts = {payload.decode().split(":")[1] for payload in sent}

    assert spool.untold > 0
    assert texts >= {f"start {n}" for n in range(10)} | {f"end {n}" for n in range(60)}


@pytest.mark.requirement("M3.1")
def test_a_spool_is_bounded_in_number_too(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 8000, 20)
    for _ in range(20):
        spool.append(_event())

    with pytest.raises(SpoolFullError, match="20 events"):
        spool.append(_event())


def _used(spool: Path) -> int:
    return sum(path.stat().st_size for path in spool.glob("*/*.segment"))


@pytest.mark.requirement("M3.1", "M8.4")
def test_full_spool_takes_events_again_once_some_are_delivered(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 1000)
    with pytest.raises(SpoolFullError):
        for _ in range(100):
            spool.append(_event("x" * 30))
    backlog = Backlog(producers(tmp_path)[0])
    backlog.delivered(backlog.read(MANY, MANY)[-1].behind, None)
    spool.append(_event("room again"))

    assert _payloads(tmp_path)[-1].endswith(b":room again")


@pytest.mark.requirement("M3.1")
@pytest.mark.parametrize("limit", [0, 100, 4096])
def test_limit_on_file_sizes_leaves_the_deploy_alone(tmp_path: Path, limit: int) -> None:
    script = """
import resource, sys, deploytrail
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for _ in range(50):
    with deploytrail.track("checkout", "production"):
        pass
print("deployed")
"""
    done = python(script, environment(tmp_path), str(limit))

    assert (done.returncode, done.stdout) == (0, "deployed\n")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "File too large. The deploy is not affected" in done.stderr


@pytest.mark.requirement("M3.1", "M8.4")
def test_full_disk_leaves_the_deploy_alone_and_is_said_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a small disk needs root: {mount.stderr.strip()}")
    try:
        env = environment(disk / "spool")
        script = "import deploytrail\nfor _ in range(200): deploytrail.start()\nprint('deployed')"
        full = python(script, env)
        kept = stored(disk / "spool")
        ran = command("run", "--", "sh", "-c", "echo out; exit 3", env=env)
        backlog = Backlog(producers(disk / "spool")[0])
        for memory in (disk / "spool/deployments").iterdir():
            memory.unlink()
        backlog.delivered(backlog.read(MANY, MANY)[-1].behind, None)
        after = command("run", "--", "true", env=env)
        later = stored(disk / "spool")
    finally:
        subprocess.run(["umount", str(disk)], check=True)

    assert (full.returncode, full.stdout) == (0, "deployed\n")
    assert full.stderr.count("\n") == 1, full.stderr
    assert "No space left on device. The deploy is not affected" in full.stderr
    assert [event["producer_seq"] for event in kept] == list(range(1, len(kept) + 1))
    assert (ran.returncode, ran.stdout) == (3, "out\n")
    assert ran.stderr.count("\n") == 1
    assert (after.returncode, after.stderr) == (0, "")
    started, loss, succeeded = later
    assert (started["event_type"], succeeded["event_type"]) == ("started", "succeeded")
    assert started["producer_seq"] == 203  # 200 tried and 2 of the run: the gap tells how many were lost
    assert (loss["title"], loss["source"], loss["signal_type"]) == ("spool_loss", "deploytrail", "unknown")
    assert loss["labels"] == {"lost_events": str(202 - len(kept)), "producer_seq": "204"}


@pytest.mark.requirement("M3.1")
def test_unwritable_spool_folder_is_replaced_and_said(tmp_path: Path) -> None:
    done = python(
        "import deploytrail\nwith deploytrail.track(): print('deployed')",
        environment(Path("/proc/nowhere/spool"), TMPDIR=str(tmp_path)),
    )

    assert (done.returncode, done.stdout) == (0, "deployed\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.requirement("M3.1")
def test_a_process_stopped_with_the_lock_does_not_stop_the_others(tmp_path: Path) -> None:
    Spool(str(tmp_path), MANY).append(_event("before"))
    holder = os.open(producers(tmp_path)[0] / "append.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    spool = Spool(str(tmp_path), MANY)
    began = time.monotonic()
    spool.append(_event("meanwhile"))
    first = time.monotonic() - began
    spool.append(_event("and on"))
    rest = time.monotonic() - began - first
    os.close(holder)

    assert sorted(_payloads(tmp_path)) == [b"1:before", b"1:meanwhile", b"2:and on"]
    assert first < 2
    assert rest < 0.5
    assert len(producers(tmp_path)) == 2  # a producer of its own, so that no number is given twice


@pytest.mark.requirement("M3.1")
def test_a_signal_handler_may_report_while_its_thread_reports(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), MANY)

    def handler(_number: int, _frame: FrameType | None) -> None:
        spool.append(_event("from the handler"))

    def interrupted(_producer: str, seq: int) -> bytes:
        os.kill(os.getpid(), signal.SIGUSR1)
        return f"{seq}:interrupted".encode()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        spool.append(interrupted)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert sorted(_payloads(tmp_path)) == [b"1:from the handler", b"1:interrupted"]


@pytest.mark.requirement("M3.1")
def test_another_boot_is_another_producer_whose_folder_goes_once_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(_spool, "boot_id", lambda: "an earlier boot")
        old = Spool(str(tmp_path), MANY)
        old.append(_event("before the reboot"))
    Spool(str(tmp_path), MANY).append(_event("after it"))
    first, second = producers(tmp_path)
    backlog = Backlog(first)
    backlog.remove_if_done()
    kept = first.exists()
    backlog.delivered(backlog.read(MANY, MANY)[-1].behind, None)
    backlog.remove_if_done()

    assert kept
    assert (Backlog(second).is_this_clock, backlog.is_this_clock) == (True, False)
    assert backlog.is_this_host
    assert producers(tmp_path) == [second]
    # A process that still had it open notices, and writes where its events will be found.
    old.append(_event("late"))
    assert _payloads(tmp_path) == [b"1:after it", b"2:late"]


@pytest.mark.requirement("M3.1")
def test_reader_never_takes_half_a_record_of_a_running_writer(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 64 << 10)
    writer = threading.Thread(target=lambda: [spool.append(_event("x" * 200)) for _ in range(1500) if _room(tmp_path)])
    backlog: Backlog | None = None
    seen: list[int] = []
    writer.start()
    while writer.is_alive() or seen[-1:] != [1500]:
        if backlog is None:
            backlog = Backlog(producers(tmp_path)[0]) if producers(tmp_path) else None
            continue
        if entries := backlog.read(50, MANY):
            seen += [entry.seq for entry in entries]
            backlog.delivered(entries[-1].behind, None)
    writer.join()

    assert seen == list(range(1, 1501))
    assert waiting(tmp_path) == 0
    assert not (tmp_path / "damaged").exists()


def _room(spool: Path) -> bool:
    while True:
        with contextlib.suppress(FileNotFoundError):  # delivered between the listing and the look
            if _used(spool) <= 40_000:
                return True
        time.sleep(0.001)


def test_position_orders_by_segment_then_offset() -> None:
    assert Position(1, 900) < Position(2, 10) < Position(2, 11)
