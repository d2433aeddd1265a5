"""Policies of the kind `retention` in the archive: class, days, lock and tier, never less than the setting says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.instants import LATEST
from deploytrail_schemas.policies import SHARED, document
from deploytrail_schemas.policies.in_force import InForce, Versions
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.archive.lengthen_command import Moved, lengthen, main
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.raw_records import Record
from deploytrail_sinks.archive.retention import DEFAULT_POLICY, Judge, Keep, RetentionClass, read_policy
from deploytrail_sinks.archive.store import LocalFolder, Lock, Terms, firmer
from deploytrail_sinks.archive.verify import verify
from support.values import NOON, event

REGULATED, PRODUCTION, OTHER = RetentionClass
YEAR_2020 = 1_577_836_800_000
TOPIC = "deploytrail.events"


def retention(name: str = "sox", **spec: Any) -> dict[str, Any]:
    return {"kind": "retention", "name": name, "spec": {"class": "production", "days": 4000} | spec}


def policies(*documents: dict[str, Any]) -> InForce:
    read = [document.read(one, SHARED) for one in documents]
    assert [problem for one in read for problem in one.problems] == []
    return Versions().with_documents(read).at(LATEST)


def value(**fields: Any) -> bytes:
    return encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, **fields))


def judged(record: bytes, *documents: dict[str, Any], regulated: frozenset[str] = frozenset()) -> tuple[str, int]:
    kept, asked = Judge(regulated).judge(record, policies(*documents))
    return kept.value, asked.days if asked is not None else 0


SHOP = {"kind": "service", "name": "shop", "spec": {"team": "web", "tier": "1", "regimes": ["sox"], "aliases": ["shp"]}}
LIVE = {"kind": "environment", "name": "live-eu", "spec": {"production": True, "aliases": ["blue", "green"]}}


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize(
    ("record", "documents", "expected"),
    [
        (value(), [], ("production", 0)),
        (value(), [retention()], ("production", 4000)),
        (value(), [retention(), retention("longer", days=5000)], ("production", 5000)),
        (value(environment="staging"), [retention(scope={"environments": ["production"]})], ("non-production", 0)),
        (value(environment="staging"), [retention()], ("production", 4000)),  # lifted
        (value(), [retention(**{"class": "non-production"})], ("production", 4000)),  # and never lowered
        (value(), [retention(regimes=["sox"])], ("production", 0)),
        (value(), [SHOP, retention(regimes=["sox"])], ("production", 4000)),
        (value(), [SHOP, retention(scope={"teams": ["web"], "tiers": ["1"]})], ("production", 4000)),
        (value(service="shp"), [SHOP, retention(regimes=["sox"])], ("production", 4000)),  # as it was reported
        (value(kind="hotfix"), [retention(scope={"kinds": ["hotfix"]})], ("production", 4000)),
        (value(kind="release"), [retention(scope={"kinds": ["hotfix"]})], ("production", 0)),
        (value(service="Checkout"), [retention(scope={"services": ["Checkout"]})], ("production", 4000)),
        (value(environment=" Production "), [retention(scope={"services": ["ledger"]})], ("production", 0)),
        (value(environment="live-eu"), [], ("non-production", 0)),
        (value(environment="live-eu"), [LIVE], ("production", 0)),
        (value(environment="green"), [LIVE], ("production", 0)),
        # A scope means what is recorded of its names, and what is not recorded yet is read as it will be.
        (value(environment="PROD"), [retention(scope={"environments": ["production"]})], ("production", 4000)),
        (value(), [retention(scope={"environments": ["prod"]})], ("production", 4000)),
        (value(environment="blue"), [LIVE, retention(scope={"environments": ["green"]})], ("production", 4000)),
        (value(service="shp"), [SHOP, retention(scope={"services": ["SHP"]})], ("production", 4000)),
        (b"no record at all", [retention()], ("production", 0)),
    ],
)
def test_a_policy_says_class_and_days_of_a_record(
    record: bytes, documents: list[dict[str, Any]], expected: tuple[str, int]
) -> None:
    assert judged(record, *documents) == expected


def test_a_regulated_service_stays_regulated_by_whatever_name() -> None:
    known = frozenset({"shop"})

    assert judged(value(), retention(), regulated=known) == ("production-regulated", 4000)
    assert judged(value(service="shp"), SHOP, regulated=known)[0] == "production-regulated"
    assert judged(value(service="Shop"), regulated=known)[0] == "production-regulated"
    checkout = {"kind": "service", "name": "Checkout", "spec": {"aliases": ["Chk"]}}
    assert judged(value(service="Chk"), checkout, regulated=frozenset({"checkout"}))[0] == "production-regulated"


def test_what_a_policy_asks_is_only_ever_longer_and_firmer_than_the_setting() -> None:
    usual = Keep(100, Lock.GOVERNANCE, "STANDARD")

    assert usual.and_more(None) == usual
    assert usual.and_more(Keep(50, tier="GLACIER_IR", at_least=Lock.COMPLIANCE)) == Keep(
        100, Lock.GOVERNANCE, "STANDARD", Lock.COMPLIANCE
    )
    assert usual.and_more(Keep(200, tier="GLACIER_IR")) == Keep(200, Lock.GOVERNANCE, "GLACIER_IR")
    assert usual.and_more(Keep(200)).and_more(Keep(150, tier="X")).terms == Terms(Lock.GOVERNANCE, "STANDARD")
    assert [firmer(Lock.COMPLIANCE, one) for one in Lock] == [Lock.COMPLIANCE] * 3
    assert firmer(Lock.NONE, Lock.GOVERNANCE) is Lock.GOVERNANCE


def archive(store: LocalFolder, versions: Versions, records: list[tuple[int, bytes]]) -> None:
    """Records of days after 2020-01-01, a segment each."""
    made = PartitionArchive(store, TOPIC, 1, frozenset(), policies_at=versions.at)
    made.resume()
    for offset, (day, given) in enumerate(records):
        made.add(Record(offset, YEAR_2020 + day * 86_400_000, 1, b"k", given, ()))
        made.close_segments()


def kept(store: LocalFolder) -> dict[str, tuple[str | None, str]]:
    found = {}
    for name in store.list(TOPIC):
        beside = json.loads((store.folder / f"{name}.retain").read_text())
        found["/".join(name.split("/")[2:])] = (beside["retain_until"], beside.get("lock", ""))
    return found


@pytest.fixture
def store(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "archive")


def versions(*documents: dict[str, Any]) -> Versions:
    return Versions().with_documents(document.read(one, SHARED) for one in documents)


@pytest.mark.requirement("M5.5")
def test_a_segment_is_kept_as_the_policy_of_its_records_time_says(store: LocalFolder) -> None:
    later = retention(lock="compliance") | {"effective_from": "2020-01-05T00:00:00Z"}
    archive(store, versions(later), [(0, value()), (9, value()), (9, value(environment="staging"))])

    assert kept(store) == {
        "production/00000000000000000000.avro": ("2023-01-04T00:00:00Z", ""),  # 3 * 366 days and one behind the first
        "production/00000000000000000001.avro": ("2030-12-24T00:00:00Z", "compliance"),  # 4000 and one, of the tenth
        "production/00000000000000000002.avro": ("2030-12-24T00:00:00Z", "compliance"),
    }
    assert verify(store).flaws == []


def test_what_a_segment_was_asked_to_be_is_not_asked_of_the_next(store: LocalFolder) -> None:
    only = retention(scope={"services": ["ledger"]})
    archive(store, versions(only), [(0, value(service="ledger")), (0, value())])

    assert [until for until, _ in kept(store).values()] == ["2030-12-15T00:00:00Z", "2023-01-04T00:00:00Z"]


@pytest.mark.requirement("M5.5")
def test_lengthen_reads_policies_from_the_archive_and_shortens_nothing(store: LocalFolder) -> None:
    archive(store, versions(retention(days=3000)), [(0, value()), (0, value(service="ledger"))])
    assert lengthen(store, DEFAULT_POLICY) == Moved(0, 0)
    documents = PartitionArchive(store, "deploytrail.policies", 0, frozenset(), compacted=True)
    documents.resume()
    for offset, one in enumerate([retention(days=10), retention("ledger", scope={"services": ["ledger"]})]):
        key = f"retention/{one['name']}/1".encode()
        documents.add(Record(offset, YEAR_2020, 1, key, json.dumps(one).encode(), ()))
    documents.close_segments()
    before = kept(store)

    assert lengthen(store, DEFAULT_POLICY) == Moved(1, 0)
    assert lengthen(store, DEFAULT_POLICY) == Moved(0, 0)
    assert [until for until, _ in kept(store).values()] == ["2028-03-20T00:00:00Z", "2030-12-15T00:00:00Z"]
    assert [until for until, _ in before.values()] == ["2028-03-20T00:00:00Z"] * 2
    assert lengthen(store, read_policy("production=5000")) == Moved(3, 0)  # the policies are of this class, too
    assert verify(store).flaws == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("DEPLOYTRAIL_ARCHIVE", "ftp://archive", 78),
        ("DEPLOYTRAIL_ARCHIVE_RETENTION", "production=soon", 78),
        ("DEPLOYTRAIL_ARCHIVE", "file:{folder}", 69),
    ],
)
def test_lengthen_tells_a_wrong_setting_from_a_store_that_is_away(
    name: str, value: str, code: int, store: LocalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.folder / TOPIC).mkdir(parents=True)
    (store.folder / TOPIC / "broken.avro").write_bytes(b"broken")
    monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{store.folder}")
    monkeypatch.setenv(name, value.format(folder=store.folder))

    assert main([]) == code
