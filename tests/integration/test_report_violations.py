"""A month of a company with violations planted in it: the audit report names each, and nothing else.

The trail is told to every app in the product's own context, and what they write is stored as the sink stores it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from support.commands import run
from support.questions import Trail
from support.seeded_month import Month, seeded_month, store
from support.violations import EACH, KINDS

KINDS_TOLD = (RecordType.DEPLOYMENT_EVENT, RecordType.APPROVAL, RecordType.OBSERVATION)


@dataclass(frozen=True)
class Audited:
    """The month, and what the report says of it."""

    month: Month
    facts: dict[str, str]
    rows: dict[str, dict[str, str]]  # by deployment
    exceptions: dict[str, set[str]]  # by deployment
    known: dict[str, str]  # what was planted, by deployment
    differences: list[dict[str, str]]
    first: str
    again: str


@pytest.fixture(scope="module")
def audited(clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    month, trail, folder = seeded_month(), Trail(clickhouse), tmp_path_factory.mktemp("month")
    store(month, trail, KINDS_TOLD)
    counted = [name for name in (*month.planted, *month.orderly) if not name.startswith("sha256:")]
    (folder / "pipeline.csv").write_text("\n".join(["deployment_id", *counted]))
    env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database}
    words = ("report", "audit", "--month", "2026-11", "--without", "kafka", "--without", "archive", "--format", "json",
             "--population", "pipeline.csv")  # fmt: skip
    try:
        first, again = (run(*words, env=env, cwd=folder, seconds=120) for _ in range(2))
        assert first.returncode == 1, first.stderr  # what nobody reported is in no pipeline's count
        yield _read(month, first.stdout, again.stdout)
    finally:
        trail.close()


def _read(month: Month, first: str, again: str) -> Audited:
    found: dict[str, Any] = json.loads(first)
    rows = {row["deployment"]: row for row in found["tables"]["deployments"]}
    exceptions: defaultdict[str, set[str]] = defaultdict(set)
    for one in found["tables"]["exceptions"]:
        exceptions[one["deployment"]].add(one["exception"])
    by_digest = {row["artifact digest"]: name for name, row in rows.items() if "inferred" in row["provenance"]}
    known = {by_digest.get(name, name): violation.name for name, violation in month.planted.items()}
    apart = found["tables"]["differences"]
    return Audited(month, found["facts"], rows, exceptions, known, apart, first, again)


@pytest.mark.requirement("M5.2", "M5.3", "M5.4")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_every_planted_violation_is_found_under_its_deployment(kind: Any, audited: Audited) -> None:
    mine = [name for name, planted in audited.known.items() if planted == kind.name]
    found = {name: audited.exceptions.get(name, set()) for name in mine}

    assert len(mine) == EACH
    assert {name: sorted(kind.must - said) for name, said in found.items() if not kind.must <= said} == {}
    assert {
        name: sorted(said - kind.must - kind.may) for name, said in found.items() if said - kind.must - kind.may
    } == {}


@pytest.mark.requirement("M5.2", "M5.3", "M5.4")
def test_nothing_is_invented_about_any_other_deployment(audited: Audited) -> None:
    others = {name: said for name, said in audited.exceptions.items() if name not in audited.known}

    assert Counter(one for said in others.values() for one in said) == {}, sorted(others.items())[:5]
    assert len(audited.month.orderly) > 240
    assert set(audited.rows) == audited.month.orderly | set(audited.known)


@pytest.mark.requirement("M5.2")
def test_the_month_reconciles_with_what_the_pipelines_count_but_for_what_passed_them_by(audited: Audited) -> None:
    unreported = {name for name, row in audited.rows.items() if "inferred" in row["provenance"]}

    assert audited.first == audited.again
    assert len(unreported) == EACH
    assert {(d["deployment"].rpartition("/")[2], d["what"]) for d in audited.differences} == {
        (name, "is not in it") for name in unreported
    }
    assert audited.facts["Population"] == f"does not reconcile: {EACH} differences"
    assert audited.facts["Environments"] == "payments-live, production"
    assert audited.facts["Deployments"] == str(len(audited.rows))
