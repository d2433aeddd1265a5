"""The gateway's description of itself: OpenAPI 3.1 of every route.

Generated: records from their Avro schemas, webhooks from their adapters, statuses from the
problems that can be answered. https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from deploytrail_schemas.records import RecordType

from deploytrail import adapters
from deploytrail._reported import FORM, JSON, KINDS
from deploytrail.adapters.base import Source
from deploytrail.gateway.openapi_parts import (
    Part,
    accepted,
    components,
    problems,
    ref,
    report_body,
    security,
)
from deploytrail.gateway.signatures import SCHEMES

TEXT = "text/plain"
CSV = "text/csv"
DOCUMENT = "/openapi.json"
_STORED = "Every record is durable: in Kafka, or in the spool that waits for it."
_TIMES = [ref("parameters", name) for name in ("SentAt", "SentMonotonic", "Echo", "Clock")]
_PLACES = [ref("parameters", name) for name in ("Region", "Environment", "Service")]


def document(csv_maps: Sequence[str] = ()) -> Part:
    """The description as a JSON value. `csv_maps`: the names of the maps that this gateway has."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "deploytrail gateway",
            "version": version("deploytrail"),
            "summary": "Takes what cannot reach Kafka itself.",
            "description": "202 means durable; whatever else is answered, nothing of the request was "
            "accepted. Errors are problem details (RFC 9457). A request may have 16 MiB, packed with gzip or not, "
            "and a record 1 MiB.",
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "reports", "description": "Records in our own words."},
            {"name": "webhooks", "description": "Other people's payloads, read by their adapters."},
            {"name": "gateway", "description": "How the gateway is."},
        ],
        "paths": {
            **{f"/v1/{path}": {"post": _report(path, kind)} for path, kind in KINDS.items()},
            "/v1/csv/{map}": {"post": _upload(csv_maps)},
            **{f"/webhooks/{name}": {"post": _webhook(adapters.load(name))} for name in adapters.names()},
            "/healthz": _get("health", "Whether the process answers.", "ok"),
            "/readyz": _get("readiness", "Whether records would be accepted now.", "ready", away="Why not."),
            "/metrics": _get("metrics", "Metrics in the text format of Prometheus.", "# HELP …"),
            DOCUMENT: _get("description", "This description.", "", media=JSON),
        },
        "components": components(),
    }


def _report(path: str, kind: RecordType) -> Part:
    return {
        "operationId": f"report_{path}",
        "tags": ["reports"],
        "summary": f"Report {path}.",
        "description": f"{kind.id_field}, occurred_at and producer_id may be left out: a new id, the time of arrival "
        "and the caller's address take their place. What the caller's credential proves (team, actor, commit …) "
        "stands above what the record says, and a place that it fixes may be left out too.",
        "security": security(),
        "parameters": _TIMES,
        "requestBody": report_body(kind),
        "responses": accepted(_STORED) | problems(400, 401, 403, 413, 415, 422, 429, 503),
    }


def _upload(csv_maps: Sequence[str]) -> Part:
    names: Part = {"type": "string", "enum": list(csv_maps)} if csv_maps else {"type": "string", "minLength": 1}
    return {
        "operationId": "upload_csv",
        "tags": ["reports"],
        "summary": "Upload the CSV of a legacy system.",
        "description": "Read by a map of DEPLOYTRAIL_CSV_MAPS, whatever its Content-Type. Good lines are kept, and "
        "every bad one is reported; ids follow from the lines, so that a file may be sent again.",
        "security": security(),
        "parameters": [
            {"name": "map", "in": "path", "required": True, "description": "The name of the map.", "schema": names},
            *_TIMES,
        ],
        "requestBody": {
            "required": True,
            "content": {CSV: {"schema": {"type": "string"}}},
            "description": "A header line and one line a record; Content-Encoding may be gzip.",
        },
        "responses": accepted("The good lines are durable.") | problems(400, 401, 403, 404, 413, 415, 422, 429, 503),
    }


def _webhook(source: Source) -> Part:
    kinds = sorted(kind.value for kind in source.fills)
    said = [
        f"Gives {', '.join(kinds)}. The Content-Type does not matter; JSON may come as the field `payload` of a form."
    ]
    if source.statuses:
        said.append("Statuses: " + ", ".join(f"{theirs} → {ours}" for theirs, ours in source.statuses.items()) + ".")
    if not SCHEMES[source.signature].header and source.signature != "bearer":
        said.append(f"Signed by {SCHEMES[source.signature].what}.")
    if source.delivery:
        places = [f"{place} of the payload" if place[0] == "/" else f"the header {place}" for place in source.delivery]
        said.append(f"A delivery is known by {' or '.join(places)} for seven days, and accepted once.")
    any_json: Part = {"description": f"What {source.title} sends."}
    form = {"type": "object", "properties": {"payload": {"type": "string", "description": "The JSON, as text."}},
            "required": ["payload"]}  # fmt: skip
    return {
        "operationId": f"webhook_{source.name}",
        "tags": ["webhooks"],
        "summary": f"Webhooks of {source.title}.",
        "description": " ".join(said),
        "security": security(source.signature),
        "parameters": [
            *_PLACES,
            *(
                {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
                for name, meaning in source.options.items()
            ),
            *_TIMES,
        ],
        "requestBody": {
            "required": True,
            "description": "As the source sends it; Content-Encoding may be gzip.",
            "content": {JSON: {"schema": any_json}, FORM: {"schema": form}},
        },
        "responses": accepted("Durable in Kafka; or nothing to keep: `ignored` says why.")
        | problems(400, 401, 403, 413, 415, 422, 429, 503),
    }


def _get(name: str, summary: str, example: str, *, media: str = TEXT, away: str = "") -> Part:
    schema: Part = {"type": "object"} if media == JSON else {"type": "string", "examples": [example]}
    answers: Part = {"200": {"description": summary, "content": {media: {"schema": schema}}}}
    if away:
        answers["503"] = {"description": away, "content": {media: {"schema": {"type": "string"}}}}
    return {"get": {"operationId": name, "tags": ["gateway"], "summary": summary, "security": [], "responses": answers}}
