"""Policies, legal holds and purges: what is kept how long, who lets it go, and what proves that it went."""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.records import RecordType
from deploytrail_sinks.archive import command
from deploytrail_sinks.archive.acts import FOLDER, read_acts, record_act
from deploytrail_sinks.archive.holds import RELEASED, holds_of
from deploytrail_sinks.archive.holds_in_store import HoldsInStore
from deploytrail_sinks.archive.lengthen_command import Moved, lengthen
from deploytrail_sinks.archive.log.checkpoint import read_checkpoint
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.principals import Principals, Signer, read_principals
from deploytrail_sinks.archive.purge import Stays, look, purge
from deploytrail_sinks.archive.raw_records import Record
from deploytrail_sinks.archive.retention import RetentionClass, read_policy, retain_until
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import LocalFolder, Lock, Terms
from deploytrail_sinks.archive.verify import Flaw, receipts, verify
from support.archive_log import published
from support.values import NOON, event

TOPIC = "deploytrail.events"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
YEAR_2020 = 1_577_836_800_000
ALL = f"{TOPIC}/001"


def value(environment: str) -> bytes:
    return encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON, environment=environment))


VALUES = (value("production"), value("staging"))


def fill(store: LocalFolder, offsets: range, *, since: int = YEAR_2020, policy: str = "") -> None:
    archive = PartitionArchive(store, TOPIC, 1, frozenset(), policy=read_policy(policy))
    archive.resume()
    for offset in offsets:
        archive.add(Record(offset, since + offset, 1, b"k", VALUES[offset % 2], ()))
        if offset % 10 == 9:
            archive.close_segments()
    archive.close_segments()


