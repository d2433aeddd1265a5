"""The published JSON Schema of policies accepts what the readers accept, and refuses what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import deploytrail_local
import deploytrail_processors
import pytest
from deploytrail_processors.policy_command import main
from deploytrail_processors.policy_files import read_files
from deploytrail_processors.rules.policies import KINDS, read_document
from deploytrail_processors.rules.policies.schema import FILE_NAME, SEMANTIC, policy_schema, schema_text, spec_schema
from jsonschema import Draft202012Validator

PUBLISHED = Path(deploytrail_processors.__file__).parent / FILE_NAME
# Of each kind a spec with every field, and one with no more than must be.
WHOLE: dict[str, list[dict[str, Any]]] = {
    "service": [
        {
            "team": "payments",
            "tier": 1,
            "aliases": ["checkout-svc", "checkout-*"],
            "depends_on": ["cart"],
            "expected_duration_minutes": 20,
            "regimes": ["sox"],
            "grain": "region",
        },
        {},
    ],
    "environment": [{"aliases": ["prod-*", 1], "production": True}, {}],
    "region": [{"aliases": ["euw1"], "production": False}, {}],
    "thresholds": [
        {
            "lost_after_minutes": 1440,
            "overdue_after_minutes": 0.5,
            "correlation_window_minutes": 15,
            "same_deployment_minutes": 15,
            "storm_alerts": 5,
            "storm_minutes": 30,
        },
        {},
    ],
    "intake": [
        {"unsigned": "refuse", "scope": {"environments": ["production"], "services": ["a"], "regions": []}},
        {"unsigned": "accept"},
    ],
    "approval": [
        {
            "count": 2,
            "roles": ["release-manager"],
            "holders": {"release-manager": ["ada", "bob"], "sre": []},
            "four_eyes": True,
            "valid_minutes": 60,
            "registration": False,
            "unbound": False,
            "permit": True,
            "scope": {"environments": ["production"]},
        },
        {},
    ],
    "break_glass": [
        {"approver_roles": ["sre"], "max_minutes": 60, "approve_within_minutes": 30, "scope": {"teams": ["web"]}},
        {},
    ],
}
# Kinds with fields that only a reader can check (SEMANTIC).
CHECKED_FURTHER: dict[str, list[dict[str, Any]]] = {
    "change_window": [
        {
            "effect": "allow",
            "zone": "Europe/Berlin",
            "start": "2026-01-05T09:00",
            "duration_minutes": 480,
            "rrule": "FREQ=WEEKLY;BYDAY=MO,TU",
            "exdates": ["2026-05-01"],
            "rdates": ["2026-05-02T09:00"],
            "except": ["holidays"],
            "overrun": "warn",
            "overrun_grace_minutes": 10,
            "scope": {"environments": ["production"], "tiers": [1]},
        },
        {"effect": "deny", "zone": "UTC", "start": "2026-12-24T00:00", "end": "2027-01-02T00:00"},
        {"effect": "deny", "zone": "UTC", "start": "2026-12-24T00:00", "duration": "P1D"},
    ],
    "required_fields": [
        {
            "fields": ["feature_ticket", "sprint"],
            "tags": ["cost_centre"],
            "heal": {"sprint": ["feature_ticket"]},
            "scope": {"environments": ["production"]},
        }
    ],
    "regime": [
        {"fields": ["change_ticket"], "tags": ["risk"], "controls": ["registered", "approved"], "scope": {"tiers": [1]}}
    ],
    "velocity": [
        {"budget": 10, "budget_minutes": 10080, "burst": 3, "burst_minutes": 60, "scope": {"kinds": ["release"]}},
        {"burst": 3},
    ],
    "rollback_verification": [
        {"deadline_minutes": 10, "baseline_minutes": 60, "required": ["digest"], "scope": {"services": ["shop"]}},
        {},
    ],
    "reconciliation": [
        {"grace_minutes": 30, "settle_minutes": 1, "infer": True, "drift": False, "scope": {"services": ["shop"]}},
        {},
    ],
    "suppression": [
        {
            "severities": ["warning"],
            "lead_minutes": 5,
            "max_minutes": 30,
            "dependents": True,
            "any_cohort": False,
            "scope": {"services": ["shop"]},
        },
        {},
    ],
    "escalation": [
        {
            "levels": [{"notify": ["deployer"], "acknowledge_minutes": 5}, {"notify": ["team", "sre-lead"]}],
            "severities": ["critical"],
            "rounds": 2,
            "scope": {"environments": ["production"]},
        },
        {"levels": [{"notify": ["team"]}]},
    ],
    "retention": [
        {
            "class": "production-regulated",
            "days": 3000,
            "lock": "compliance",
            "tier": "GLACIER_IR",
            "regimes": ["sox"],
            "scope": {"environments": ["production"]},
        },
        {"class": "non-production", "days": 90},
    ],
    "success_criteria": [
        {
            "max_duration_minutes": 30,
            "rollback_rate": {"max_percent": 10, "deployments": 20, "minimum": 5},
            "incident": {"severity": "warning", "within_minutes": 60},
            "health": {"within_minutes": 15, "baseline_minutes": 60},
            "scope": {"environments": ["production"]},
        },
        {"rollback_rate": {"max_percent": 0, "days": 30}},
        {"incident": {}},
    ],
    "calendar": [
        {"zone": "Europe/Berlin", "dates": ["2026-12-25", "2026-12-24/2027-01-01"]},
        {"dates": ["2026-12-25"]},
    ],
}
# What takes the place of any value: none of these is right everywhere, most are wrong somewhere.
WRONG = (None, True, 0, -1, 1.5, 10_000_000, "", "word", [], ["a", True], [["a"]], [None], {}, {"unheard": 1})


@cache
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(policy_schema())
    return Draft202012Validator(policy_schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)


def document(kind: str, spec: Any, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": "one", "version": 2, "effective_from": "2026-01-01T00:00:00Z", "spec": spec} | more


def corpus() -> Iterator[dict[str, Any]]:
    """Whole documents, and each with one value changed, added or left out, at every depth."""
    for kind, specs in WHOLE.items():
        for spec in specs:
            whole = document(kind, spec)
            yield whole
            yield from _mutated(whole)


def _mutated(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, inner in value.items():
        yield {other: deepcopy(v) for other, v in value.items() if other != name}
        yield from ({**deepcopy(value), name: deepcopy(wrong)} for wrong in WRONG)
        if isinstance(inner, dict):
            yield from ({**deepcopy(value), name: changed} for changed in _mutated(inner))
    yield {**deepcopy(value), "unheard_of": "x"}


def verdicts(value: dict[str, Any]) -> tuple[bool, bool]:
    """(by the schema, by the readers)."""
    return validator().is_valid(value), not read_document(value).problems


def test_schema_and_readers_agree_on_every_document_of_the_corpus() -> None:
    found = [(value, *verdicts(value)) for value in corpus()]
    apart = [value for value, schema, reader in found if schema != reader]
    accepted = sum(1 for _, _, reader in found if reader)

    assert apart == []
    assert len(found) > 600
    assert accepted > 100
    assert len(found) - accepted > 300


@pytest.mark.parametrize("kind", CHECKED_FURTHER)
def test_of_the_other_kinds_the_schema_refuses_nothing_that_the_readers_accept(kind: str) -> None:
    specs = CHECKED_FURTHER[kind]
    found = [(value, *verdicts(value)) for spec in specs for value in _mutated(document(kind, spec))]
    strict = [value for value, schema, reader in found if reader and not schema]

    assert [verdicts(document(kind, spec)) for spec in specs] == [(True, True)] * len(specs)
    assert strict == []
    # What the readers refuse is mostly a matter of shape, which the schema sees too.
    refused = [schema for _, schema, reader in found if not reader]
    assert sum(1 for schema in refused if not schema) > 0.6 * len(refused) > 30
    assert SEMANTIC[kind]


def test_every_kind_is_in_the_corpus() -> None:
    assert WHOLE.keys() | CHECKED_FURTHER.keys() == KINDS.keys()


@pytest.mark.parametrize(
    "when",
    [
        *("2026-01-01", "2026-01-01T00:00:00", "1999-01-01T00:00:00Z", "", 7, "now"),
        *("2026-01-01T00:00:00+02:00", "2026-01-01t00:00:00.5z", "2026-01-01T00:00:00Z\n"),
    ],
)
def test_both_know_instants(when: Any) -> None:
    schema, reader = verdicts(document("service", {}, effective_from=when))

    assert schema == reader


@pytest.mark.parametrize("name", ["a", "a" * 128, "a" * 129, "-a", "a b", "ä", "a\n", "", 5, True, "A.b_c-9"])
def test_both_know_names(name: Any) -> None:
    schema, reader = verdicts(document("service", {}, name=name))

    assert schema == reader


@pytest.mark.parametrize(
    ("value", "noted"),
    [
        (document("service", {}, effective_from="2026-02-30T00:00:00Z"), "effective_from"),
        (document("service", {}, version=1.0), "version"),
        (document("intake", {"unsigned": "accept", "scope": {"teams": ["web"]}}), "intake"),
    ],
)
def test_what_only_the_readers_know_is_listed(value: dict[str, Any], noted: str) -> None:
    schema = Draft202012Validator(policy_schema()).is_valid(value)

    assert (schema, not read_document(value).problems) == (True, False)
    assert SEMANTIC[noted]


def test_the_policies_of_the_demo_are_valid_under_the_schema() -> None:
    sources, problems = read_files([Path(deploytrail_local.__file__).parent / "policies"])

    assert problems == []
    assert len(sources) > 15
    assert [list(validator().iter_errors(source.value)) for source in sources] == [[] for _ in sources]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_kind_is_described(kind: str) -> None:
    fields = spec_schema(kind)["properties"]

    assert fields
    assert fields.keys() - {"file"} == set().union(*(WHOLE | CHECKED_FURTHER)[kind]) | ({"ics"} & fields.keys())
    if kind not in ("change_window", "calendar", "break_glass", "approval", "suppression", "rollback_verification"):
        assert [name for name, shape in fields.items() if not shape.get("description")] == []


def test_the_published_file_is_the_schema_of_the_readers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()

    assert PUBLISHED.read_text("utf-8") == schema_text(), f"deploytrail policy schema > {PUBLISHED.name}"
    assert json.loads(schema_text())["properties"]["kind"]["enum"] == list(KINDS)
