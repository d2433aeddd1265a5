"""Golden cases of the adapters: a payload, and the records that it must become.

A case is one JSON file, `tests/unit/producers/adapters/golden/<source>/<case>.json`:

    headers      lower-case names; may be missing
    url          region, environment, service of the webhook's URL; may be missing
    payload      what is posted; or `fixture`: its file below ../shared/fixtures
    records      [{"kind": "DeploymentEvent", "value": {…}}], values without what has its default and with
                 instants as RFC 3339 text; or `ignored`: the reason, or `error`: the words of the refusal

`python -m support.golden FILE…` (in tests/) writes `records` into cases that have none: read and correct them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from deploytrail import adapters
from deploytrail.adapters.base import Adapted, AdapterError, Defaults
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields, is_instant

FOLDER = Path(__file__).parent.parent / "unit/producers/adapters/golden"
# When every case was received: 2026-11-02T12:00:00Z, in µs.
NOON = 1_793_620_800_000_000


def cases() -> list[Path]:
    """Every golden case."""
    return sorted(FOLDER.glob("*/*.json"))


def payload_of(case: dict[str, Any], shared: Path | None) -> Any:
    """What the case posts; FileNotFoundError where it lies among the fixtures and they are missing."""
    if "fixture" not in case:
        return case["payload"]
    if shared is None or not shared.is_dir():
        raise FileNotFoundError(f"{case['fixture']} lies in ../shared/fixtures, which is missing")
    return json.loads((shared / "fixtures" / case["fixture"]).read_text("utf-8"))


def adapted(source: str, case: dict[str, Any], payload: Any) -> Adapted:
    """What the source's adapter makes of it."""
    return adapters.load(source).adapt(payload, case.get("headers", {}), Defaults(**case.get("url", {})), NOON)


def told(found: Adapted) -> list[dict[str, Any]]:
    """The records as a case writes them; every one is encoded and read back, so that it fits its schema."""
    return [{"kind": kind.value, "value": _shown(*decode(encode(kind, value)))} for kind, value in found.records]


def _shown(kind: RecordType, value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in fields(kind):
        given = value[field["name"]]
        if "default" not in field or given != field["default"]:
            shown[field["name"]] = format_instant(given) if is_instant(field) else given
    return shown


def main(paths: list[str]) -> None:
    """Write what is missing in the cases at `paths`."""
    shared = Path(__file__).parents[3] / "shared"
    for path in map(Path, paths):
        case = json.loads(path.read_text("utf-8"))
        if case.keys() & {"records", "ignored", "error"}:
            continue
        try:
            found = adapted(path.parent.name, case, payload_of(case, shared))
            case |= {"records": told(found)} if found.records else {"ignored": found.ignored}
        except AdapterError as error:
            case["error"] = str(error)
        path.write_text(json.dumps(case, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
