"""What deploy scripts import.

    import deploytrail

    with deploytrail.track(service="checkout", environment="production", version="4.2.0"):
        roll_out()

Never raises, never waits for the network, never changes how the deploy ends: events go to a
spool on disk and from there, in the background, to DEPLOYTRAIL_URL. Nothing is imported before
the first event.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from deploytrail._tracker import Tracker, fail, flush, roll_back, start, succeed, track

__all__ = ["Tracker", "fail", "flush", "roll_back", "start", "succeed", "track"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from deploytrail import _tracker

        return getattr(_tracker, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__name__"]
