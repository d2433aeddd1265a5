"""What a deploy script holds: one deployment, and the words to say what becomes of it."""

from __future__ import annotations

import os

from deploytrail import _importing
from deploytrail._clock import monotonic, now

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from typing import Any, Self, Unpack

    from deploytrail._facts import Facts, Placed

STARTED, PROGRESSED, SUCCEEDED, FAILED = "started", "progressed", "succeeded", "failed"
REGISTERED, AMENDED, VOIDED = "registered", "amended", "voided"


class Tracker:
    """One deployment. Use it as a context manager (`with`, `async with`), or by its methods.

    `with` reports *started* on entry; on exit *succeeded*, or *failed* with the error where an
    exception leaves the block, which goes on as if nothing had been there. `SystemExit` with
    status 0 or none is a success. `KeyboardInterrupt`, a cancelled task and a closed generator
    are failures: nobody knows what state they left behind.

    No method raises, waits for the network, or returns before its event is on disk. Only the
    first end counts: after `fail()`, leaving the block reports nothing more. In a process forked
    within the block, leaving it reports nothing.
    """

    def __init__(self, service: str = "", environment: str = "", *unexpected: object, **facts: Unpack[Facts]) -> None:
        """`facts`: fields of the event, e.g. region, version, kind, change_ticket, tags (see Facts)."""
        said: dict[str, Any] = {**facts}
        if unexpected:
            from deploytrail._report import say_once

            say_once("positional", f"{len(unexpected)} positional arguments too many are left out")
        self.id: str = _id(said.pop("deployment_id", None))
        # What is true of the beginning alone is not said again of the end.
        self._of_the_start: dict[str, Any] = {
            k: said.pop(k) for k in ("occurred_at", "error", "exit_code") if k in said
        }
        self._facts: dict[str, Any] = {"service": service, "environment": environment, **said}
        self._ended = False
        self._pid = os.getpid()

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<deployment {self.id}>"

    def register(
        self, *, planned_start: datetime | str | None = None, planned_end: datetime | str | None = None,
        **facts: Unpack[Placed],
    ) -> Self:  # fmt: skip
        """Report that it is intended, before it begins: what approvals and permits are bound to.

        `planned_start`, `planned_end` (aware datetimes, or RFC 3339): outside of these the gate gives no permit.
        """
        planned = {"planned_start": planned_start, "planned_end": planned_end}
        self._emit(REGISTERED, {**self._of_the_start, **facts, **planned})
        return self

    def start(self, **facts: Unpack[Placed]) -> Self:
        """Report that it began."""
        self._pid = os.getpid()
        self._emit(STARTED, {**self._of_the_start, **facts})
        return self

    def progress(self, **facts: Unpack[Placed]) -> None:
        """Report that it goes on, e.g. with another cohort_weight. Dropped first when the spool is full."""
        self._emit(PROGRESSED, facts)

    def succeed(self, **facts: Unpack[Placed]) -> None:
        """Report that it succeeded."""
        self._emit(SUCCEEDED, facts, final=True)
        self._ended = True

    def fail(self, error: object = None, **facts: Unpack[Placed]) -> None:
        """Report that it failed; `error`: an exception or words."""
        self._emit(FAILED, {**_error(error), **facts}, final=True)
        self._ended = True

    def amend(self, **facts: Unpack[Placed]) -> None:
        """Report that what was said of it was wrong, and what is right: only the fields given here change."""
        self._emit(AMENDED, facts)

    def void(self, **facts: Unpack[Placed]) -> None:
        """Report that there was no such deployment: its record stays, marked, with the `justification`."""
        self._emit(VOIDED, facts)

    def roll_back(self, **facts: Unpack[Placed]) -> Tracker:
        """Report that it was rolled back: a deployment of its own, which began and succeeded now.

        To report a rollback while it runs, track it: `track(service, environment, rollback_of=deployment.id)`.
        """
        rollback = self.rollback(**facts)
        rollback.start()
        rollback.succeed()
        self._ended = True
        return rollback

    def rollback(self, **facts: Unpack[Placed]) -> Tracker:
        """The deployment that undoes this one, not begun yet: `with deployment.rollback(): …`."""
        was = self._facts
        undoing: dict[str, Any] = {k: v for k, v in was.items() if k not in _OF_THE_ROLLOUT}
        undoing |= {"version": was.get("previous_version"), "previous_version": was.get("version")}
        undoing |= {"kind": "rollback", "rollback_of": self.id, **facts}
        return Tracker(**undoing)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._end(error)

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self.start)
        except BaseException as error:
            self._end(error)  # cancelled while it began: the block, and so its end, will not be reached
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        await _in_thread(lambda: self._end(error))

    def _end(self, error: BaseException | None) -> None:
        if self._ended or os.getpid() != self._pid:
            return
        if error is None:
            self.succeed()
        elif isinstance(error, SystemExit):
            self._end_by_exit(error.code)
        else:
            self.fail(error)

    def _end_by_exit(self, code: object) -> None:
        """As the interpreter reads sys.exit's argument: None is 0, text is printed and means 1."""
        if code is None or code == 0:
            self.succeed(exit_code=0)
        elif isinstance(code, int):
            self.fail(f"exit {code}", exit_code=code)
        else:
            self.fail(code, exit_code=1)

    def _emit(self, event_type: str, facts: Any, *, final: bool = False) -> None:
        stamp = now(), monotonic()  # before the imports of the first event, which take a while
        try:
            told = {**self._facts, **{k: v for k, v in facts.items() if v is not None}}
            if _loaded:
                from deploytrail._reporter import emit

                emit(event_type, self.id, told, stamp, final=final)
            else:
                _first(event_type, self.id, told, stamp, final=final)
        except Exception as failure:
            # A broken installation, say: the deploy goes on.
            _say_once("import", f"events cannot be reported: {type(failure).__name__}: {failure}")


