"""What the gateway and the agent are told: bodies of JSON or forms, as checked records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from deploytrail_schemas.json_values import MOST_VIOLATIONS, JsonError, Violation, parse_json, validate
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.text_values import from_texts

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MAX_BODY_BYTES = 16 << 20
MAX_RECORDS = 10_000
_MAX_FIELDS = 200
_MAX_FORM_BYTES = 1 << 20
# A form is typed by hand or glued together in a shell: a little less sure than what a library sends.
FORM_CONFIDENCE = 0.9
# The routes below /v1/, and the kind of record that each takes.
KINDS = {
    "events": RecordType.DEPLOYMENT_EVENT,
    "signals": RecordType.SIGNAL,
    "approvals": RecordType.APPROVAL,
    "observations": RecordType.OBSERVATION,
}


def media_type(content_type: str) -> str:
    """A Content-Type in lower case, without parameters; JSON and all that ends in +json are one."""
    given = content_type.partition(";")[0].strip().lower()
    return JSON if not given or given.endswith("+json") else given


def read(kind: RecordType, called: str, body: bytes) -> Any:
    """What a body of JSON, or a form as `curl -d name=value` sends it, says; JsonError where it cannot be read."""
    # curl calls whatever -d sends a form, unless it is told otherwise.
    if called == JSON or body.lstrip()[:1] in (b"{", b"["):
        return parse_json(body, MAX_BODY_BYTES)
    if len(body) > _MAX_FORM_BYTES:
        raise JsonError(f"the form has more than {_MAX_FORM_BYTES} bytes", too_large=True)
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise JsonError(f"the form cannot be read: {error}") from error
    said = from_texts(kind, pairs)
    return {"confidence": FORM_CONFIDENCE} | said if kind is RecordType.DEPLOYMENT_EVENT else said


def check(
    kind: RecordType, payload: Any, complete: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Violation]]:
    """The records of one object or a list, and every violation up to `MOST_VIOLATIONS`.

    `complete` adds what a record may leave out.
    """
    many = payload if isinstance(payload, list) else [payload]
    if len(many) > MAX_RECORDS:
        raise JsonError(f"{len(many)} records; one request may carry {MAX_RECORDS}", too_large=True)
    values: list[dict[str, Any]] = []
    wrong: list[Violation] = []
    for index, given in enumerate(many):
        value, violations = validate(kind, complete(given) if isinstance(given, dict) else given)
        prefix = f"/{index}" if isinstance(payload, list) else ""
        wrong.extend(Violation(prefix + v.pointer, v.detail) for v in violations)
        values.append(value)
        if len(wrong) >= MOST_VIOLATIONS:
            more = Violation("", f"more may be wrong; the first {MOST_VIOLATIONS} are listed")
            return values, [*wrong[:MOST_VIOLATIONS], more]
    return values, wrong
