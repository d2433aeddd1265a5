"""An archive most of whose records are past their dates, and its log: a purge raises the log's minimum index."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deploytrail_sinks.archive.acts import read_acts
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.checkpoint import Checkpoint, open_checkpoint
from deploytrail_sinks.archive.log.names import bundle_of
from deploytrail_sinks.archive.log.report import LogReport
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.principals import Principals, Signer
from deploytrail_sinks.archive.purge import Found, purge
from deploytrail_sinks.archive.receipts import PURGED
from deploytrail_sinks.archive.segment import Record
from deploytrail_sinks.archive.store import LocalFolder, ObjectStore
from deploytrail_sinks.archive.verify import Report

from support.archive_log import NOW, TOPIC, Killed, Published, fill, published, record, value

BEGIN = datetime.fromtimestamp(NOW, UTC)
IN_FOUR_YEARS, IN_EIGHT_YEARS = BEGIN + timedelta(days=4 * 366), BEGIN + timedelta(days=8 * 366)
MUCH_LATER = datetime(2062, 1, 1, tzinfo=UTC)  # when all of it is over
ADA, GRACE, NOBODY = (Signer(name, Ed25519PrivateKey.generate()) for name in ("ada", "grace", "nobody"))
PRINCIPALS = Principals({one.name: one.key.public_key() for one in (ADA, GRACE)})
LIVE = f"{TOPIC}/002"  # its records are a month old in eight years
KEPT_SHOP = "shop-180"  # a deployment of them
MINIMUM = 768


def build(folder: Path, store: ObjectStore | None = None) -> Published:
    """Three checkpoints; records, one gap among them, that are over in four years; then some that are not in eight.

    In a folder, where no store is given; the signer's memory is in the folder."""
    store = store or LocalFolder(folder / "archive")
    fill(store, range(600), every=100)
    lossy = PartitionArchive(store, TOPIC, 3, frozenset())
    lossy.resume(0)
    for offset in (*range(5), *range(9, 12), *range(15, 25)):
        lossy.add(record(offset))
        if offset == 19:
            lossy.close_segments()
    lossy.close_segments()
    log = published(folder / "signer", store)
    fill(store, range(600, 900), every=100)
    log.publish()
    fill_live(store, range(900, 950))
    log.publish()
    return log


def fill_live(store: ObjectStore, offsets: range) -> None:
    """Records of a month before the eight years are over."""
    at = int((IN_EIGHT_YEARS - timedelta(days=30)).timestamp() * 1000)
    archive = PartitionArchive(store, TOPIC, 2, frozenset())
    archive.resume(offsets.start)
    for offset in offsets:
        archive.add(Record(offset, at + offset, 1, b"k", value(offset), ()))
    archive.close_segments()


def copy_of(folder: Path, to: Path) -> Published:
    """What was built there, to work on."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return published(to / "signer", LocalFolder(to / "archive"))


def pruned(log: Published, now: datetime = IN_EIGHT_YEARS) -> Found:
    """A purge of all that may go."""
    return purge(log.store, "", "over", ADA, PRINCIPALS, now)


def look_at(
    store: ObjectStore, log: Published, since: Checkpoint | None = None, principals: Principals | None = PRINCIPALS
) -> tuple[Report, LogReport]:
    """What `verify` finds in eight years."""
    asked = Asked(log.trust, log.trust.sequencers, since, principals=principals, now=IN_EIGHT_YEARS)
    report, of_log = verify_archive(store, asked)
    assert of_log is not None
    return report, of_log


def kept_checkpoints(store: ObjectStore) -> list[Checkpoint]:
    """Every checkpoint that was published, the oldest first."""
    return [open_checkpoint(store.read(name))[0] for name in store.list("log/checkpoints")]


def bundles_of(store: ObjectStore) -> dict[str, int]:
    """Each object that has entries, and the index behind its last."""
    found = {name: bundle_of(name) for name in store.list("log/tile/entries")}
    return {name: at[0] * 256 + at[1] for name, at in found.items() if at is not None}


def receipts_of(store: ObjectStore) -> list[int | None]:
    """What each receipt says the minimum index is."""
    return [act.said.get("minimum_index") for act in read_acts(store) if act.kind == PURGED]


class DyingInTheLog(LocalFolder):
    """Killed before it deletes one more object of the log."""

    left = 0

    def delete(self, name: str, now: datetime) -> None:
        if bundle_of(name):
            if not self.left:
                raise Killed
            self.left -= 1
        super().delete(name, now)
