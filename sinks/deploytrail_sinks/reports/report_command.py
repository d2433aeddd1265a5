"""`deploytrail report WORD`: reports for auditors and teams."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.instants import parse_instant, to_micros
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.serve import quieten_drivers
from deploytrail_sinks.clickhouse.writer import connect
from deploytrail_sinks.reports.audit import audit
from deploytrail_sinks.reports.document import Report
from deploytrail_sinks.reports.period import month
from deploytrail_sinks.reports.population import Collector, independent
from deploytrail_sinks.reports.rendering import FORMATS, as_csv
from deploytrail_sinks.reports.sources import of_archive, of_kafka
from deploytrail_sinks.reports.trail import LATEST, Trail
from deploytrail_sinks.serving import EXIT_CONFIGURATION, EXIT_UNAVAILABLE

EXIT_FLAWED = 1
EXIT_USAGE = 64  # EX_USAGE of sysexits.h


def main(argv: list[str]) -> int:
    """0 done; 1 the population does not reconcile; 64 usage; 69 something is away; 78 a setting is wrong."""
    parser = argparse.ArgumentParser(prog="deploytrail report", description="Reports for auditors and teams.")
    words = parser.add_subparsers(dest="word", required=True)
    common = _common()
    one = words.add_parser("audit", parents=[common], help="every production deployment of a month, and what is wrong")
    one.add_argument("--month", required=True, metavar="YYYY-MM")
    one.add_argument("--zone", default="UTC", help="of the month's first and last moment; an IANA name")
    one.add_argument("--environment", action="append", help="instead of production; several times for several")
    one.add_argument("--population", type=Path, metavar="CSV", help="deployments as somebody else counts them")
    one.add_argument("--without", action="append", default=[], choices=("kafka", "archive"), help="do not read it")
    given = parser.parse_args(argv)
    quieten_drivers()
    try:
        return _write(_REPORTS[given.word](given, Settings.load()), given)
    except ConfigurationError as error:
        sys.stderr.write(f"deploytrail report: {error}\n")
        return EXIT_CONFIGURATION
    except (ClickHouseError, DeploytrailError, OSError) as error:
        sys.stderr.write(f"deploytrail report: {error}\n")
        return EXIT_UNAVAILABLE


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--as-of", metavar="INSTANT", help="only what had arrived by then, e.g. 2026-11-05T00:00:00Z")
    common.add_argument("--format", choices=sorted(FORMATS), default="markdown")
    common.add_argument("--table", help="one table as CSV; without it, CSV has the report's main one")
    common.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")
    return common


def _audit(given: argparse.Namespace, settings: Settings) -> Report:
    as_of = _as_of(given.as_of)
    period = month(given.month, given.zone)
    environments = given.environment or ["production"]
    last = (as_of if as_of is not None else to_micros(LATEST)) // 1000
    others: list[Callable[[], object]] = []
    if "kafka" not in given.without:
        others.append(lambda: of_kafka(settings, Collector("Kafka", period, environments, last)))
    if "archive" not in given.without:
        others.append(lambda: of_archive(settings, Collector("archive", period, environments, last)))
    return audit(
        Trail(connect(settings), settings.clickhouse_database, as_of),
        period,
        environments,
        as_of=as_of,
        others=others,  # type: ignore[arg-type]
        independent=independent(given.population) if given.population else None,
    )


_REPORTS: dict[str, Callable[[argparse.Namespace, Settings], Report]] = {"audit": _audit}


def _as_of(text: str | None) -> int | None:
    try:
        return parse_instant(text) if text else None
    except ValueError as error:
        raise ConfigurationError(f"--as-of: {error}") from None


def _write(report: Report, given: argparse.Namespace) -> int:
    if given.table and given.table not in report.names():
        sys.stderr.write(
            f"deploytrail report: there is no table {given.table!r}; there are {', '.join(report.names())}\n"
        )
        return EXIT_USAGE
    out = given.output.open("w", encoding="utf-8", newline="") if given.output else _standard_output()
    try:
        if given.table:
            as_csv(report.table(given.table), out)
        else:
            FORMATS[given.format](report, out)
        out.flush()
    finally:
        if given.output:
            out.close()
    return EXIT_FLAWED if any(text.startswith("does not reconcile") for _, text in report.facts) else 0


def _standard_output() -> io.TextIOWrapper:
    sys.stdout.flush()
    return io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", write_through=True)
