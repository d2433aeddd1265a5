"""`deploytrail down`: stop the embedded stack of the folder DEPLOYTRAIL_HOME; its data stays."""

from __future__ import annotations

import argparse
import signal
import sys

from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.settings import Settings

from deploytrail_local.stack import stop_stack
from deploytrail_local.stack_state import unusable

EXIT_LEFT = 1


def main(argv: list[str]) -> int:
    """Exit code 0 when nothing runs any more; 1 where a process would not end."""
    argparse.ArgumentParser(
        prog="deploytrail down", description="Stop everything that `deploytrail up` started. Data and logs stay."
    ).parse_args(argv)
    try:
        home = Settings.load().home.absolute()
        stopped = stop_stack(home, progress=_say)
        _say(
            f"stopped; data and logs stay in {home}"
            if stopped
            else f"nothing was running in {home}; DEPLOYTRAIL_HOME names another"
        )
        return 0
    except DeploytrailError as error:
        _say(str(error))
        return EXIT_LEFT
    except OSError as error:
        _say(unusable(error))
        return EXIT_LEFT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _say(text: str) -> None:
    print(f"deploytrail down: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
