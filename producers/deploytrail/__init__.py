"""What deploy scripts import.

    import deploytrail

    with deploytrail.track(service="checkout", environment="production", version="4.2.0"):
        roll_out()

Never raises, never waits for the network, never changes how the deploy ends: events go to a
spool on disk and from there, in the background, to DEPLOYTRAIL_URL. Nothing is imported before
the first event. `require_permit` alone waits and raises: it asks the gate before a deploy.
"""

from __future__ import annotations

import os
from _thread import RLock  # what threading has, without the import

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from deploytrail._require_permit import NoPermitAnswer, PermitGiven, PermitRefused, require_permit
    from deploytrail._tracker import Tracker, fail, flush, roll_back, start, succeed, track

__all__ = [
    "NoPermitAnswer",
    "PermitGiven",
    "PermitRefused",
    "Tracker",
    "fail",
    "flush",
    "require_permit",
    "roll_back",
    "start",
    "succeed",
    "track",
]
# What asks the gate, which alone waits for the network and raises.
_OF_GATE = ("NoPermitAnswer", "PermitGiven", "PermitRefused", "require_permit")


# Held while this package imports what it needs. A process that were forked meanwhile would wait for ever for
# the import that its parent's other thread was at: so forks wait for the import, though not for ever.
_importing = RLock()
_held: list[bool] = []


def _before_fork() -> None:
    _held.append(_importing.acquire(timeout=10.0))


def _after_fork() -> None:
    if _held.pop():
        _importing.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


if not TYPE_CHECKING:  # a checker knows the names by themselves, and so sees a misspelt one

    def __getattr__(name: str) -> object:
        if name in __all__:
            if name in _OF_GATE:
                from deploytrail import _require_permit

                return getattr(_require_permit, name)
            with _importing:
                from deploytrail import _tracker

            globals().update({public: getattr(_tracker, public) for public in __all__ if public not in _OF_GATE})
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__name__"]
