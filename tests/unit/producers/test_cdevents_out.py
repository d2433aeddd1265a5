"""Our records as CDEvents: valid by the published schemas, and the same records again when they come back."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from deploytrail import cdevents_out
from deploytrail.adapters import cdevents
from deploytrail.adapters.base import Adapted, Defaults
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import fields, is_instant
from hypothesis import given, settings
from hypothesis import strategies as st

NOON = 1_793_620_800_000_000
SHARED = Path(__file__).parents[4] / "shared/fixtures/cdevents"
EVENT, SIGNAL, OBSERVATION = RecordType.DEPLOYMENT_EVENT, RecordType.SIGNAL, RecordType.OBSERVATION
DEPLOYED: dict[str, Any] = {
    "event_id": "01a0f1c2-0000-7000-8000-000000000001",
    "event_type": "succeeded",
    "deployment_id": "shop-42",
    "occurred_at": NOON,
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
    "producer_id": "runner 7",
    "version": "4.2.0",
}
INCIDENT: dict[str, Any] = {
    "signal_id": "01a0f1c2-0000-7000-8000-000000000002",
    "signal_type": "incident_opened",
    "occurred_at": NOON,
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
    "producer_id": "pager",
    "incident_id": "INC-9",
    "title": "shop answers 500",
    "severity": "critical",
}


def types(kind: RecordType, value: dict[str, Any]) -> list[str]:
    found = cdevents_out.cdevents_of(kind, value)
    return [event["context"]["type"].removeprefix("dev.cdevents.").rpartition(".0.3.0")[0] for event in found]


@pytest.mark.requirement("M7.5")
def test_a_deployment_that_succeeded_is_the_end_of_its_run_and_a_service_deployed() -> None:
    run, service = cdevents_out.cdevents_of(EVENT, DEPLOYED)

    assert run["context"]["type"] == "dev.cdevents.pipelinerun.finished.0.3.0"
    assert run["subject"]["content"] == {
        "pipelineName": "shop",
        "uri": "urn:deploytrail:shop-42",
        "outcome": "success",
    }
    assert service == {
        "context": {
            "specversion": "0.5.1",
            "id": DEPLOYED["event_id"],
            "source": "/deploytrail/runner%207",
            "type": "dev.cdevents.service.deployed.0.3.0",
            "timestamp": "2026-11-02T12:00:00.000000Z",
            "chainId": "shop-42",
        },
        "subject": {
            "id": "shop",
            "source": "/deploytrail/runner%207",
            "content": {"environment": {"id": "production"}, "artifactId": "pkg:generic/shop@4.2.0"},
        },
        "customData": {
            "region": "eu-west-1",
            "environment": "production",
            "service": "shop",
            "version": "4.2.0",
            "deploytrail": {
                "record_type": "DeploymentEvent",
                **DEPLOYED,
                "occurred_at": "2026-11-02T12:00:00.000000Z",
            },
        },
        "customDataContentType": "application/json",
    }


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"event_type": "queued"}, ["pipelinerun.queued"]),
        ({"event_type": "started"}, ["pipelinerun.started"]),
        ({"event_type": "failed"}, ["pipelinerun.finished"]),
        ({"event_type": "cancelled"}, ["pipelinerun.finished"]),
        ({}, ["pipelinerun.finished", "service.deployed"]),
        ({"previous_version": "4.1.0"}, ["pipelinerun.finished", "service.upgraded"]),
        ({"kind": "rollback"}, ["pipelinerun.finished", "service.rolledback"]),
        ({"event_type": "failed", "kind": "rollback"}, ["pipelinerun.finished"]),
        ({"event_type": "rolled_back"}, ["service.rolledback"]),
        ({"event_type": "registered"}, []),
        ({"event_type": "progressed"}, []),
        ({"event_type": "amended"}, []),
        ({"event_type": "voided"}, []),
        ({"event_type": "unknown"}, []),
    ],
)
def test_every_event_type_is_told_on_purpose(more: dict[str, str], told: list[str]) -> None:
    assert types(EVENT, DEPLOYED | more) == told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, ["incident.detected"]),
        ({"ticket_id": "https://tickets.acme.example/INC-9"}, ["incident.reported"]),
        ({"ticket_id": "INC-9"}, ["incident.detected"]),
        ({"signal_type": "incident_resolved"}, ["incident.resolved"]),
        ({"signal_type": "alert_firing"}, []),
        ({"signal_type": "alert_resolved"}, []),
        ({"signal_type": "health_check"}, []),
        ({"signal_type": "unknown"}, []),
    ],
)
def test_every_signal_type_is_told_on_purpose(more: dict[str, str], told: list[str]) -> None:
    assert types(SIGNAL, INCIDENT | more) == told


@pytest.mark.parametrize(
    ("fields", "artifact"),
    [
        ({}, "pkg:generic/shop@4.2.0"),
        ({"version": ""}, "pkg:generic/shop"),
        ({"artifact_digest": "sha256:0b31"}, "pkg:oci/shop@sha256%3A0b31"),
        ({"artifact_uri": "pkg:oci/acme/shop@sha256%3A0b31"}, "pkg:oci/acme/shop@sha256%3A0b31"),
        ({"artifact_uri": "s3://bucket/shop.zip"}, "pkg:generic/shop@4.2.0"),
        ({"event_type": "rolled_back", "previous_version": "4.1.0"}, "pkg:generic/shop@4.1.0"),
    ],
)
def test_the_artifact_is_a_package_url(fields: dict[str, str], artifact: str) -> None:
    service = cdevents_out.cdevents_of(EVENT, DEPLOYED | fields)[-1]

    assert service["subject"]["content"]["artifactId"] == artifact


def a_record(kind: RecordType) -> st.SearchStrategy[dict[str, Any]]:
    """Any value that could have been reported."""
    made: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields(kind):
        name, declared = field["name"], field["type"]
        if name in CANONICAL_FIELDS:
            continue
        if is_instant(field):
            instants = st.integers(NOON - 5 * 10**14, NOON + 5 * 10**14)
            made[name] = instants | st.none() if isinstance(declared, list) else instants
        elif name == kind.id_field:
            made[name] = st.uuids().map(str)
        else:
            made[name] = _any(declared)
    required = ("deployment_id", "region", "environment", "service")
    return st.fixed_dictionaries(made).map(lambda v: v | {n: v[n] or "x" for n in required if n in v})


def _any(declared: Any) -> st.SearchStrategy[Any]:
    if isinstance(declared, list):
        return st.one_of(*map(_any, declared))
    if isinstance(declared, dict) and declared["type"] == "enum":
        return st.sampled_from(declared["symbols"])
    if isinstance(declared, dict) and declared["type"] == "map":
        return st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
    return {
        "null": st.none(),
        "string": st.text(max_size=12),
        "boolean": st.booleans(),
        "long": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(allow_nan=False, allow_infinity=False),
    }[declared]


records = st.sampled_from([EVENT, SIGNAL, OBSERVATION]).flatmap(lambda kind: st.tuples(st.just(kind), a_record(kind)))


def back(event: Any, headers: dict[str, str] | None = None) -> Adapted:
    return cdevents.adapt(json.loads(json.dumps(event)), headers or {}, Defaults(region="elsewhere"), NOON + 1)


@pytest.mark.requirement("M7.5")
@given(records, st.sampled_from(sorted(cdevents_out.SPECS)))
@settings(max_examples=80, deadline=None)
def test_what_went_out_comes_back_as_the_same_record(record: tuple[RecordType, dict[str, Any]], spec: str) -> None:
    kind, value = record
    for event in cdevents_out.cdevents_of(kind, value, spec):
        headers, body = cdevents_out.binary(event)
        ways = [back(event), back(cdevents_out.structured(event)), back(json.loads(body), headers)]
        [(told, found)] = ways[0].records

        assert told is kind
        assert decode(encode(kind, found)) == decode(encode(kind, value))
        assert ways[1:] == ways[:1] * 2


@given(records)
@settings(max_examples=40, deadline=None)
def test_headers_of_a_cloudevent_are_plain_ascii(record: tuple[RecordType, dict[str, Any]]) -> None:
    for event in cdevents_out.cdevents_of(*record):
        headers, _ = cdevents_out.binary(event)

        assert all(text.isascii() and text.isprintable() and " " not in text for text in headers.values())


def test_a_record_of_ours_that_was_tampered_with_is_refused() -> None:
    event = cdevents_out.cdevents_of(EVENT, DEPLOYED)[-1]
    for wrong in ({"record_type": "Tick"}, {"record_type": "x"}, {"event_type": "x"}, {"event_id": None}, {"hello": 1}):
        changed = event | {"customData": {"deploytrail": event["customData"]["deploytrail"] | wrong}}

        with pytest.raises(cdevents.AdapterError, match=r"customData\.deploytrail"):
            back(changed)


@cache
def validator(spec: str, name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="the producers alone validate nothing")
    referencing = pytest.importorskip("referencing")
    if not SHARED.is_dir():
        pytest.skip("../shared/fixtures/cdevents is missing")
    folder = SHARED / f"v{spec}/schemas"
    schemas = [json.loads(path.read_text("utf-8")) for path in folder.rglob("*.json")]
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas
    )
    schema = json.loads((folder / f"{name}.json").read_text("utf-8"))
    kind = jsonschema.Draft202012Validator
    return kind(schema, registry=registry, format_checker=kind.FORMAT_CHECKER)


@pytest.mark.requirement("M7.5")
@given(records, st.sampled_from(sorted(cdevents_out.SPECS)))
@settings(max_examples=80, deadline=None)
def test_every_event_fits_the_published_schema(record: tuple[RecordType, dict[str, Any]], spec: str) -> None:
    for event in cdevents_out.cdevents_of(*record, spec):
        what, happened = event["context"]["type"].split(".")[2:4]

        validator(spec, what + happened).validate(event)
