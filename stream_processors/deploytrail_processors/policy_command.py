"""`deploytrail policy`: policy files from git, checked, compared, explained, and put on the policies topic.

Files are read whole or refused whole: one problem in one of them, and nothing is applied.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from deploytrail_schemas.arguments import Parser, instant
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.instants import LATEST
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings

from deploytrail_processors.policy_changes import Change, Plan, Source, difference, missing, plan, publish
from deploytrail_processors.policy_files import SUFFIXES, missing_calendars, read_files
from deploytrail_processors.policy_names import KINDS, NotNames, read_names, table
from deploytrail_processors.policy_people import named_people
from deploytrail_processors.policy_reader import PolicyReader
from deploytrail_processors.policy_references import nothing_means, seems_wrong
from deploytrail_processors.rules.policies import PolicySet
from deploytrail_processors.rules.policies.schema import schema_text
from deploytrail_processors.rules.policies.words import in_words

EXIT_CHANGES = 1  # of diff --exit-code
EXIT_UNMAPPED = 1  # of names
EXIT_INVALID = 65  # EX_DATAERR of sysexits.h


def main(argv: list[str]) -> int:
    """Exit code 0; 65 where a file is invalid or conflicts with what is applied; 69 where Kafka does not answer."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.word == "schema":
        sys.stdout.write(schema_text())
        return 0
    if options.word == "names" and options.names is None:
        _give_back_file(parser, options)
    sources, problems = read_files(options.paths or ())
    if problems:
        return _refuse(problems, applies=options.word == "apply")
    try:
        return _WORDS[options.word](sources, options)
    except NotNames as error:
        print(f"deploytrail policy: {error}", file=sys.stderr)
        return EXIT_INVALID
    except DeploytrailError as error:
        print(f"deploytrail policy: {error}", file=sys.stderr)
        return exit_code_of(error)


def _refuse(problems: list[str], *, applies: bool = False) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    count = counted(len(problems), "problem")
    print(f"{count}; nothing was applied" if applies else count, file=sys.stderr)
    return EXIT_INVALID


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="deploytrail policy", description="Check and apply policy files.")
    words = parser.add_subparsers(dest="word", required=True)
    made = {}
    for word, text in (
        ("check", "say every problem of the files"),
        ("diff", "show what apply would change on the policies topic"),
        ("apply", "put changed documents on the policies topic, all files or none"),
        ("explain", "say in words what the documents mean"),
    ):
        made[word] = words.add_parser(word, help=text, description=text)
        made[word].add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a YAML file, or a folder of them")
    for word in ("check", "diff", "apply"):
        made[word].add_argument("--strict", action="store_true", help="take warnings of names for problems")
    made["explain"].add_argument("--at", type=instant, metavar="INSTANT", help="say the next times from then on; now")
    made["diff"].add_argument("--exit-code", action="store_true", help="exit with 1 where something would change")
    made["apply"].add_argument("--wait", action="store_true", help="read the topic back until the changes are there")
    text = "say what reported names would be recorded as, by policy files or by what is applied"
    made["names"] = words.add_parser("names", help=text, description=text)
    made["names"].add_argument(
        "names",
        nargs="?",  # `--policies` may have taken it
        metavar="FILE",
        help="names, one a line, or what `deploytrail log` prints; - reads standard input",
    )
    made["names"].add_argument(
        "--policies", nargs="+", type=Path, metavar="PATH", dest="paths", help="policy files instead of those applied"
    )
    made["names"].add_argument(
        "--kind", choices=KINDS, default="environment", help="of what plain lines are names (default: environment)"
    )
    words.add_parser("schema", help="print the JSON Schema of policy files, for editors")
    return parser


