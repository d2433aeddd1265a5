"""A purge raises the log's minimum index: entries that nothing kept is of go, and every proof stays valid."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.registry import SingleObject
from deploytrail_sinks.archive import purge_command
from deploytrail_sinks.archive.acting import Desk
from deploytrail_sinks.archive.acts import TOPIC as ACTS
from deploytrail_sinks.archive.acts import read_acts, record_act
from deploytrail_sinks.archive.holds import ADDED
from deploytrail_sinks.archive.lengthen_command import lengthen
from deploytrail_sinks.archive.log import verify_proof
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.consistency import consistent
from deploytrail_sinks.archive.log.names import bundle_of, tile_name
from deploytrail_sinks.archive.log.plan import read_plan
from deploytrail_sinks.archive.log.prove import prove, write_bundle
from deploytrail_sinks.archive.purge import look, purge
from deploytrail_sinks.archive.receipts import PURGED, judge
from deploytrail_sinks.archive.retention import DEFAULT_POLICY
from deploytrail_sinks.archive.segment import is_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import TOPIC, Killed, Published, fill, published
from support.archive_pruned import (
    ADA,
    GRACE,
    IN_EIGHT_YEARS,
    IN_FOUR_YEARS,
    KEPT_SHOP,
    LIVE,
    MINIMUM,
    MUCH_LATER,
    PRINCIPALS,
    DyingInTheLog,
    bundles_of,
    fill_live,
    kept_checkpoints,
    look_at,
    pruned,
    receipts_of,
)


def is_proven(store: LocalFolder, log: Published, tmp_path: Path, bundle: dict[str, Any] | None = None) -> bool:
    """Whether an auditor's file says so, of a proof that is made now or was made before."""
    (tmp_path / "trust").write_text(log.trust_text)
    (tmp_path / "bundle").write_text(write_bundle(bundle or prove(store, KEPT_SHOP, SingleObject())[0]))
    return verify_proof.main([str(tmp_path / "bundle"), "--trust", str(tmp_path / "trust")]) == 0


