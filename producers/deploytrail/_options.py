"""Options that the words of the command share: what may be said of a deployment, and how long to wait."""

from __future__ import annotations

import argparse
import os
import sys

from deploytrail._report import USAGE_ERROR

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

# One option each, named after the event's field.
TEXTS = (
    "service",
    "environment",
    "region",
    "version",
    "previous_version",
    "kind",
    "strategy",
    "cohort",
    "parent_deployment_id",
    "rollback_of",
    "instance",
    "tier",
    "team",
    "artifact_digest",
    "artifact_uri",
    "commit_sha",
    "repository",
    "ref",
    "build_system",
    "build_id",
    "build_number",
    "build_url",
    "pipeline",
    "job",
    "stage",
    "deployer",
    "deployer_type",
    "change_ticket",
    "feature_ticket",
    "sprint",
    "justification",
    "permit_id",
    "occurred_at",
)
MAPS = {"tag": "tags", "config": "config_changes"}
# What `run` tells the command that it runs, so that it can report progress by `deploytrail progress`.
DEPLOYMENT_ID = "DEPLOYTRAIL_DEPLOYMENT_ID"


class UsageError(Exception):
    """The words of the command make no sense."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of leaving the process: under `run` the script runs whatever was misspelt."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message + self._meant(message))

    def _meant(self, message: str) -> str:
        """The option that was meant where one is misspelt."""
        from difflib import get_close_matches

        unknown, _, said = message.partition(": ")
        if unknown != "unrecognized arguments":
            return ""
        known = [option for action in self._actions for option in action.option_strings]
        words = [word.partition("=")[0] for word in said.split() if word.startswith("--")]
        near = [found for word in words for found in get_close_matches(word, known, n=1)]
        return f" (did you mean {', '.join(near)}?)" if near else ""

    def format_help(self) -> str:
        """The help, each option that is a field of the event with what the schema says of it."""
        from deploytrail_schemas.records import RecordType
        from deploytrail_schemas.schema import fields

        said = {field["name"]: field for field in fields(RecordType.DEPLOYMENT_EVENT)}
        for action in self._actions:
            if action.help is None and action.dest in said:
                action.help = _meaning(said[action.dest])
        return super().format_help()


def _meaning(field: Mapping[str, Any]) -> str:
    declared = field["type"]
    if isinstance(declared, dict) and declared.get("type") == "enum":
        return f"one of {', '.join(symbol for symbol in declared['symbols'] if symbol != 'unknown')}"
    return str(field["doc"]).rstrip(".").replace("%", "%%")


def parser(word: str, description: str, operands: str = "") -> Parser:
    """A parser with the options that every word has."""
    usage = f"deploytrail {word} [options]{operands}"  # all options at once would hide what is asked for
    made = Parser(prog=f"deploytrail {word}", usage=usage, description=description, allow_abbrev=False)
    for name in TEXTS:
        made.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="TEXT")
    made.add_argument("--cohort-weight", type=float, metavar="SHARE", help="0 to 1")
    made.add_argument("--emergency", action="store_true", default=None, help="an emergency change")
    for option, field in MAPS.items():
        made.add_argument(f"--{option}", dest=field, action="append", type=_pair, metavar="NAME=VALUE")
    made.add_argument("--wait", type=_seconds, metavar="SECONDS", help="wait so long for delivery, retrying")
    return made


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of the deployment; what they do not say is left out."""
    said = {name: getattr(options, name) for name in (*TEXTS, "cohort_weight", "emergency")}
    said |= {field: dict(getattr(options, field) or ()) for field in MAPS.values()}
    return {name: item for name, item in said.items() if item not in (None, "", {})}


def needs_service(options: argparse.Namespace) -> None:
    """UsageError where nobody says which service is deployed."""
    if not (options.service or os.environ.get("DEPLOYTRAIL_SERVICE")):
        raise UsageError("which service? Give --service NAME, or set DEPLOYTRAIL_SERVICE")
    if not (options.environment or os.environ.get("DEPLOYTRAIL_ENVIRONMENT") or _deploy_target()):
        raise UsageError("which environment? Give --environment NAME, or set DEPLOYTRAIL_ENVIRONMENT")


def _deploy_target() -> bool:
    from deploytrail._build_identity import targets

    return bool(targets(os.environ))


def usage_error(word: str, error: UsageError) -> int:
    """Say what is wrong; the exit status for it."""
    from deploytrail_schemas.redaction import redact_text

    sys.stderr.write(f"deploytrail {word}: {redact_text(str(error))}. See deploytrail {word} --help\n")
    return USAGE_ERROR


def parse(made: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """The options; UsageError where they make no sense."""
    return made.parse_args(argv)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds up to a day")
    return seconds
