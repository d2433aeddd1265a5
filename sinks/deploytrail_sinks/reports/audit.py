"""The monthly audit report: is the population whole, what is wrong, and every production deployment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from deploytrail_schemas.counted import counted
from deploytrail_schemas.instants import format_instant

from deploytrail_sinks.reports.audit_rows import COLUMNS, EXCEPTION_COLUMNS, Audited, Value, audited
from deploytrail_sinks.reports.document import Report, Row, Spooled, Table, rows
from deploytrail_sinks.reports.period import Period
from deploytrail_sinks.reports.population import (
    Key,
    Known,
    Matcher,
    Place,
    Population,
    aged_out,
    comparable,
    differences,
)
from deploytrail_sinks.reports.steps import Steps
from deploytrail_sinks.reports.trail import CLICKHOUSE, Trail, by_deployment

NO_DATA = "No data"
_INDEPENDENT = "independent population"
_NO_DATA = (
    "no deployment of the period is on record in these environments; where some are expected, look at the month, at "
    "--environment, and whether DEPLOYTRAIL_CLICKHOUSE_URL and DEPLOYTRAIL_CLICKHOUSE_DATABASE are the right ones"
)
_EVIDENCE = ("deployment_revisions", "deployment_events", "approvals", "findings")


def audit(
    trail: Trail,
    period: Period,
    environments: Sequence[str],
    *,
    as_of: int | None = None,
    others: Sequence[Callable[[], Population]] = (),
    independent: Sequence[Known] | None = None,
) -> Report:
    """The report. `others`: what else holds the population; `independent`: how somebody else counts it.

    It has no size limit: rows pass through files. Equal inputs give equal reports; nothing in it is the time at
    which it was made.
    """
    matcher, uncounted = Matcher(independent or ()), list[Row]()
    month = _Month()
    for block in trail.deployments(period, environments):
        names = trail.names(block)
        others_of = {name for _, name in names}
        steps = Steps(trail.approvals(block, others_of), names)
        events = by_deployment(trail.events(block, others_of), names)
        findings = by_deployment(trail.findings(block, others_of), names)
        for deployment in block:
            key = (deployment["region"], deployment["deployment_id"])
            about, named = steps.about(deployment), steps.named(deployment)
            month.add(deployment, audited(deployment, about, events.get(key, ()), findings.get(key, ()), named))
            if independent is not None and not matcher.take(deployment):
                uncounted.append((_INDEPENDENT, "/".join(key), "is not in it"))
    mine = Population("report", month.held, month.ranges)
    stores = [trail.population(period, environments), *(comparable(other(), month.places) for other in others)]
    aged = {store.source: len(aged_out(store, month.places)) for store in stores if not store.note}
    apart = rows(differences(mine, stores, month.places))
    unknown = rows(
        (_INDEPENDENT, f"line {known.line}: {known.deployment_id or known.service}", "is not on record")
        for known in matcher.missing
    )
    unknown += uncounted
    facts = (
        *([] if len(month.listed) else [(NO_DATA, _NO_DATA)]),
        ("Period", str(period)),
        ("Environments", ", ".join(environments)),
        ("As of", format_instant(as_of) if as_of is not None else "all that had arrived: see the ranges"),
        ("Deployments", str(len(month.listed))),
        ("Outcomes", ", ".join(f"{name} {count}" for name, count in sorted(month.outcomes.items())) or "none"),
        ("With exceptions", f"{month.flawed}, {counted(len(month.exceptions), 'exception')}"),
        ("Population", _verdict(stores, aged, len(apart) + len(unknown), independent is not None)),
    )
    tables = (*_of_population(mine, stores, aged, [*apart, *unknown]), *month.tables(), _evidence(trail))
    return Report(f"Audit of deployments, {period.label}", facts, tables, main="deployments")


class _Month:
    """What was gathered of the deployments. `held`: to the revision that counts; `places`: to where that stands;
    `ranges`: partition → first and last offset of their records; `flawed`: how many have an exception."""

    def __init__(self) -> None:
        self.listed, self.exceptions = Spooled(), Spooled()
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.held: dict[Key, int] = {}
        self.places: dict[Key, Place] = {}
        self.ranges: dict[int, tuple[int, int]] = {}
        self.flawed = 0

    def add(self, deployment: Value, found: Audited) -> None:
        """One more deployment."""
        self.listed.append(found.row)
        for exception in found.exceptions:
            self.exceptions.append(exception)
            self.kinds[exception[0]] += 1
        self.flawed += bool(found.exceptions)
        self.outcomes[deployment["state"]] += 1
        key = deployment["region"], deployment["deployment_id"]
        partition, offset = deployment["kafka_partition"], deployment["kafka_offset"]
        self.held[key], self.places[key] = deployment["revision"], (partition, offset)
        first, last = self.ranges.get(partition, (offset, offset))
        self.ranges[partition] = (min(first, offset), max(last, offset))

    def tables(self) -> tuple[Table, ...]:
        """The exceptions, counted and each, and the full list."""
        counted = rows((kind, str(self.kinds[kind])) for kind in sorted(self.kinds))
        against = "Verdicts that stand against a deployment, and what its record alone shows to be missing."
        return (
            Table("kinds", "Exceptions by kind", ("exception", "count"), counted),
            Table("exceptions", "Exceptions", EXCEPTION_COLUMNS, self.exceptions, against),
            Table("deployments", "Every deployment", COLUMNS, self.listed, "By region, environment, service and time."),
        )


def _of_population(
    mine: Population, stores: Sequence[Population], aged: Mapping[str, int], apart: Sequence[Row]
) -> tuple[Table, ...]:
    columns = ("source", "deployments", "digest", "offsets of the records topic", "aged out")
    note = (
        "Every store counts the same deployments, or the table below names the ones on which they disagree. What has "
        "aged out of a store is older than all that it still holds, and is not compared with it."
    )
    every = [(*store.row(), str(aged.get(store.source) or "")) for store in (mine, *stores)]
    return (
        Table("population", "Population", columns, rows(every), note),
        Table("differences", "Differences", ("source", "deployment", "what"), rows(apart)),
    )


def _evidence(trail: Trail) -> Table:
    ranges = trail.ranges(_EVIDENCE)
    read = rows((t, str(p), str(a), str(b)) for t, found in ranges.items() for p, (a, b) in found.items())
    return Table("evidence", "What this was made of", ("table", "partition", "first offset", "last offset"), read)


def _verdict(stores: Sequence[Population], aged: Mapping[str, int], apart: int, counted_elsewhere: bool) -> str:
    if apart:
        return f"does not reconcile: {counted(apart, 'difference')}"
    read = [store.source for store in stores if not store.note]
    if read == [CLICKHOUSE] and not counted_elsewhere:
        return "not reconciled: nothing but ClickHouse was read"
    named = [f"{name} (without {aged[name]} that have aged out)" if aged[name] else name for name in read]
    if counted_elsewhere:
        named.append(f"the {_INDEPENDENT}")
    left = [store.source for store in stores if store.note]
    return f"reconciles: {', '.join(named)}" + (f"; not read: {', '.join(left)}" if left else "")