@pytest.mark.requirement("M5.5", "M7.1")
def test_a_purge_raises_the_minimum_index_and_takes_entries_and_nothing_else_of_the_log(
    store: LocalFolder, log: Published
) -> None:
    before = {name: store.read(name) for name in store.list("log")}
    ends = bundles_of(store)
    found = pruned(log)
    log.publish()

    went = {name for name in before if name not in set(store.list("log"))}
    assert (
        went == {name for name, end in ends.items() if (end + 255) // 256 * 256 <= MINIMUM} == {*found.of_log.objects}
    )
    assert found.of_log.minimum == MINIMUM
    assert found.of_log.ends_at.startswith(f"{LIVE}/")
    assert receipts_of(store) == [MINIMUM]
    sizes = sum(len(before[name]) for name in before if "/tile/" in name), sum(len(before[name]) for name in went)
    assert sizes[1] > sizes[0] / 2
    report, of_log = look_at(store, log)
    assert (report.flaws, of_log.minimum_index, of_log.uncovered_segments) == ([], MINIMUM, 0)
    assert report.purged == len(found.goes) > 10


@pytest.mark.requirement("M5.5")
def test_proofs_made_before_and_behind_a_purge_are_true(store: LocalFolder, log: Published, tmp_path: Path) -> None:
    before = prove(store, KEPT_SHOP, SingleObject())[0]
    of_purged = prove(store, "shop-3", SingleObject())[0]
    old = kept_checkpoints(store)
    pruned(log)
    log.publish()

    assert is_proven(store, log, tmp_path)
    assert is_proven(store, log, tmp_path, before)
    assert is_proven(store, log, tmp_path, of_purged)  # whoever kept it
    new = kept_checkpoints(store)[-1]
    assert [consistent(store.read, one, new) for one in old if one.size < MINIMUM]
    for one in old:
        consistent(store.read, one, new)


@pytest.mark.requirement("M5.1", "M5.5")
def test_the_log_follows_from_every_kept_checkpoint_and_is_whole_since_each(
    store: LocalFolder, log: Published, tmp_path: Path
) -> None:
    pruned(log)
    log.publish()
    for since in kept_checkpoints(store):
        assert look_at(store, log, since)[0].flaws == []
    asked = Asked(
        log.trust, log.trust.sequencers, against=kept_checkpoints(store), principals=PRINCIPALS, now=IN_EIGHT_YEARS
    )
    assert verify_archive(store, asked)[0].flaws == []
    # A sequencer and a signer that begin anew go on behind it.
    fill_live(store, range(950, 1300))
    again = published(tmp_path / "signer", store)
    assert look_at(store, again)[0].flaws == []
    assert is_proven(store, again, tmp_path)


@pytest.mark.requirement("M5.5")
def test_what_is_past_its_date_and_stays_holds_up_nothing_and_is_checked_all_the_same(
    store: LocalFolder, log: Published
) -> None:
    pruned(log)
    log.publish()
    newest = [name for name in store.list(f"{TOPIC}/003") if is_segment(name)]  # nobody writes there any more
    plans = [read_plan(store.read(name)) for name in store.list("log/batches")]
    index = {planned.name: at for plan in plans for at, planned in plan.first_entries()}

    assert [index[name] < MINIMUM for name in newest] == [True, True, True]
    for name in newest:
        data = store.read(name)
        (store.folder / name).unlink()
        assert name in {flaw.name for flaw in look_at(store, log)[0].flaws}
        (store.folder / name).write_bytes(data)
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5", "M7.1")
def test_the_dates_of_the_logs_own_objects_decide(store: LocalFolder, log: Published) -> None:
    before, later = list(store.list("log")), IN_EIGHT_YEARS + timedelta(days=10)
    store.lengthen(tile_name("entries", 0), later.isoformat())
    found = pruned(log)
    assert len(found.goes) > 10
    assert (found.of_log.minimum, found.of_log.objects) == (0, ())
    assert found.of_log.ends_at == f"{tile_name('entries', 0)}: it is kept until {later.isoformat()}"
    assert receipts_of(store) == [None]
    assert list(store.list("log")) == before

    log.publish()
    store.lengthen(tile_name("entries", 2), "2090-01-01T00:00:00Z")
    found = pruned(log, later)
    assert (found.of_log.minimum, receipts_of(store)) == (512, [None, 512])
    assert found.of_log.ends_at == f"{tile_name('entries', 2)}: it is kept until 2090-01-01T00:00:00Z"
    log.publish()
    assert look_at(store, log)[0].flaws == []
    store.hold(tile_name("entries", 2), True)
    assert pruned(log, later).goes == []
    assert receipts_of(store) == [None, 512]


@pytest.mark.requirement("M5.5")
def test_a_hold_on_records_keeps_their_entries(store: LocalFolder, log: Published) -> None:
    record_act(store, ADDED, {"prefix": f"{TOPIC}/003", "reason": "case 7"}, GRACE, IN_FOUR_YEARS)
    log.publish()
    found = pruned(log)

    assert found.of_log.ends_at.startswith(f"{TOPIC}/003/") and "hold-0" in found.of_log.ends_at
    assert found.of_log.minimum < MINIMUM
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5")
def test_an_act_is_made_again_of_itself_below_the_minimum_index_and_stays(store: LocalFolder, log: Published) -> None:
    purge(store, f"{TOPIC}/003", "over", ADA, PRINCIPALS, IN_FOUR_YEARS)
    log.publish()
    pruned(log)  # the live records come before the act
    fill_live(store, range(950, 1300))
    log.publish()
    found = purge(store, "", "over", ADA, PRINCIPALS, MUCH_LATER)
    log.publish()
    plans = [read_plan(store.read(name)) for name in store.list("log/batches")]
    index = {planned.name: at for plan in plans for at, planned in plan.first_entries()}

    acts = list(store.list(ACTS))
    assert found.of_log.minimum > MINIMUM
    assert [index[name] < found.of_log.minimum for name in acts] == [True, True, False]
    asked = Asked(log.trust, log.trust.sequencers, principals=PRINCIPALS, now=MUCH_LATER)
    assert verify_archive(store, asked)[0].flaws == []
    data = store.read(acts[0])
    (store.folder / acts[0]).unlink()
    assert {flaw.name for flaw in verify_archive(store, asked)[0].flaws} >= {acts[0]}
    (store.folder / acts[0]).write_bytes(data)


@pytest.mark.requirement("M5.5")
@pytest.mark.parametrize("left", range(4))
def test_a_purge_that_died_behind_its_receipt_is_whole_and_the_next_one_ends_it(
    left: int, store: LocalFolder, log: Published
) -> None:
    ends = bundles_of(store)
    dying = DyingInTheLog(store.folder)
    dying.left = left
    with pytest.raises(Killed):
        purge(dying, "", "over", ADA, PRINCIPALS, IN_EIGHT_YEARS)
    assert len(bundles_of(store)) == len(ends) - left
    log.publish()
    assert look_at(store, log)[0].flaws == []
    for since in kept_checkpoints(store):
        assert look_at(store, log, since)[0].flaws == []
    purge(store, "", "over", GRACE, PRINCIPALS, IN_EIGHT_YEARS)

    assert min(bundles_of(store).values()) > MINIMUM
    assert receipts_of(store) == [MINIMUM]
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5")
def test_what_was_kept_longer_since_its_receipt_stays_and_ends_no_purge(store: LocalFolder, log: Published) -> None:
    dying = DyingInTheLog(store.folder)
    with pytest.raises(Killed):
        purge(dying, "", "over", ADA, PRINCIPALS, IN_EIGHT_YEARS)
    for name in list(store.list(tile_name("entries", 2) + ".p")):
        store.lengthen(name, "2090-01-01T00:00:00Z")
    pruned(log)
    log.publish()

    assert {name for name, end in bundles_of(store).items() if end <= MINIMUM} == {
        tile_name("entries", 2),
        *store.list(tile_name("entries", 2) + ".p"),
    }
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5")
def test_a_receipt_that_does_not_say_gaps_holds_up_the_minimum_index(store: LocalFolder, log: Published) -> None:
    """As receipts were written before there was a minimum index."""
    found = look(store, f"{TOPIC}/003", PRINCIPALS, IN_FOUR_YEARS)
    assert [gone.gaps for gone in found.goes if gone.gaps]
    segments = [
        {
            "name": gone.name,
            "sha256": gone.sha256,
            "version": "",
            "first_offset": str(gone.first_offset),
            "last_offset": str(gone.last_offset),
            "records": gone.records,
            "retain_until": gone.retain_until,
        }
        for gone in found.goes
    ]
    record_act(store, PURGED, {"prefix": "", "reason": "over", "segments": segments}, ADA, IN_FOUR_YEARS)
    found = pruned(log)
    log.publish()

    assert found.of_log.minimum < MINIMUM
    assert "does not say which gaps" in found.of_log.ends_at
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5")
def test_lengthen_keeps_entries_as_long_as_what_they_are_of_and_the_rest_of_the_log_as_the_longest(
    store: LocalFolder, log: Published
) -> None:
    purge(store, f"{TOPIC}/001", "over", ADA, PRINCIPALS, IN_FOUR_YEARS)
    log.publish()
    before = {name: store.retain_until(name) for name in bundles_of(store)}
    lengthen(store, DEFAULT_POLICY)
    longest = max(store.retain_until(name) or "" for name in store.list("") if is_segment(name))

    assert {store.retain_until(name) for name in store.list("log/tile/0")} == {longest}
    assert store.retain_until(tile_name("entries", 0)) == before[tile_name("entries", 0)] != longest
    live = [name for name, end in bundles_of(store).items() if end > MINIMUM]
    assert {store.retain_until(name) for name in live} == {longest}
    assert pruned(log).of_log.minimum == MINIMUM
    assert look_at(store, log)[0].flaws == []


@pytest.mark.requirement("M5.5")
def test_the_command_says_what_of_the_log_would_go_and_went_and_verify_says_the_number(
    store: LocalFolder,
    log: Published,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    desk = Desk(store, PRINCIPALS, IN_EIGHT_YEARS)
    monkeypatch.setattr(purge_command, "at_desk", lambda act: act(desk))
    monkeypatch.setattr(purge_command, "signer_of", lambda *_: ADA)
    before = list(store.list(""))
    assert purge_command.main(["--dry-run"]) == 0
    would = capsys.readouterr().out
    assert list(store.list("")) == before
    assert purge_command.main(["--as", "ada", "--key", "k", "--reason", "over"]) == 0
    did = capsys.readouterr().out

    assert f"would go: entries of the log before index {MINIMUM} (" in would
    assert f"stays: entries of the log from index {MINIMUM} on: {LIVE}/" in would
    assert did == would.replace("would go:", "gone:").replace(" would go\n", " are gone\n")
    report, of_log = look_at(store, log)
    assert json.loads(json.dumps(asdict(of_log)))["minimum_index"] == MINIMUM
    assert report.flaws == []


def test_receipts_only_raise_it(store: LocalFolder) -> None:
    for index in (512, 256, 0, -256, True, "768", None, 10.5):
        said = {"prefix": "", "reason": "", "segments": []} | ({} if index is None else {"minimum_index": index})
        if not isinstance(index, float):
            record_act(store, PURGED, said, ADA, IN_FOUR_YEARS)

    assert judge(read_acts(store, PRINCIPALS), IN_EIGHT_YEARS).minimum.index == 512


def test_nothing_of_the_log_goes_where_there_is_none(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path / "bare")
    fill(store, range(20))
    found = purge(store, "", "over", ADA, PRINCIPALS, IN_EIGHT_YEARS)

    assert (len(found.goes), found.of_log.minimum, found.of_log.ends_at) == (2, 0, "")


@pytest.mark.parametrize(
    ("name", "bundle"),
    [
        ("log/tile/entries/000", (0, 256)),
        ("log/tile/entries/x001/x234/067.p/5", (1_234_067, 5)),
        ("log/tile/entries/x000/067", None),
        ("log/tile/entries/067.p/256", None),
        ("log/tile/entries/067.p/05", None),
        ("log/tile/0/067", None),
    ],
)
def test_bundles_are_known_by_their_names(name: str, bundle: tuple[int, int] | None) -> None:
    assert bundle_of(name) == bundle
