"""Legal holds told to the store: whoever deletes past us, as S3's own lifecycle does, meets them too.

A hold is recorded as an act before the store is told, and objects that are there then are told of by whoever adds it.
Whoever creates one asks for the acts once it is there: so one of both sees the other, and nothing is missed.
"""

from __future__ import annotations

import logging

from deploytrail_sinks.archive.acts import FOLDER, read_acts
from deploytrail_sinks.archive.holds import Hold, active_on, holds_of
from deploytrail_sinks.archive.log.names import is_of_log
from deploytrail_sinks.archive.principals import Principals
from deploytrail_sinks.archive.segment import SegmentError
from deploytrail_sinks.archive.store import ObjectStore

log = logging.getLogger(__name__)


class HoldsInStore:
    """Tells the store of the holds that are recorded in it. `principals`: whose releases count; None: nobody's."""

    def __init__(self, store: ObjectStore, principals: Principals | None) -> None:
        self._store, self._principals = store, principals
        self._read: list[str] = []
        self._holds: list[Hold] = []
        self._told = ""

    def created(self, name: str) -> None:
        """Put the store's hold on an object that was just created, where one covers it. RetryLater."""
        if active_on(name, self._all()):
            self._store.hold(name, True)

    def put_on(self) -> int:
        """Tell the store of every active hold: an earlier command may have died in the middle. How many are held."""
        holds = self._all()
        names = [name for name in self._store.list("") if not is_of_log(name) and active_on(name, holds)]
        for name in names:
            self._store.hold(name, True)
        return len(names)

    def take_off(self, released: Hold | None = None) -> None:
        """Take the store's hold off what a released one covers and no active one does; what it does not cover stays,
        whoever held that. None: off what any released one covers, also where somebody held it in the store since."""
        holds = self._all()
        over = [hold for hold in holds if not hold.is_active] if released is None else [released]
        for name in self._store.list(""):
            if not is_of_log(name) and any(hold.covers(name) for hold in over) and not active_on(name, holds):
                self._store.hold(name, False)

    def _all(self) -> list[Hold]:
        """Every hold; acts are read again only where there are others than before."""
        names = list(self._store.list(FOLDER))
        if names != self._read:
            try:
                self._holds = list(holds_of(read_acts(self._store, self._principals)).values())
            except SegmentError as error:  # archiving goes on; `verify` names it, and purges refuse
                if self._told != str(error):
                    log.error("which legal holds there are cannot be read, new segments may lack one: %s", error)
                self._told = str(error)
                return self._holds
            self._read = names
        return self._holds
