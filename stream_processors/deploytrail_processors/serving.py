"""What a process of processors tells of itself: /healthz, /readyz and /metrics, and one line when it is ready."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, MutableMapping
from itertools import islice
from typing import Any

from deploytrail_schemas.settings import Settings

from deploytrail_processors import metrics

# Rows of a table that are weighed to tell its size: all of them would hold the streams up.
_WEIGHED = 200


class Serving:
    """Says when every app is ready, and serves /healthz, /readyz and /metrics where a port is set."""

    def __init__(self, names: list[str], apps: list[Any], settings: Settings) -> None:
        self._names, self._apps, self._settings = names, apps, settings

    def ready(self) -> bool:
        """Whether every app has joined, has its tables, and is not rebalancing, nor building its state anew."""
        return all(standing(app) == "ready" for app in self._apps)

    async def run(self) -> None:
        """Print one line when ready; keep serving."""
        if self._settings.metrics_port:
            await self._listen()
        while not self.ready():
            await asyncio.sleep(0.05)
        sys.stderr.write(f"deploytrail processor: ready: {' '.join(self._names)}\n")
        sys.stderr.flush()

    async def _listen(self) -> None:
        from aiohttp import web
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        async def measured(_: web.Request) -> web.Response:
            metrics.LAG.clear()  # of partitions that went to another worker, that one tells
            for name, app in zip(self._names, self._apps, strict=True):
                measure(name, app)
            return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_: web.Request) -> web.Response:
            lines = [
                f"{name}: {standing(app)}, {sum(behind for _, behind in lag(app))} records behind"
                for name, app in zip(self._names, self._apps, strict=True)
            ]
            word, status = ("ready", 200) if self.ready() else ("not ready", 503)
            return web.Response(text="\n".join([word, *lines, ""]), status=status)

        server = web.Application()
        server.add_routes([web.get("/metrics", measured), web.get("/healthz", healthz), web.get("/readyz", readyz)])
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._settings.metrics_port).start()


def standing(app: Any) -> str:
    """What an app does: recovering (or starting), rebalancing, rebuilding, or ready."""
    if not app.tables.actives_ready:  # asked first: before, there may be no consumer to ask
        return "recovering"
    if app.rebalancing or not app.consumer.assignment():
        return "rebalancing"
    done = app.consumer._committed_offset  # Faust says it nowhere else
    answered = app.context.answered
    mine = {tp: answered.get(tp.partition, 0) for tp in _mine(app)}
    return "ready" if all((done[tp] or 0) >= offset for tp, offset in mine.items()) else "rebuilding"


def lag(app: Any) -> Iterator[tuple[int, int]]:
    """Of each partition that an app has, the records that are not done: read, answered, and committed."""
    for tp in _mine(app) if app.tables.actives_ready else ():
        end, done = app.consumer.highwater(tp), app.consumer._committed_offset[tp]
        if end is not None:  # None: nothing was fetched yet
            yield tp.partition, max(0, end - (done or 0))


def measure(name: str, app: Any) -> None:
    """Set the gauges of an app's state and lag."""
    for table, rows in app.context.tables.items():
        metrics.STATE_ROWS.labels(name, table).set(len(rows))
        metrics.STATE_BYTES.labels(name, table).set(weight(rows))
    for partition, behind in lag(app):
        metrics.LAG.labels(name, str(partition)).set(behind)


def weight(rows: MutableMapping[str, Any]) -> int:
    """About so many bytes a table has as its changelog keeps it, from some of its rows."""
    count = len(rows)
    some = list(islice(rows.items(), 0, None, max(1, count // _WEIGHED)))
    total = sum(len(key) + len(json.dumps(row, separators=(",", ":"))) for key, row in some)
    return total * count // len(some) if some else 0


def _mine(app: Any) -> list[Any]:
    return [tp for tp in app.consumer.assignment() if tp.topic == app.source.value]
