"""`deploytrail poll`: ask the APIs of sources for what their webhooks may have missed, until SIGTERM.

Beside the webhooks, not instead of them: what both find is one record. How much the webhooks missed
is `deploytrail_intake_polled_total` of the intake app, by outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from deploytrail_schemas import logs
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail.gateway.publisher import KafkaPublisher
from deploytrail.gateway.relay import Relay
from deploytrail.polling import argocd, config, github, gitlab, jenkins, metrics
from deploytrail.polling.api import Api, SlowDown
from deploytrail.polling.config import Watched
from deploytrail.polling.memory import Memory
from deploytrail.polling.rounds import Publish, one_round

log = logging.getLogger(__name__)
EXIT_FAILED = 1
POLLS: Mapping[str, ModuleType] = {"github": github, "gitlab": gitlab, "argocd": argocd, "jenkins": jenkins}
_LONGEST_PAUSE = 3600.0
_SHOWN = (config.__doc__ or "").partition("\n\n")[2].rstrip()
_EXAMPLE = f"""\
DEPLOYTRAIL_POLL names a YAML file:

{_SHOWN}

What is found goes to Kafka (DEPLOYTRAIL_KAFKA); how far each source was read stays in DEPLOYTRAIL_POLL_STATE."""


def main(argv: list[str]) -> int:
    """0 after a clean stop; 1: --once could not ask a project; 69: what is needed is away; 78: a setting is wrong."""
    made = argparse.ArgumentParser(
        prog="deploytrail poll",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Ask the APIs of sources for what their webhooks may have missed, until SIGTERM.",
        epilog=_EXAMPLE,
    )
    made.add_argument("--once", action="store_true", help="one round of every source, then stop")
    options = made.parse_args(argv)
    logs.configure(logging.WARNING)
    try:
        settings = Settings.load()
        return asyncio.run(_poll(settings, once=options.once))
    except DeploytrailError as error:
        sys.stderr.write(f"deploytrail poll: {redact_text(str(error))}\n")
        return exit_code_of(error)
    except KeyboardInterrupt:
        return 0


async def _poll(settings: Settings, *, once: bool) -> int:
    if not settings.poll:
        raise ConfigurationError(
            "DEPLOYTRAIL_POLL is not set; expected a YAML file of whom to ask: `deploytrail poll --help` shows one"
        )
    sources = config.load(Path(settings.poll))
    asked = [(watched, api_of(watched, os.environ)) for watched in sources]
    memory = Memory(settings.poll_state.expanduser())
    publisher = KafkaPublisher(settings)
    relay = Relay(settings, publisher)
    if settings.metrics_port:
        from prometheus_client import start_http_server

        start_http_server(settings.metrics_port)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        if once:
            rounds = [await round_of(api, watched, memory, relay.publish) for watched, api in asked]
            return 0 if all(until == 0.0 for until in rounds) else EXIT_FAILED
        sys.stderr.write(f"deploytrail poll: ready, {counted(len(sources), 'source')}\n")
        sys.stderr.flush()
        tasks = [asyncio.create_task(_keep_asking(api, w, memory, relay.publish)) for w, api in asked]
        await stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        publisher.close()
    return 0


def api_of(watched: Watched, environ: Mapping[str, str]) -> Api:
    """The API of a source with its token; ConfigurationError where the variable of its token is empty."""
    token = environ.get(watched.token_env, "") if watched.token_env else ""
    if watched.token_env and not token:
        raise ConfigurationError(f"{watched.name}: {watched.token_env} is empty; expected its token")
    return Api(watched.url, POLLS[watched.kind].headers(token))


async def _keep_asking(api: Api, watched: Watched, memory: Memory, publish: Publish) -> None:
    """Rounds of one source for ever; the next waits for its time, and for as long as the API asks."""
    while True:
        began = time.time()
        until = await round_of(api, watched, memory, publish)
        pause = max(watched.every, (until or 0.0) - began)
        await asyncio.sleep(max(0.0, min(pause, _LONGEST_PAUSE) - (time.time() - began)))


async def round_of(api: Api, watched: Watched, memory: Memory, publish: Publish) -> float | None:
    """One round of each project of a source. When the next may be asked, seconds since the epoch; None where a
    project could not be asked: what was missed stays asked for."""
    name, failed = watched.name, False
    for project in watched.projects:
        try:
            now = time.time_ns() // 1000
            outcome = await one_round(api, watched, project, POLLS[watched.kind].poll, memory, publish, now=now)
        except SlowDown as error:
            metrics.ROUNDS.labels(name, "slowed_down").inc()
            log.warning("%s %s; it is asked again then", name, error)
            return error.until
        except (ConfigurationError, RetryLater) as error:
            failed = True
            metrics.ROUNDS.labels(name, "failed").inc()
            log.error("%s %s: %s", name, project, redact_text(str(error)))
        except Exception as error:  # an answer of a shape that nobody thought of must not end the polling
            failed = True
            metrics.ROUNDS.labels(name, "failed").inc()
            log.error("%s %s: %s", name, project, redact_text(f"{type(error).__name__}: {error}"))
        else:
            metrics.ROUNDS.labels(name, "done").inc()
            metrics.PUBLISHED.labels(name).inc(outcome.published)
            metrics.UNREADABLE.labels(name).inc(outcome.unreadable)
            metrics.REACHED.labels(name).set(now / 1e6)
        finally:
            if api.remaining is not None:
                metrics.REMAINING.labels(name).set(api.remaining)
    return None if failed else 0.0
