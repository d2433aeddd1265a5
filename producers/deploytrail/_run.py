"""`deploytrail run -- CMD`: runs a command as a deployment, and is otherwise not there.

The command inherits stdin, stdout, stderr, the process group and the terminal. Signals that are
sent to this process reach it once; its exit status, or the signal that ended it, become this
process's own. Whatever fails in reporting, the command runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import sys
import time

from deploytrail import _options
from deploytrail._options import DEPLOYMENT_ID, UsageError

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from deploytrail._tracker import Tracker

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as POSIX shells say it (XCU 2.8.2)
# The fault of this process, or (PIPE, XFSZ) made into errors by Python: they are not passed on.
_NOT_PASSED = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
    signal.SIGPIPE,
    signal.SIGXFSZ,
}
_ENDS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
# A signal to the group reaches all its members within microseconds.
_SETTLE = 0.002


def main(argv: list[str]) -> int:
    """Run the command after `--` between `started` and `succeeded` or `failed`; its exit status."""
    made = _options.parser("run", "Run a command as a deployment.", " -- CMD [ARG …]")
    made.add_argument("--deployment-id", metavar="ID", help="default: a new one")
    made.add_argument(
        "--on-failure-rollback",
        dest="undo",
        metavar="CMD",
        help="a shell command that undoes it: runs when CMD fails, as a deployment of its own (not when CMD is "
        "ended by INT, TERM, HUP or QUIT: whoever stopped it decides what is next)",
    )
    made.add_argument("command", nargs="*", metavar="-- CMD")
    options_given, command = _split(argv)
    try:
        options = _options.parse(made, options_given)
        command = command or options.command
        if not command:
            return _options.usage_error("run", UsageError("which command? deploytrail run [options] -- CMD"))
    except UsageError as error:
        return _unreported("run", error, command)
    from deploytrail._size_of_change import with_size
    from deploytrail._tracker import Tracker

    tracker = Tracker(deployment_id=options.deployment_id, **with_size(_options.facts(options)))
    return _run(command, tracker, options.wait, options.undo)


def run_rollback(argv: list[str]) -> int:
    """`deploytrail rollback ID -- CMD`: run what undoes a deployment, as a deployment of its own."""
    from deploytrail import _words

    options_given, command = _split(argv)
    try:
        options: argparse.Namespace = _options.parse(_words.later_parser("rollback"), options_given)
        if not command:
            return _options.usage_error("rollback", UsageError("which command? deploytrail rollback ID -- CMD"))
        undone = _words.which(options)
    except UsageError as error:
        return _unreported("rollback", error, command)
    from deploytrail._tracker import of

    return _run(command, of(undone).rollback(**_words.facts(options)), options.wait)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _unreported(word: str, error: UsageError, command: list[str]) -> int:
    status = _options.usage_error(word, error)
    if not command:
        return status
    sys.stderr.write(f"deploytrail {word}: the command runs, unreported\n")
    return _run(command, None, None)


def _run(command: list[str], tracker: Tracker | None, wait: float | None, undo: str | None = None) -> int:
    passed = set(signal.valid_signals()) - _NOT_PASSED
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited "ignore" would take the exit status away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    listener = _Listener()
    try:
        try:
            status = _perform(command, tracker, passed, before, listener)
        except OSError as error:
            return _not_run(command, error, tracker, wait)
        if undo and tracker is not None and _calls_for_undoing(status):
            with contextlib.suppress(OSError):
                _perform(["/bin/sh", "-c", undo], tracker.rollback(), passed, before, listener)
    finally:
        listener.close()
    if tracker is not None:
        _finish(wait)
    if os.WIFSIGNALED(status):
        _die(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _perform(command: list[str], tracker: Tracker | None, passed: set[Any], mask: Any, listener: _Listener) -> int:
    """Run one command between its start and its end; its wait status. OSError where it cannot be run."""
    environ = dict(os.environ)
    if tracker is not None:
        tracker.start()
        _remember(tracker)
        environ[DEPLOYMENT_ID] = tracker.id
    child = _spawn(command, environ, mask)
    status = _wait(child, passed, listener, tracker)
    if tracker is not None:
        _report_end(tracker, status)
    return status


def _calls_for_undoing(status: int) -> bool:
    return status != 0 and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) in _ENDS)


def _spawn(command: list[str], environ: dict[str, str], mask: Any) -> int:
    # What Python set to "ignore" for itself; everything else is inherited, as by exec.
    plain = [signal.SIGPIPE, signal.SIGXFSZ]
    if not command[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    try:
        return os.posix_spawnp(command[0], command, environ, setsigmask=mask, setsigdef=plain)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without its first line #!: shells run it themselves, and so do we.
        path = shutil.which(command[0]) or command[0]
        return os.posix_spawn("/bin/sh", ["sh", path, *command[1:]], environ, setsigmask=mask, setsigdef=plain)


def _wait(child: int, passed: set[Any], listener: _Listener, tracker: Tracker | None) -> int:
    """Pass signals on until the command has ended, with a progress event now and then; its wait status."""
    beat = _heartbeat(tracker)
    while True:
        number, by_process = _next_signal(passed, beat)
        if number == 0:
            if tracker is not None:
                tracker.progress()
        elif number == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if not pid:
                continue
            if not os.WIFSTOPPED(status):
                return status
            # The command was stopped: so are we, as it looks from outside, until someone continues us.
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(child, signal.SIGCONT)
        elif by_process and not listener.heard(number):
            # Sent to us alone. What the terminal sends, the command gets itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


def _heartbeat(tracker: Tracker | None) -> float:
    """Seconds between progress events; 0: none."""
    if tracker is None:
        return 0.0
    try:
        from deploytrail._reporter import reporter

        return reporter().settings.heartbeat_seconds
    except Exception:
        return 0.0  # its start said what is wrong


def _next_signal(waited: set[Any], seconds: float) -> tuple[int, bool]:
    """The next signal, and whether a process sent it (else the kernel did, for a key at the terminal).

    0 where none came for so many seconds (0: wait for ever).
    """
    if hasattr(signal, "sigwaitinfo"):
        told = signal.sigtimedwait(waited, seconds) if seconds else signal.sigwaitinfo(waited)
        return (told.si_signo, told.si_code <= 0) if told else (0, False)
    # macOS does not tell who sent it: what keys can send is taken to come from one.
    number = signal.sigwait(waited)
    return number, number not in {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP}


class _Listener:
    """A process that only keeps what signals come: what it gets too was sent to the whole group.

    Then the command has the signal already, and passing it on would make it two: the second
    interrupt makes many tools give up without cleaning up.
    """

    def __init__(self) -> None:
        self._pid = self._pipe = -1
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._begin()

    def heard(self, number: int) -> bool:
        """Whether the signal was sent to the whole group."""
        if self._pid < 0:
            return False
        time.sleep(_SETTLE)
        try:
            with open(f"/proc/{self._pid}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123  # light
                pending = next(int(line.split()[1], 16) for line in file if line.startswith("ShdPnd:"))
        except (OSError, StopIteration):
            return False
        if not pending >> (number - 1) & 1:
            return False
        self.close()
        self._begin()
        return True

    def close(self) -> None:
        """End it."""
        if self._pid > 0:
            os.close(self._pipe)
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        self._pid = self._pipe = -1

    def _begin(self) -> None:
        reading, self._pipe = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                # It must hold no end of the deploy's pipes: their readers wait for the end of all writers.
                os.dup2(reading, 0)
                os.closerange(1, 1 << 16)
                os.chdir("/")
                os.read(0, 1)  # returns when we are gone, however we went
            finally:
                os._exit(0)
        os.close(reading)


def _remember(tracker: Tracker) -> None:
    with contextlib.suppress(Exception):
        from deploytrail._tracker import remember

        remember(tracker)


def _report_end(tracker: Tracker, status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        tracker.succeed(exit_code=0)
    elif code > 0:
        tracker.fail(f"exit {code}", exit_code=code)
    else:
        tracker.fail(f"killed by {signal.Signals(-code).name}", exit_code=code)


def _not_run(command: list[str], error: OSError, tracker: Tracker | None, wait: float | None) -> int:
    code = NOT_FOUND if error.errno in {errno.ENOENT, errno.ENOTDIR} else NOT_EXECUTABLE
    sys.stderr.write(f"deploytrail run: {command[0]}: {error.strerror}\n")
    if tracker is not None:
        tracker.fail(f"{command[0]}: {error.strerror}", exit_code=code)
        _finish(wait)
    return code


def _finish(wait: float | None) -> None:
    try:
        from deploytrail._reporter import finish

        finish(wait, hurry=lambda: bool(signal.sigpending() & _ENDS))
    except Exception:
        return  # the events are on disk, or their failure was said


def _die(number: int) -> None:
    """End by the signal that ended the command, without a second core file."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
