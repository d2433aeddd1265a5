"""POST /v1/csv/{map}: a file of a legacy system. Good lines are kept, every bad one is reported."""

from __future__ import annotations

import time
from pathlib import Path

from deploytrail_schemas.settings import Settings
from starlette.requests import Request
from starlette.responses import Response

from deploytrail import csv_maps
from deploytrail._reported import MAX_RECORDS
from deploytrail.gateway.acceptance import Acceptance
from deploytrail.gateway.bodies import body_of
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.problems import Problem, listed


class Uploads:
    """The maps of DEPLOYTRAIL_CSV_MAPS; ConfigurationError where they make no sense."""

    def __init__(self, settings: Settings, callers: Callers, acceptance: Acceptance) -> None:
        self._maps = csv_maps.load(Path(settings.csv_maps)) if settings.csv_maps else {}
        self._callers = callers
        self._acceptance = acceptance

    @property
    def maps(self) -> tuple[str, ...]:
        """The names of the maps."""
        return tuple(self._maps)

    async def handle(self, request: Request) -> Response:
        """Return 202 with the `violations` of the lines that were left out; 422 where no line is good."""
        caller = await self._callers.of_report(request)
        name = request.path_params["map"]
        if name not in self._maps:
            raise Problem(
                404, f"there is no CSV map {name!r}; DEPLOYTRAIL_CSV_MAPS has {', '.join(self._maps) or 'none'}"
            )
        mapping = self._maps[name]
        received_at = time.time_ns() // 1000
        try:
            good, wrong = csv_maps.read(mapping, await body_of(request), received_at, most=MAX_RECORDS)
        except csv_maps.TooManyLines as error:
            raise Problem(413, str(error)) from error
        if not good:
            raise Problem(422, "no line is good; nothing was accepted", wrong)
        records = [(mapping.kind, line.value) for line in good]
        return await self._acceptance.accept(request, records, received_at, caller, violations=listed(wrong))
