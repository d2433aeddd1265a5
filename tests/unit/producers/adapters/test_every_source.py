"""What holds for every source: golden cases, promised fields, mapped statuses, and that any payload survives."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import AdapterError, Defaults, instant
from deploytrail_schemas.codec import encode
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import fields
from deploytrail_schemas.scopes import PLACES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.golden import NOON, adapted, cases, payload_of, told

# Required, or never the source's own word: nobody asks whether a source can fill them.
ALWAYS = frozenset({"confidence", "provenance"})


@cache
def _shared() -> Path:
    return Path(__file__).parents[5] / "shared"


def _case(path: Path) -> tuple[dict[str, Any], Any]:
    case = json.loads(path.read_text("utf-8"))
    try:
        return case, payload_of(case, _shared())
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.requirement("M7.5", "M3.2", "M2.3")
@pytest.mark.parametrize("path", cases(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_payload_becomes_these_records(path: Path) -> None:
    case, payload = _case(path)
    if "error" in case:
        with pytest.raises(AdapterError) as refused:
            adapted(path.parent.name, case, payload)
        assert str(refused.value) == case["error"]
        return
    found = adapted(path.parent.name, case, payload)

    assert (told(found), found.ignored) == (case.get("records", []), case.get("ignored", ""))


@pytest.mark.parametrize("name", adapters.names())
def test_every_source_has_a_golden_case_of_its_own(name: str) -> None:
    assert [path for path in cases() if path.parent.name == name and '"payload"' in path.read_text("utf-8")]


@pytest.mark.requirement("M3.2")
@pytest.mark.parametrize("name", adapters.names())
def test_a_source_fills_the_fields_that_it_says_and_no_others(name: str) -> None:
    seen: dict[RecordType, set[str]] = defaultdict(set)
    for path in cases():
        case = json.loads(path.read_text("utf-8"))
        if path.parent.name != name:
            continue
        for record in case.get("records", []):
            seen[RecordType(record["kind"])] |= record["value"].keys() - set(PLACES)
        if case.get("records"):
            for kind, place in _places_told(name, *_case(path)):
                seen[kind].add(place)

    said = adapters.load(name).fills
    # A place that only the webhook's URL tells is not the source's: usual(…, never=("region",)).
    never_filled = {kind.value: names - ALWAYS - seen[kind] for kind, names in said.items()}
    unsaid = {kind.value: names - ALWAYS - said.get(kind, frozenset()) for kind, names in seen.items()}

    assert {kind: names for kind, names in never_filled.items() if names} == {}
    assert {kind: names for kind, names in unsaid.items() if names} == {}


def _places_told(name: str, case: dict[str, Any], payload: Any) -> Iterator[tuple[RecordType, str]]:
    """The places that the payload itself tells: those that are known though the webhook's URL leaves them out."""
    for place in PLACES:
        others = {other: "of-url" for other in PLACES if other != place}
        url = {**case.get("url", {}), **others, place: ""}
        for kind, value in adapted(name, {**case, "url": url}, payload).records:
            if value[place] not in ("other", "unknown", ""):
                yield kind, place


@pytest.mark.parametrize("name", adapters.names())
def test_what_a_source_says_it_fills_are_fields(name: str) -> None:
    source = adapters.load(name)

    assert source.name == name
    for kind, names in source.fills.items():
        assert names <= {f["name"] for f in fields(kind)}.difference(CANONICAL_FIELDS)


@pytest.mark.parametrize("name", adapters.names())
def test_every_status_of_a_source_is_mapped_to_one_of_ours(name: str) -> None:
    ours = set()
    for kind, field in (
        (RecordType.DEPLOYMENT_EVENT, "event_type"),
        (RecordType.SIGNAL, "signal_type"),
        (RecordType.APPROVAL, "approval_type"),
        (RecordType.OBSERVATION, "observation_type"),
    ):
        ours |= set(next(f for f in fields(kind) if f["name"] == field)["type"]["symbols"])

    assert set(adapters.load(name).statuses.values()) <= ours


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def _survives(name: str, payload: Any, headers: dict[str, str]) -> None:
    try:
        found = adapters.load(name).adapt(payload, headers, Defaults(), NOON)
    except AdapterError as error:
        assert str(error)
    else:
        for kind, value in found.records:
            encode(kind, value)


@pytest.mark.parametrize("name", adapters.names())
def test_no_payload_crashes_an_adapter(name: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(json_values)
    def survives(payload: Any) -> None:
        _survives(name, payload, {})

    survives()


@pytest.mark.parametrize("name", adapters.names())
def test_no_change_of_a_real_payload_crashes_an_adapter(name: str) -> None:
    mine = [path for path in cases() if path.parent.name == name]
    known = [(c.get("headers", {}), c["payload"]) for p in mine if "payload" in (c := json.loads(p.read_text("utf-8")))]

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def survives(data: st.DataObject) -> None:
        headers, payload = data.draw(st.sampled_from(known))
        changed = json.loads(json.dumps([payload]))
        for _ in range(data.draw(st.integers(1, 3))):
            node, key = changed, 0
            while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.integers(0, 4)):
                node = node[key]
                key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            node[key] = data.draw(json_values)
        _survives(name, changed[0], headers)

    survives()


@pytest.mark.parametrize(
    ("given", "micros"),
    [
        ("2026-11-02T12:00:00Z", NOON),
        ("2026-11-02T13:00:00.5+01:00", NOON + 500_000),
        ("2026-11-02 13:00:00 +0100", NOON),
        ("2026-11-02 12:00:00 UTC", NOON),
        (NOON // 1_000_000, NOON),
        (str(NOON // 1_000_000), NOON),
        (f"{NOON // 1_000_000}.25", NOON + 250_000),
        (NOON // 1000, NOON),
        (NOON, NOON),
        (NOON * 1000, NOON),
        ("2026-11-02 12:00:00", None),
        ("yesterday", None),
        ("1e400", None),
        ("9" * 400, None),
        (-5, None),
        (True, None),
        (None, None),
    ],
)
def test_instants_are_read_in_every_form_that_sources_use(given: Any, micros: int | None) -> None:
    assert instant({"at": given}, "at") == micros