def _give_back_file(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """FILE behind `--policies PATH …`, which takes all words up to the next option: the last of them is FILE."""
    *paths, last = options.paths or [Path()]
    if not paths or last.is_dir() or last.suffix in SUFFIXES:
        parser.error("names: the FILE of names is missing; - reads standard input")
    options.paths, options.names = paths, str(last)


def _check(sources: list[Source], options: argparse.Namespace) -> int:
    refused = _tell(Plan(()), sources, PolicySet(), options)
    if refused:
        return refused
    print(f"{counted(len(sources), 'document')}, no problem")
    return 0


def _explain(sources: list[Source], options: argparse.Namespace) -> int:
    policies = PolicySet().with_documents(source.document for source in sources).at(LATEST)
    try:
        regions = frozenset(RegionMap.from_settings(Settings.load()).numbers)
    except ConfigurationError as error:  # words are told without them; what a region is, they alone know
        print(f"warning: {error}; whether regions of scopes are known is not said", file=sys.stderr)
        regions = frozenset(region for source in sources for region in source.document.scope.regions)
    for doubt in nothing_means(sources, PolicySet(), regions):
        print(f"warning: {doubt}", file=sys.stderr)
    at = options.at if options.at is not None else _now()
    documents = [policies.document(s.document.kind, s.document.name) or s.document for s in sources]
    print("\n\n".join("\n  ".join(in_words(document, policies, at=at)) for document in documents))
    return 0


def _names(sources: list[Source], options: argparse.Namespace) -> int:
    settings = Settings.load()
    known = PolicySet().with_documents(s.document for s in sources) if options.paths else _standing(settings)
    try:
        with sys.stdin if options.names == "-" else Path(options.names).open(encoding="utf-8") as file:
            reported = read_names(file, options.kind)
    except (OSError, UnicodeDecodeError) as error:
        raise NotNames(f"{options.names} cannot be read: {error}") from None
    # Of files, what they say at last; of what is applied, what is in force now.
    regions = frozenset(RegionMap.from_settings(settings).numbers)
    lines, unmapped = table(reported, known.at(LATEST if options.paths else _now()), regions)
    print("\n".join(lines))
    if unmapped:
        names = counted(unmapped, "name of an environment or region is", "names of environments and regions are")
        print(f"{names} unmapped", file=sys.stderr)
    return EXIT_UNMAPPED if unmapped else 0


def _diff(sources: list[Source], options: argparse.Namespace) -> int:
    standing = _standing(Settings.load())
    planned = plan(sources, standing, now=_now())
    for change in planned.changes:
        print(difference(change), end="\n\n")
    print(_summary(planned, sources))
    if planned.elsewhere:
        print(f"in none of these files, and in force as it is: {', '.join(planned.elsewhere)}")
    refused = _tell(planned, sources, standing, options)
    return refused or (EXIT_CHANGES if planned.changes and options.exit_code else 0)


def _apply(sources: list[Source], options: argparse.Namespace) -> int:
    settings = Settings.load()
    standing = _standing(settings)
    planned = plan(sources, standing, now=_now())
    refused = _tell(planned, sources, standing, options, applies=True)
    if refused:
        return refused
    publish(settings, [change.value for change in planned.changes])
    if options.wait:
        _wait(settings, planned.changes)
    for change in planned.changes:
        print(f"{change.key} from {change.value['effective_from']}")
    print(_summary(planned, sources))
    return 0


def _tell(
    planned: Plan, sources: list[Source], standing: PolicySet, options: argparse.Namespace, *, applies: bool = False
) -> int:
    """Say warnings, and why nothing may be applied; the exit code."""
    settings = Settings.load()
    regions = frozenset(RegionMap.from_settings(settings).numbers)
    doubts = seems_wrong(sources, standing)
    problems = [
        *planned.conflicts,
        *missing_calendars(sources, standing),
        *nothing_means(sources, standing, regions),
        *named_people(sources, settings),
        *(doubts if options.strict else ()),
    ]
    for warning in [*planned.warnings, *(() if options.strict else doubts)]:
        print(f"warning: {warning}", file=sys.stderr)
    return _refuse(problems, applies=applies) if problems else 0


def _summary(planned: Plan, sources: list[Source]) -> str:
    return f"{len(planned.changes)} of {counted(len(sources), 'document')} changed"


def _standing(settings: Settings) -> PolicySet:
    reader = PolicyReader(settings)
    try:
        return reader.read_to_end()
    finally:
        reader.close()


def _wait(settings: Settings, changes: Iterable[Change], timeout: float = 30.0) -> None:
    """Until the topic, read anew, has the changes; DeploytrailError where it does not get them."""
    until = time.monotonic() + timeout
    while lost := missing(changes, _standing(settings)):
        if time.monotonic() > until:
            raise DeploytrailError(
                f"{', '.join(lost)}: not on the topic as applied, perhaps since somebody applied at the same time; "
                "look at `deploytrail policy diff`, and apply again"
            )
        time.sleep(0.2)


def _now() -> int:
    return time.time_ns() // 1000


_WORDS: Mapping[str, Callable[[list[Source], argparse.Namespace], int]] = {
    "check": _check,
    "diff": _diff,
    "apply": _apply,
    "explain": _explain,
    "names": _names,
}