def flaws(store: LocalFolder, principals: Principals) -> list[Flaw]:
    return verify(store, purged=receipts(store, principals, NOW)).flaws


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Signer]:
    """Three of them, with key files beside."""
    found = {}
    for name in ("ada", "grace", "mallory"):
        key = Ed25519PrivateKey.generate()
        (tmp_path / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        found[name] = Signer(name, key)
    return found


@pytest.fixture
def principals(people: dict[str, Signer]) -> Principals:
    return Principals({name: people[name].key.public_key() for name in ("ada", "grace")})


@pytest.fixture
def store(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "archive")


class TestPolicy:
    @pytest.mark.requirement("M5.5")
    def test_a_class_is_kept_as_long_and_as_firmly_as_its_policy_says(self) -> None:
        policy = read_policy("non-production=30:governance:STANDARD_IA, production=2000")

        assert retain_until(RetentionClass.NON_PRODUCTION, YEAR_2020, policy) == "2020-02-01T00:00:00Z"
        kept = policy[RetentionClass.NON_PRODUCTION]
        assert Terms(kept.lock, kept.tier) == Terms(Lock.GOVERNANCE, "STANDARD_IA")
        assert policy[RetentionClass.REGULATED].days == 7 * 366 + 30

    @pytest.mark.parametrize(
        "text",
        [
            *("production", "production=x", "prod=30", "production=30:firm", "production=0", "production=999999"),
            "production-regulated=2555",
        ],
    )
    def test_what_a_policy_cannot_mean_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_ARCHIVE_RETENTION"):
            read_policy(text)

    def test_a_longer_policy_moves_dates_on_and_a_shorter_one_moves_none(self, store: LocalFolder) -> None:
        fill(store, range(20))
        before = {name: store.retain_until(name) for name in store.list("")}

        assert lengthen(store, read_policy("non-production=10,production=10")) == Moved(0, 0)
        assert lengthen(store, read_policy("non-production=5000")) == Moved(2, 0)
        after = {name: store.retain_until(name) for name in store.list("")}
        assert {name for name in after if after[name] != before[name]} == set(store.list(f"{ALL}/non-production"))
        assert verify(store).flaws == []


class TestActs:
    def test_acts_are_chained_and_signed(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        for number in range(3):
            record_act(store, "noted", {"n": number}, people["ada"], NOW)

        assert [(act.number, act.said["n"], act.verified) for act in read_acts(store, principals)] == [
            (0, 0, True),
            (1, 1, True),
            (2, 2, True),
        ]
        assert verify(store).flaws == []

    def test_who_acts_at_the_same_time_takes_the_next_number(
        self, store: LocalFolder, people: dict[str, Signer]
    ) -> None:
        def act(name: str) -> None:
            for _ in range(5):
                record_act(store, "noted", {}, people[name], NOW)

        threads = [threading.Thread(target=act, args=(name,)) for name in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(act.number for act in read_acts(store)) == list(range(15))
        assert verify(store).flaws == []

    def test_nobody_signs_for_somebody_else(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        record_act(store, "noted", {}, Signer("ada", people["mallory"].key), NOW)
        record_act(store, "noted", {}, people["mallory"], NOW)

        assert [act.verified for act in read_acts(store, principals)] == [False, False]

    def test_one_person_with_two_names_is_refused(self, people: dict[str, Signer]) -> None:
        key = people["ada"].key.public_key()
        with pytest.raises(ConfigurationError, match="the same key"):
            Principals({"ada": key, "grace": key})


class TestCommands:
    @pytest.fixture(autouse=True)
    def settings(self, tmp_path: Path, people: dict[str, Signer], monkeypatch: pytest.MonkeyPatch) -> None:
        keys = {n: s.key.public_key().public_bytes_raw() for n, s in people.items() if n != "mallory"}
        file = tmp_path / "principals.json"
        file.write_text(json.dumps({name: b64encode(raw).decode() for name, raw in keys.items()}))
        monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{tmp_path / 'archive'}")
        monkeypatch.setenv("DEPLOYTRAIL_ARCHIVE_PRINCIPALS", str(file))

    @pytest.fixture
    def ask(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
        def ask(*words: str, by: str = "", key: str = "") -> tuple[int, str]:
            who = ("--as", by, "--key", str(tmp_path / f"{key or by}.pem"), "--reason", "case 17") if by else ()
            code = command.main([*words, *who])
            said = capsys.readouterr()
            return code, said.out + said.err

        return ask

    @pytest.mark.requirement("M5.5")
    def test_a_hold_outlives_dates_and_takes_two_people_to_release(self, ask, store: LocalFolder) -> None:  # type: ignore[no-untyped-def]
        fill(store, range(40))
        assert ask("hold", "add", f"{ALL}/non-production", by="ada") == (0, f"hold-0 is on {ALL}/non-production\n")
        name = next(store.list(f"{ALL}/non-production"))
        assert store.is_held(name)
        assert "stays: " + name + ": hold-0" in ask("purge", ALL, by="grace")[1]
        assert not [n for n in store.list(f"{ALL}/production") if store.is_held(n)]

        assert ask("hold", "release", "hold-0", by="ada")[0] == 0
        code, said = ask("hold", "release", "hold-0", by="ada")
        assert (code, "it takes somebody else too" in said) == (1, True)
        assert ask("hold", "release", "hold-0", by="grace", key="ada")[0] == 78
        assert ask("hold", "release", "hold-0", by="mallory")[0] == 78
        assert store.is_held(name)
        assert "half released" in ask("hold", "list")[1]

        assert ask("hold", "release", "hold-0", by="grace") == (0, "hold-0 is released, by ada and grace\n")
        assert not store.is_held(name)
        assert re.search(r"hold-0  released  .*case 17; release asked for by ada, grace", ask("hold", "list")[1])
        assert "3 segments are gone" in ask("purge", f"{ALL}/non-production", by="ada")[1]
        assert ask("verify")[0] == 0

    def test_a_hold_that_a_command_died_amid_is_told_to_the_store_again(  # type: ignore[no-untyped-def]
        self, ask, store: LocalFolder, people: dict[str, Signer]
    ) -> None:
        fill(store, range(20))
        record_act(store, "hold_added", {"prefix": f"{ALL}/non-production", "reason": "case"}, people["ada"], NOW)
        assert not [name for name in store.list("") if store.is_held(name)]

        assert ask("hold", "sync") == (0, "2 objects are held\n")
        assert [n for n in store.list("") if store.is_held(n)] == list(store.list(f"{ALL}/non-production"))

    def test_a_segment_is_held_though_its_writer_died_before_it_told_the_store(
        self, store: LocalFolder, people: dict[str, Signer]
    ) -> None:
        record_act(store, "hold_added", {"prefix": "", "reason": "case"}, people["ada"], NOW)
        holds = HoldsInStore(store, None)
        for dies in (True, False):

            def created(name: str, dies: bool = dies) -> None:
                if dies:
                    raise RetryLater("the writer died here")
                holds.created(name)

            archive = PartitionArchive(store, TOPIC, 1, frozenset(), on_stored=created)
            archive.resume(0 if dies else None)
            if dies:
                archive.add(Record(0, YEAR_2020, 1, b"k", VALUES[0], ()))
                with pytest.raises(RetryLater):
                    archive.close_segments()

        assert [store.is_held(name) for name in store.list(TOPIC)] == [True]

    def test_archiving_goes_on_where_an_act_cannot_be_read_and_says_so_once(
        self, store: LocalFolder, people: dict[str, Signer], caplog: pytest.LogCaptureFixture
    ) -> None:
        act = record_act(store, "hold_added", {"prefix": "", "reason": "case"}, people["ada"], NOW)
        path = store.folder / f"{FOLDER}/{act.number:020}.avro"
        path.chmod(0o644)
        path.write_bytes(b"broken")
        archive = PartitionArchive(store, TOPIC, 1, frozenset(), on_stored=HoldsInStore(store, None).created)
        archive.resume(0)
        for offset in range(2):
            archive.add(Record(offset, YEAR_2020, 1, b"k", VALUES[0], ()))
            archive.close_segments()

        assert len(list(store.list(TOPIC))) == 2
        assert len([record for record in caplog.records if "legal holds" in record.message]) == 1

    def test_what_two_holds_are_on_stays_until_both_are_released(self, ask, store: LocalFolder) -> None:  # type: ignore[no-untyped-def]
        fill(store, range(20))
        for prefix in (TOPIC, ALL):
            ask("hold", "add", prefix, by="ada")
        for who in ("ada", "grace"):
            ask("hold", "release", "hold-0", by=who)

        assert all(store.is_held(name) for name in store.list(TOPIC))

    def test_a_release_takes_nothing_off_what_only_an_earlier_hold_covered(self, ask, store: LocalFolder) -> None:  # type: ignore[no-untyped-def]
        fill(store, range(20))
        ask("hold", "add", TOPIC, by="ada")
        ask("hold", "add", f"{TOPIC}/nowhere", by="ada")
        for who in ("ada", "grace"):
            ask("hold", "release", "hold-0", by=who)
        own, *others = store.list(TOPIC)
        store.hold(own, True)  # by somebody who asks the store alone
        for who in ("ada", "grace"):
            ask("hold", "release", "hold-1", by=who)

        assert store.is_held(own)
        assert not any(store.is_held(name) for name in others)

    def test_a_dry_run_says_what_would_go_and_nothing_goes(self, ask, store: LocalFolder) -> None:  # type: ignore[no-untyped-def]
        fill(store, range(40))
        before = list(store.list(""))
        code, said = ask("purge", "--dry-run", ALL)

        assert code == 0
        assert said.count("would go: ") == 6
        assert f"stays: {before[-1]}: it is the newest of its sequence" in said
        assert list(store.list("")) == before

    def test_who_acts_must_be_told(self, ask, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(SystemExit):
            ask("purge", ALL)
        monkeypatch.delenv("DEPLOYTRAIL_ARCHIVE_PRINCIPALS")
        assert ask("hold", "list")[0] == 78


class TestPurge:
    @pytest.mark.requirement("M7.2", "M5.5")
    def test_non_production_goes_with_a_receipt_and_production_is_untouched(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        fill(store, range(60))
        production = {name: store.read(name) for name in store.list(f"{ALL}/production")}
        goes = purge(store, f"{ALL}/non-production", "a year is over", people["ada"], principals, NOW).goes

        assert (len(goes), sum(item.records for item in goes)) == (5, 25)
        assert {name: store.read(name) for name in store.list(f"{ALL}/production")} == production
        [receipt] = [act for act in read_acts(store, principals) if act.kind == "purged"]
        assert (receipt.by, receipt.said["reason"], len(receipt.said["segments"])) == ("ada", "a year is over", 5)
        assert flaws(store, principals) == []
        # And the sequence goes on, is purged again, and is whole again.
        fill(store, range(60, 90))
        assert flaws(store, principals) == []
        goes = purge(store, f"{ALL}/non-production", "again", people["ada"], principals, NOW).goes
        assert len(goes) == 3
        assert flaws(store, principals) == []

    def test_what_is_kept_stays_with_all_behind_it(self, store: LocalFolder, principals: Principals) -> None:
        fill(store, range(20))
        fill(store, range(20, 30), since=int(NOW.timestamp() * 1000))
        names = list(store.list(f"{ALL}/non-production"))
        store.lengthen(names[1], "2030-01-01T00:00:00Z")
        found = look(store, f"{ALL}/non-production", principals, NOW)

        assert [gone.name for gone in found.goes] == [names[0]]
        assert found.stays == [Stays(names[1], "it is kept until 2030-01-01T00:00:00Z")]

    @pytest.mark.parametrize("deleted", range(6))
    def test_a_purge_that_died_is_brought_to_its_end(
        self, deleted: int, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        fill(store, range(60))

        class Dying(LocalFolder):
            left = deleted

            def delete(self, name: str, now: datetime) -> None:
                if not self.left:
                    raise RetryLater("the process died here")
                self.left -= 1
                super().delete(name, now)

        try:
            purge(Dying(store.folder), f"{ALL}/non-production", "over", people["ada"], principals, NOW)
        except RetryLater:
            assert flaws(store, principals) == []
        purge(store, f"{ALL}/non-production", "over", people["grace"], principals, NOW)

        assert len(list(store.list(f"{ALL}/non-production"))) == 1
        assert len([act for act in read_acts(store) if act.kind == "purged"]) == 1
        assert flaws(store, principals) == []

    def test_a_receipt_of_nobody_excuses_nothing(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        fill(store, range(40))
        trusting = Principals({"mallory": people["mallory"].key.public_key()})
        purge(store, f"{ALL}/production", "to hide something", people["mallory"], trusting, NOW)

        assert [flaw.name for flaw in flaws(store, principals)]

    def test_a_receipt_excuses_nothing_but_what_it_names(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        fill(store, range(60))
        purge(store, f"{ALL}/non-production", "over", people["ada"], principals, NOW)
        first = next(store.list(f"{ALL}/production"))
        (store.folder / first).unlink()

        assert flaws(store, principals)

    @pytest.mark.requirement("M7.2", "M5.5")
    def test_the_log_stays_whole_and_proves_what_stayed_and_the_receipt(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals, tmp_path: Path
    ) -> None:
        fill(store, range(60))
        log = published(tmp_path / "signer", store)
        before = read_checkpoint(log.publish())  # kept elsewhere
        goes = purge(store, f"{ALL}/non-production", "over", people["ada"], principals, NOW).goes
        fill(store, range(60, 70))
        log.publish()
        report, of_log = log.check(principals=principals)

        assert (len(goes), report.flaws) == (5, [])
        assert of_log is not None and of_log.uncovered_segments == 0  # the receipt is entered too
        assert log.check(since=before, principals=principals)[0].flaws == []
        (store.folder / next(store.list(f"{ALL}/production"))).unlink()
        assert log.check(principals=principals)[0].flaws

    @pytest.mark.requirement("M7.2")
    def test_what_no_checkpoint_covers_yet_stays(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals, tmp_path: Path
    ) -> None:
        fill(store, range(20))
        log = published(tmp_path / "signer", store)
        fill(store, range(20, 60))
        below = f"{ALL}/non-production"
        found = purge(store, below, "over", people["ada"], principals, NOW)

        assert (len(found.goes), found.stays[0].why) == (2, "no published checkpoint of the log covers it yet")
        log.publish()
        found = purge(store, below, "over", people["ada"], principals, NOW)
        assert (len(found.goes), found.stays[0].why) == (3, "it is the newest of its sequence")
        log.publish()
        assert log.check(principals=principals)[0].flaws == []

    def test_a_forged_release_leaves_the_hold(
        self, store: LocalFolder, people: dict[str, Signer], principals: Principals
    ) -> None:
        record_act(store, "hold_added", {"prefix": ALL, "reason": "case"}, people["mallory"], NOW)
        forged = Signer("grace", people["ada"].key)
        for signer in (people["ada"], forged, people["mallory"]):
            record_act(store, RELEASED, {"hold": "hold-0"}, signer, NOW)
        [hold] = holds_of(read_acts(store, principals)).values()

        assert (hold.state, hold.released_by) == ("half released", ("ada",))
        assert read_segment(store.read(f"{FOLDER}/{0:020}.avro")).records[0].headers[0][0] == "signature"


def test_principals_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    for text in ("", "[]", '{"ada": "short"}', '{"ada": 1}'):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_ARCHIVE_PRINCIPALS"):
            read_principals(tmp_path / "p.json")
