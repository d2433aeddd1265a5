"""The gate's keys while a server runs: read again when they change, and kept when they are away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.permits import Authority
from deploytrail_schemas.settings import Settings

from deploytrail import _permit_keys

log = logging.getLogger(__name__)
RENEW_SECONDS, PAUSE_SECONDS, KEEP_SECONDS = 60.0, 5.0, 24 * 3600.0


class Keys:
    """Whose permits are believed at present. `renew` waits for disk or network; `authority` never does."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """ConfigurationError where a setting is missing or a file is no JWKS; a gate that is away is asked again."""
        self._settings, self._clock = settings, clock
        self._authority: Authority | None = None
        self._had = self._tried = self._clock()
        try:
            self._take(_permit_keys.authority(settings))
        except RetryLater as error:
            log.error("%s; nothing regulated comes in until they are there", error)

    @property
    def authority(self) -> Authority | None:
        """None where the keys were away for a day, or were never there."""
        return self._authority if self._clock() - self._had <= KEEP_SECONDS else None

    def is_due(self, *, wanted: bool) -> bool:
        """Whether to renew them; `wanted`: because a permit named a key that is not among them."""
        waited = self._clock() - self._tried
        return waited >= (PAUSE_SECONDS if wanted or self._authority is None else RENEW_SECONDS)

    def renew(self) -> None:
        """Read or fetch them again. What was there before stands where that fails."""
        self._tried = self._clock()
        try:
            self._take(_permit_keys.authority(self._settings))
        except DeploytrailError as error:
            log.error("%s; those from before stand", error)

    def _take(self, authority: Authority) -> None:
        self._authority, self._had = authority, self._clock()
