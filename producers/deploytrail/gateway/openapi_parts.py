"""What the gateway's description is made of: schemas of records and answers, parameters, security."""

from __future__ import annotations

import re
from typing import Any

from deploytrail_schemas import headers as names
from deploytrail_schemas.instants import EARLIEST, LATEST
from deploytrail_schemas.json_schema import json_schema
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.text_values import SEPARATOR

from deploytrail._reported import FORM, FORM_CONFIDENCE, JSON, MAX_BODY_BYTES, MAX_RECORDS
from deploytrail.gateway.signatures import SCHEMES, Scheme

Part = dict[str, Any]
PROBLEM = "application/problem+json"
_EXAMPLES: dict[RecordType, Part] = {
    RecordType.DEPLOYMENT_EVENT: {
        "event_type": "succeeded",
        "deployment_id": "checkout-42",
        "region": "eu-west-1",
        "environment": "production",
        "service": "checkout",
        "version": "4.2.0",
        "deployer": "ada@example.com",
        "tags": {"team": "shop"},
    },
    RecordType.SIGNAL: {
        "signal_type": "alert_firing",
        "region": "eu-west-1",
        "environment": "production",
        "service": "checkout",
        "source": "probe",
        "fingerprint": "checkout-errors",
        "severity": "critical",
        "title": "5 % of checkouts fail",
        "started_at": "2026-11-02T12:00:00Z",
    },
    RecordType.APPROVAL: {
        "approval_type": "approved",
        "region": "eu-west-1",
        "environment": "production",
        "service": "checkout",
        "change_ticket": "CHG0031337",
        "approver": "grace@example.com",
        "valid_until": "2026-11-03T12:00:00Z",
    },
    RecordType.OBSERVATION: {
        "observation_type": "running",
        "region": "eu-west-1",
        "environment": "production",
        "service": "checkout",
        "cluster": "eu-1",
        "version": "4.2.0",
    },
}
_PROBLEMS = {
    400: ("NotReadable", "The body is no JSON, form or gzip, is nested deeper than 32, or a header is wrong."),
    401: ("NotKnown", "Who sent this is not known: token or signature is missing or wrong."),
    403: ("NotAllowed", "It lies outside of what the credential may say. Nothing was accepted."),
    404: ("NotFound", "There is no such map."),
    405: ("NotServed", "The route takes another method."),
    413: ("TooLarge", f"More than {MAX_BODY_BYTES} bytes, also once unpacked, or more than {MAX_RECORDS} records."),
    415: ("NotUnderstood", "Another Content-Type or Content-Encoding."),
    422: ("Violations", "Every violation of every record, with its pointer. Nothing was accepted."),
    429: ("Busy", "Too much is waiting to be stored: send it again after Retry-After."),
    503: (
        "Away",
        "Kafka does not answer and the spool is full, or what else is needed is away: send it again after Retry-After.",
    ),
}


def reported_schema(kind: RecordType) -> Part:
    """A kind's JSON object as a caller sends it: id, time and clock may be left out."""
    schema = {name: part for name, part in json_schema(kind).items() if name not in ("$schema", "$id")}
    left_out = {kind.id_field, "occurred_at", "producer_id"}
    schema["required"] = [name for name in schema["required"] if name not in left_out]
    schema["examples"] = [_EXAMPLES[kind]]
    return schema


def form_schema(kind: RecordType) -> Part:
    """The same as form fields: all of them texts, and entries of maps by a dotted name."""
    given = reported_schema(kind)
    properties: Part = {}
    entries: Part = {}
    for name, shape in given["properties"].items():
        said = {"description": shape["description"]}
        if "additionalProperties" in shape:
            entries[f"^{name}{re.escape(SEPARATOR)}"] = {"type": "string"} | said
        else:
            properties[name] = _as_text(shape, required=name in given["required"]) | said
    example = {name: value for name, value in _EXAMPLES[kind].items() if isinstance(value, str)}
    more = f" confidence is {FORM_CONFIDENCE} unless it is given." if kind is RecordType.DEPLOYMENT_EVENT else ""
    return given | {
        "title": f"{kind.value} as a form",
        "description": f"{given['description']} Fields as texts; empty ones count as left out.{more}",
        "properties": properties,
        "patternProperties": entries,
        "examples": [example],
    }