_loaded = False


def _first(event_type: str, deployment_id: str, told: Any, stamp: Any, *, final: bool) -> None:
    """Report the first event of a process, which imports all that reporting needs: forks wait for it."""
    global _loaded
    with _importing:
        from deploytrail._reporter import emit

        emit(event_type, deployment_id, told, stamp, final=final)
        _loaded = True


def _say_once(topic: str, message: str) -> None:
    try:
        from deploytrail._report import say_once

        say_once(topic, message)
    except Exception:
        return  # the interpreter has taken itself apart already


# Facts of one rollout that say nothing of the one that undoes it.
_OF_THE_ROLLOUT = frozenset(
    {
        "version",
        "previous_version",
        "artifact_digest",
        "artifact_uri",
        "commit_sha",
        "cohort",
        "cohort_weight",
        "parent_deployment_id",
        "error",
        "exit_code",
        "occurred_at",
        "permit_id",
    }
)


def track(service: str = "", environment: str = "", *unexpected: object, **facts: Unpack[Facts]) -> Tracker:
    """A deployment to use in `with` or `async with`: started on entry, succeeded or failed on exit. Never raises."""
    return Tracker(service, environment, *unexpected, **facts)


def start(service: str = "", environment: str = "", *unexpected: object, **facts: Unpack[Facts]) -> Tracker:
    """Report that a deployment began. Its end may be reported by another process of this host, by its id."""
    tracker = Tracker(service, environment, *unexpected, **facts)
    tracker.start()
    remember(tracker)
    return tracker


def succeed(deployment: Tracker | str, **facts: Unpack[Placed]) -> None:
    """Report that a deployment (or its id) succeeded. Never raises."""
    of(deployment).succeed(**facts)


def fail(deployment: Tracker | str, error: object = None, **facts: Unpack[Placed]) -> None:
    """Report that a deployment (or its id) failed; `error`: an exception or words. Never raises."""
    of(deployment).fail(error, **facts)


def roll_back(deployment: Tracker | str, **facts: Unpack[Placed]) -> Tracker:
    """Report that a deployment (or its id) was rolled back; returns the rollback, a deployment of its own."""
    return of(deployment).roll_back(**facts)


def flush(seconds: float = 1.0) -> bool:
    """Wait until this process's events are delivered, at most so long; whether they are. Rarely needed:
    the end of the process waits for a second, and what is left is sent by the next one."""
    try:
        from deploytrail._reporter import flush as flush_reporter

        return flush_reporter(seconds)
    except Exception:
        return False


def of(deployment: Tracker | str) -> Tracker:
    """The tracker of a deployment's id, with what this host knows of it."""
    if isinstance(deployment, Tracker):
        return deployment
    facts: dict[str, Any] = {}
    try:
        from deploytrail._reporter import reporter

        facts = reporter().recall(str(deployment))
    except Exception:
        facts = {}  # the event itself will say what is wrong
    tracker = Tracker(deployment_id=deployment)
    tracker._facts |= facts
    return tracker


def remember(tracker: Tracker) -> None:
    """Keep a deployment's facts for whoever reports its end."""
    try:
        from deploytrail._reporter import reporter

        reporter().remember(tracker.id, tracker._facts)
    except Exception:
        return  # its start said what is wrong


def _id(given: object) -> str:
    try:
        if text := str(given or ""):
            return text[:256].encode("utf-8", "replace").decode()
    except Exception:
        pass
    try:
        with _importing:
            from deploytrail_schemas.ids import uuid7

        return uuid7()
    except ImportError:
        return os.urandom(16).hex()  # a broken installation, or the interpreter is taking itself apart


def _error(error: object) -> dict[str, Any]:
    if error is None:
        return {}
    from deploytrail._event import error_text

    facts: dict[str, Any] = {"error": error_text(error)}
    if isinstance(error, KeyboardInterrupt):
        facts["exit_code"] = -2
    return facts


async def _in_thread(act: Any) -> None:
    """Run what waits for the disk beside the event loop; a cancellation does not undo it."""
    import asyncio

    try:
        waiting = asyncio.get_running_loop().run_in_executor(None, act)
    except RuntimeError:
        act()  # the loop's threads are gone already
        return
    await asyncio.shield(waiting)
