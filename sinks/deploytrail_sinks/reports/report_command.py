"""`deploytrail report WORD`: reports for auditors and teams."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.arguments import Parser, instant
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import CONFIG, UNAVAILABLE
from deploytrail_schemas.instants import LATEST, parse_instant
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.serve import quieten_drivers
from deploytrail_sinks.reports import pdf, reach, views
from deploytrail_sinks.reports.audit import NO_DATA, audit
from deploytrail_sinks.reports.document import Report
from deploytrail_sinks.reports.engines import EngineFailed, engines
from deploytrail_sinks.reports.environments import production
from deploytrail_sinks.reports.gathered import gathered
from deploytrail_sinks.reports.period import Period, month, quarter, zone_of
from deploytrail_sinks.reports.population import Collector, Population, independent
from deploytrail_sinks.reports.rendering import FORMATS, as_csv, as_html, markdown
from deploytrail_sinks.reports.sources import of_archive, of_kafka
from deploytrail_sinks.reports.timeline import timeline
from deploytrail_sinks.reports.trail import Trail
from deploytrail_sinks.reports.whole_file import beside

EXIT_FLAWED = 1
EXIT_USAGE = 64  # EX_USAGE of sysexits.h
_READER_LEFT = 128 + signal.SIGPIPE


def main(argv: list[str]) -> int:
    """0 done; 1 the population does not reconcile; 64 usage; 69 something is away; 78 a setting is wrong; 141 whoever
    read standard output has left."""
    given = _parser().parse_args(argv)
    quieten_drivers()
    if given.format == "pdf" and not given.output:
        sys.stderr.write("deploytrail report: --format pdf needs --output FILE\n")
        return EXIT_USAGE
    try:
        settings = Settings.load()
        every = engines(settings)
        return _write(_marked(_REPORTS[given.word](given, settings, every), given, settings, every), given)
    except ConfigurationError as error:
        sys.stderr.write(f"deploytrail report: {error}\n")
        return CONFIG
    except EngineFailed as error:
        sys.stderr.write(f"deploytrail report: {error}\n")
        return CONFIG if error.mendable else UNAVAILABLE
    except (DeploytrailError, OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"deploytrail report: {error}\n")
        return UNAVAILABLE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="deploytrail report", description="Reports for auditors and teams.")
    words = parser.add_subparsers(dest="word", required=True)
    common = Parser(add_help=False)
    common.add_argument("--format", choices=[*sorted(FORMATS), "pdf"], default="markdown")
    common.add_argument("--table", help="one table as CSV; without it, CSV has the report's main one")
    common.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")
    as_of = Parser(add_help=False)
    as_of.add_argument(
        "--as-of", type=instant, metavar="INSTANT", help="only what had arrived by then, e.g. 2026-11-05T00:00:00Z"
    )
    span = Parser(add_help=False)
    which = span.add_mutually_exclusive_group(required=True)
    which.add_argument("--month", type=_named(month), metavar="YYYY-MM")
    which.add_argument("--quarter", type=_named(quarter), metavar="YYYY-Qn")
    span.add_argument("--zone", type=_zone, default="UTC", help="of the period's first and last moment; an IANA name")
    place = Parser(add_help=False)
    place.add_argument(
        "--environment", action="append", help="instead of all that are production by policy; several times for several"
    )

    one = words.add_parser(
        "audit", parents=[common, as_of, place], help="every production deployment, and what is wrong"
    )
    one.add_argument("--month", type=_named(month), required=True, metavar="YYYY-MM")
    one.add_argument("--zone", type=_zone, default="UTC", help="of the month's first and last moment; an IANA name")
    one.add_argument("--population", type=Path, metavar="CSV", help="every deployment as somebody else counts them")
    one.add_argument("--without", action="append", default=[], choices=("kafka", "archive"), help="do not read it")
    words.add_parser("access", parents=[common, as_of, span], help="who could against who did, unused grants first")
    words.add_parser(
        "coverage", parents=[common, as_of, span, place], help="what runs that nobody reported, and other gaps"
    )
    scores = words.add_parser("team", parents=[common, as_of, span, place], help="a team's scorecard")
    scores.add_argument("team")
    line = words.add_parser(
        "timeline", parents=[common, as_of], help="an incident, for its post-mortem, with a picture"
    )
    line.add_argument("incident", help="an incident_id or an alert's signal_id")
    return parser


def _named(period: Callable[[str], Period]) -> Callable[[str], str]:
    """The type of an option that names a period; the zone comes with another option."""

    def read(text: str) -> str:
        try:
            return period(text).label
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _zone(text: str) -> str:
    try:
        zone_of(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _audit(given: argparse.Namespace, settings: Settings, every: Sequence[Client]) -> Report:
    as_of, period = given.as_of, _audited(given)
    trail = Trail(every, settings.clickhouse_database, as_of)
    environments = _environments(given, trail, period)
    last = (as_of if as_of is not None else LATEST) // 1000
    others: list[Callable[[], Population]] = []
    if "kafka" not in given.without:
        others.append(lambda: of_kafka(settings, Collector("Kafka", period, environments, last)))
    if "archive" not in given.without:
        others.append(lambda: of_archive(settings, Collector("archive", period, environments, last)))
    return audit(
        trail,
        period,
        environments,
        as_of=as_of,
        others=others,
        independent=independent(given.population) if given.population else None,
    )


def _access(given: argparse.Namespace, settings: Settings, every: Sequence[Client]) -> Report:
    with _views(settings, every) as asked:
        return views.access(asked, _period(given), given.as_of)


def _coverage(given: argparse.Namespace, settings: Settings, every: Sequence[Client]) -> Report:
    period, as_of = _period(given), given.as_of
    trail = Trail(every, settings.clickhouse_database, as_of)
    with _views(settings, every) as asked:
        return views.coverage(asked, period, _environments(given, trail, period), as_of)


def _team(given: argparse.Namespace, settings: Settings, every: Sequence[Client]) -> Report:
    period, as_of = _period(given), given.as_of
    trail = Trail(every, settings.clickhouse_database, as_of)
    with _views(settings, every) as asked:
        return views.team(asked, given.team, period, _environments(given, trail, period), as_of)


def _timeline(given: argparse.Namespace, settings: Settings, every: Sequence[Client]) -> Report:
    with _views(settings, every) as asked:
        return timeline(asked, given.incident, given.as_of)


_REPORTS: dict[str, Callable[[argparse.Namespace, Settings, Sequence[Client]], Report]] = {
    "audit": _audit,
    "access": _access,
    "coverage": _coverage,
    "team": _team,
    "timeline": _timeline,
}


def _marked(report: Report, given: argparse.Namespace, settings: Settings, every: Sequence[Client]) -> Report:
    """The report, and standard error, with what has to be known where it reaches back further than the tables."""
    if given.word == "timeline":
        since = parse_instant(next(iter(report.table("timeline").rows))[0])
    else:
        since = (_audited(given) if given.word == "audit" else _period(given)).start
    marked = reach.marked(report, since, reach.days_kept(every, settings), datetime.now(UTC))
    for label, said in marked.facts:
        if label in (reach.LABEL, NO_DATA):
            sys.stderr.write(f"deploytrail report: {said}\n")
    return marked


@contextmanager
def _views(settings: Settings, every: Sequence[Client]) -> Iterator[views.Views]:
    with gathered(every, settings.clickhouse_database) as (engine, database):
        yield views.Views(engine, database)


def _audited(given: argparse.Namespace) -> Period:
    return month(given.month, given.zone)


def _period(given: argparse.Namespace) -> Period:
    return month(given.month, given.zone) if given.month else quarter(given.quarter, given.zone)


def _environments(given: argparse.Namespace, trail: Trail, period: Period) -> list[str]:
    """Those that were asked for, each once, or every one that was production in the period, as known at the instant."""
    return list(dict.fromkeys(given.environment or production(trail.environment_policies(), period)))


def _write(report: Report, given: argparse.Namespace) -> int:
    if given.table and given.table not in report.names():
        there = ", ".join(report.names())
        sys.stderr.write(f"deploytrail report: there is no table {given.table!r}; there are {there}\n")
        return EXIT_USAGE
    if given.format == "pdf" and not given.table:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "report.html"
            with page.open("w", encoding="utf-8") as file:
                as_html(report, file)
            pdf.print_page(page, given.output)
    elif given.output:
        with beside(given.output) as path, path.open("w", encoding="utf-8", newline="") as file:
            _render(report, given, file)
    else:
        try:
            sys.stdout.flush()
            out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", write_through=True)
            _render(report, given, out)
            out.detach()  # it is not ours to close
        except BrokenPipeError:  # whoever read, as `head` does, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            return _READER_LEFT
    return EXIT_FLAWED if any(said.startswith("does not reconcile") for _, said in report.facts) else 0


def _render(report: Report, given: argparse.Namespace, out: TextIO) -> None:
    if given.table:
        as_csv(report.table(given.table), out)
    elif given.format == "markdown" and given.output:
        pictures = []
        for number, picture in enumerate(report.pictures, 1):  # Markdown holds no picture: it lies beside the file
            path = given.output.with_suffix(f".{number}.svg")
            with beside(path) as made:
                made.write_text(picture, encoding="utf-8")
            pictures.append(path.name)
        markdown(report, out, pictures)
    else:
        FORMATS[given.format](report, out)
