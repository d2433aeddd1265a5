"""`deploytrail up`: start the embedded stack in the folder DEPLOYTRAIL_HOME, and say where it is."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.exit_codes import UNAVAILABLE
from deploytrail_schemas.local_stack import POINTS_A_SHELL
from deploytrail_schemas.settings import Settings

from deploytrail_local.process_identity import ProcessIdentity
from deploytrail_local.stack import ALREADY_RUNS, Stack, recordable
from deploytrail_local.stack_plan import APPS, effective_settings, environment_of, pinned_names, stages_of
from deploytrail_local.stack_ports import choose_ports
from deploytrail_local.stack_state import ChildStatus, Phase, StackState, only_one, read_state, unusable, write_state
from deploytrail_local.supervisor import Supervisor

GATE = "verdicts"  # the process that has it
# A whole line, for a shell that points to the stack. Staging needs no approval, but what is asked about is registered.
ASK_THE_GATE = (
    "(export DEPLOYTRAIL_SERVICE=checkout DEPLOYTRAIL_ENVIRONMENT=staging DEPLOYTRAIL_REGION=eu-west-1 "
    f"D=sha256:{'0' * 64}; "
    'deploytrail require-permit --artifact-digest $D --deployment-id "$(deploytrail register --artifact-digest $D)")'
)
_EXPORTED = ("url", "kafka", "clickhouse_url", "archive", "home", "gate_url", "permit_issuer", "permit_keys")


def main(argv: list[str]) -> int:
    """Exit code 0 when the stack is ready; 69 where it cannot run; with --foreground 75 where it runs already."""
    parser = argparse.ArgumentParser(
        prog="deploytrail up",
        description="Start Kafka, ClickHouse, the gateway, all processors and all sinks on this machine. "
        "Data and logs lie in .deploytrail (DEPLOYTRAIL_HOME).",
    )
    parser.add_argument("--foreground", action="store_true", help="stay, and stop everything on Ctrl-C")
    parser.add_argument("--env", action="store_true", help='print only export lines: eval "$(deploytrail up --env)"')
    parser.add_argument(
        "--apps",
        type=_names,
        default=APPS,
        metavar="NAME,…",
        help=f"start only these on Kafka and ClickHouse, or none (default {','.join(APPS)})",
    )
    options = parser.parse_args(argv)
    try:
        settings, pinned = Settings.load(), pinned_names(os.environ)
        if options.foreground:
            return supervise(settings.home.absolute(), settings, pinned, options.apps)
        stack = Stack(settings.home, settings, progress=_say, pinned=pinned, detached=True, apps=options.apps).start()
        print(_exports(stack.settings) if options.env else _where(stack))
        return 0
    except DeploytrailError as error:
        _say(str(error))
        return UNAVAILABLE
    except OSError as error:  # the folder cannot be made or written
        _say(unusable(error))
        return UNAVAILABLE
    except KeyboardInterrupt:
        _say("stopped")
        return 128 + signal.SIGINT


def supervise(home: Path, settings: Settings, pinned: frozenset[str], apps: Collection[str] = APPS) -> int:
    """Run the stack in this process until SIGTERM, SIGINT or SIGHUP; the exit code."""
    with only_one(home) as alone:
        if not alone:
            _say(f"a stack runs in {home} already; `deploytrail down` stops it")
            return ALREADY_RUNS
        return _Supervision(home, settings, pinned, apps).run()


class _Supervision:
    def __init__(self, home: Path, settings: Settings, pinned: frozenset[str], apps: Collection[str]) -> None:
        self._home, self._asked, self._pinned, self._apps = home, settings, pinned, apps
        self._state = StackState(supervisor=ProcessIdentity.of(os.getpid()))

    def run(self) -> int:
        before = read_state(self._home)
        self._write(phase=Phase.STARTING, ports=before.ports)
        supervisor: Supervisor | None = None
        try:
            for process in before.processes:  # left by a supervisor that was killed
                process.end(grace=10.0)
            ports = choose_ports(self._asked, self._pinned, before.ports)
            settings = effective_settings(self._home, self._asked, ports)
            self._write(ports=ports, settings=recordable(settings, self._pinned))
            stages = stages_of(settings, ports, _say, self._apps)
            supervisor = Supervisor(stages, report=_say, changed=self._children_changed)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda *_: supervisor.ask_to_stop())
            if supervisor.start():
                self._write(phase=Phase.READY)
                _say(f"ready: gateway {settings.url}, ClickHouse {settings.clickhouse_url}, Kafka {settings.kafka}")
                supervisor.watch()
            self._write(phase=Phase.STOPPING)
            return 0
        except DeploytrailError as error:
            self._write(error=str(error))
            _say(str(error))
            return UNAVAILABLE
        finally:
            if supervisor is not None:
                supervisor.stop()
            self._write(phase=Phase.FAILED if self._state.error else Phase.STOPPED, supervisor=None)

    def _children_changed(self, children: tuple[ChildStatus, ...]) -> None:
        self._write(children=children)

    def _write(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        write_state(self._home, self._state)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    if unknown := set(names) - set(APPS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}; there are {', '.join(APPS)}")
    return names


def _say(text: str) -> None:
    print(f"deploytrail up: {text}", file=sys.stderr, flush=True)


def _exports(settings: Settings) -> str:
    variables = environment_of(settings, _EXPORTED)
    wanted = {f"DEPLOYTRAIL_{name.upper()}" for name in _EXPORTED}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items() if name in wanted)


def _where(stack: Stack) -> str:
    urls, state = stack.urls, stack.state
    trust = stack.settings.archive_trust
    restarted = [f"{child.name} {child.restarts}" for child in state.children if child.restarts]
    lines = [
        "deploytrail runs:",
        f"  gateway      {urls.gateway}",
        f"  ClickHouse   {urls.clickhouse}   curl '{urls.clickhouse}/?database="
        f"{stack.settings.clickhouse_database}' -d 'SHOW TABLES'",
        f"  Kafka        {urls.kafka}",
        f"  archive      {urls.archive}",
        *([f"  its log      deploytrail archive verify --trust {trust}"] if Path(trust).is_file() else []),
        f"  gate         {stack.settings.gate_url}",
        f"  logs         {stack.log.parent}",
        *([f"  restarts     {', '.join(restarted)}"] if restarted else []),
        *([] if stack.settings.oncall_url else ["  pages        nowhere: DEPLOYTRAIL_ONCALL_URL is not set"]),
        "",
        f"Point a shell to it:  {POINTS_A_SHELL}",
        *([f"Ask its gate then:    {ASK_THE_GATE}"] if any(child.name == GATE for child in state.children) else []),
        "Stop it:              deploytrail down",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