def _as_text(shape: Part, *, required: bool) -> Part:
    """A field as from_texts reads it."""
    if "anyOf" in shape:  # an instant
        text = next(one for one in shape["anyOf"] if one["type"] == "string")
        return {"anyOf": [text, {"type": "string", "pattern": f"^({_INSTANT})?$"}]}
    if "enum" in shape:
        return {"type": "string", "enum": [*filter(None, shape["enum"]), ""]}
    types = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
    for name, pattern in _TEXTS.items():
        if name in types:
            return {"type": "string", "pattern": pattern}
    if "pattern" in shape:
        return {"anyOf": [{"type": "string", "pattern": shape["pattern"]}, {"const": ""}]}
    return {"type": "string"} | ({"minLength": 1} if required else {})


# Microseconds of the years 2000 to 2099.
_INSTANT = "9(4[7-9]|[5-9][0-9])[0-9]{12}|[1-3][0-9]{15}|40[0-9]{14}"
_TEXTS = {
    "integer": "^(-?[0-9]{1,18})?$",
    "number": r"^(-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?)?$",
    "boolean": "^([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]|1|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff]|0)?$",
}


def components() -> Part:
    """Everything that paths refer to."""
    schemas = {kind.value: reported_schema(kind) for kind in _EXAMPLES}
    schemas |= {f"{kind.value}Form": form_schema(kind) for kind in _EXAMPLES}
    return {
        "schemas": schemas | {"Violation": _VIOLATION, "Problem": _PROBLEM, "Accepted": _ACCEPTED},
        "parameters": _PARAMETERS,
        "headers": {
            "RetryAfter": {
                "description": "Seconds to wait before it is sent again.",
                "schema": {"type": "integer", "minimum": 1},
            },
            "Challenge": {"description": "How to prove who calls (RFC 6750).", "schema": {"type": "string"}},
            "Allow": {"description": "The methods that the route takes.", "schema": {"type": "string"}},
        },
        "responses": {name: _problem(status, text) for status, (name, text) in _PROBLEMS.items()},
        "securitySchemes": security_schemes(),
    }


def ref(section: str, name: str) -> Part:
    """A reference to a component."""
    return {"$ref": f"#/components/{section}/{name}"}


def problems(*statuses: int) -> Part:
    """The answers of these statuses."""
    return {str(status): ref("responses", _PROBLEMS[status][0]) for status in sorted(statuses)}


def accepted(text: str, schema: Part | None = None) -> Part:
    """The answer 202."""
    return {"202": {"description": text, "content": {JSON: {"schema": schema or ref("schemas", "Accepted")}}}}


def report_body(kind: RecordType) -> Part:
    """The body of a report: one object, a list, or the fields of a form."""
    one = ref("schemas", kind.value)
    return {
        "description": "One object or a list, accepted whole or not at all; Content-Encoding may be gzip.",
        "required": True,
        "content": {
            JSON: {
                "schema": {"oneOf": [one, {"type": "array", "items": one, "maxItems": MAX_RECORDS}]},
                "examples": {
                    "one": {"summary": "One record", "value": _EXAMPLES[kind]},
                    "several": {"summary": "A list", "value": [_EXAMPLES[kind]]},
                },
            },
            FORM: {"schema": ref("schemas", f"{kind.value}Form")},
        },
    }


def security_schemes() -> Part:
    """How callers prove who they are."""
    found: Part = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A dtk_ token of `deploytrail token create`, scoped to team, services, environments, "
            "regions and verbs.",
        },
        "github_actions": {
            "type": "openIdConnect",
            "openIdConnectUrl": "https://token.actions.githubusercontent.com/.well-known/openid-configuration",
            "description": "The OIDC token of a GitHub Actions job, where DEPLOYTRAIL_OIDC names its issuer.",
        },
        "gitlab_ci": {
            "type": "openIdConnect",
            "openIdConnectUrl": "https://gitlab.com/.well-known/openid-configuration",
            "description": "The ID token of a GitLab CI job, where DEPLOYTRAIL_OIDC names its issuer.",
        },
    }
    return found | {
        scheme_name(name): {
            "type": "apiKey",
            "in": "header",
            "name": scheme.header,
            "description": f"{scheme.what}, made with a secret of DEPLOYTRAIL_WEBHOOK_SECRETS.",
        }
        for name, scheme in SCHEMES.items()
        if scheme.header
    }


def scheme_name(signature: str) -> str:
    """The security scheme of a signature scheme."""
    return f"signed_{signature}"


def security(signature: str = "") -> list[Part]:
    """What a request may prove itself by; `signature`: a webhook's scheme. Empty: callers that need no credential."""
    ways: list[Part] = [{}, {"token": []}, {"github_actions": []}, {"gitlab_ci": []}]
    scheme: Scheme | None = SCHEMES.get(signature)
    return [{scheme_name(signature): []}, *ways] if scheme is not None and scheme.header else ways


def _problem(status: int, text: str) -> Part:
    found: Part = {"description": text, "content": {PROBLEM: {"schema": ref("schemas", "Problem")}}}
    headers = {401: ("WWW-Authenticate", "Challenge"), 405: ("Allow", "Allow")}
    headers |= dict.fromkeys((429, 503), ("Retry-After", "RetryAfter"))
    if status in headers:
        name, component = headers[status]
        found["headers"] = {name: ref("headers", component)}
    return found


_VIOLATION: Part = {
    "type": "object",
    "description": "One thing that is wrong.",
    "properties": {
        "pointer": {
            "type": "string",
            "description": "Where: an RFC 6901 pointer into the body; /LINE/FIELD of CSV; empty for the whole.",
        },
        "detail": {"type": "string", "description": "What it is, and what was expected."},
    },
    "required": ["pointer", "detail"],
    "additionalProperties": False,
    "examples": [{"pointer": "/0/event_type", "detail": "is 'exploded'; expected one of registered, queued, …"}],
}
_PROBLEM: Part = {
    "type": "object",
    "description": "Why a request was not accepted: problem details (RFC 9457).",
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened, what was expected, what to do."},
        "violations": {"type": "array", "items": ref("schemas", "Violation"), "minItems": 1},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
    "examples": [
        {
            "type": "about:blank",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": "1 violations; nothing was accepted",
            "violations": [{"pointer": "/service", "detail": "is required"}],
        }
    ],
}
_ACCEPTED: Part = {
    "type": "object",
    "description": "What is durable now.",
    "properties": {
        "accepted": {"type": "integer", "minimum": 0, "description": "How many records."},
        "received_at": {"type": "integer", "description": "When, in µs since the epoch: it bounds the caller's clock."},
        "ids": {"type": "array", "items": {"type": "string", "format": "uuid"}, "description": "Their ids, in order."},
        "ignored": {"type": "string", "description": "Webhooks: why a delivery says nothing that is kept."},
        "repeated": {"const": True, "description": "Webhooks: this delivery was accepted before; nothing was stored."},
        "violations": {
            "type": "array",
            "items": ref("schemas", "Violation"),
            "description": "CSV: what is wrong with each line that was left out.",
        },
    },
    "required": ["accepted", "received_at", "ids"],
    "additionalProperties": False,
    "examples": [{"accepted": 1, "received_at": 1793620800000000, "ids": ["019a43ee-5c00-7000-8000-000000000001"]}],
}


def _query(name: str) -> Part:
    return {
        "name": name,
        "in": "query",
        "description": f"The {name}, where the payload does not say it.",
        "schema": {"type": "string"},
    }


_PARAMETERS: Part = {
    "SentAt": {
        "name": names.HTTP_SENT_AT,
        "in": "header",
        "description": "The sender's clock when it handed this over, µs since the epoch.",
        "schema": {"type": "integer", "minimum": EARLIEST, "exclusiveMaximum": LATEST},
        "example": 1793620800000000,
    },
    "SentMonotonic": {
        "name": names.HTTP_SENT_MONOTONIC,
        "in": "header",
        "description": "The sender's monotonic clock then, ns, of the same boot as monotonic_ns of the records.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        "example": 81273400000000,
    },
    "Echo": {
        "name": names.HTTP_ECHO,
        "in": "header",
        "description": "sent,received,acknowledged of the sender's latest acknowledged record, µs since the epoch.",
        "schema": {"type": "string", "pattern": f"^({_INSTANT}),({_INSTANT}),({_INSTANT})$"},
        "example": "1793620800000000,1793620800004000,1793620800009000",
    },
    "Clock": {
        "name": names.HTTP_CLOCK,
        "in": "header",
        "description": "offset,uncertainty of the sender's clock by the word of what disciplines it, µs.",
        "schema": {"type": "string", "pattern": r"^-?[0-9]{1,15},[0-9]{1,15}$"},
        "example": "-120,900",
    },
    "Region": _query("region"),
    "Environment": _query("environment"),
    "Service": _query("service"),
}
