"""`deploytrail archive hold add|release|list|sync`: what may not be purged, and who let it go."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from deploytrail_schemas.arguments import Parser

from deploytrail_sinks.archive.acting import EXIT_REFUSED, Desk, add_actor, at_desk, signer_of
from deploytrail_sinks.archive.acts import read_acts, record_act
from deploytrail_sinks.archive.holds import ADDED, NEEDED, RELEASED, Hold, holds_of, name_of
from deploytrail_sinks.archive.holds_in_store import HoldsInStore


def main(argv: list[str]) -> int:
    """Exit code 0 done, 1 refused, 69 the store is away, 78 a setting or a key is wrong."""
    parser = Parser(prog="deploytrail archive hold", description="Legal holds on the archive.")
    words = parser.add_subparsers(dest="word", required=True)
    add = words.add_parser("add", help="let nothing below a prefix be purged")
    add.add_argument("prefix", metavar="PREFIX", help="a topic, partition, class or object; all of it: ''")
    add_actor(add)
    release = words.add_parser("release", help="ask for the release of a hold; it ends once two principals have")
    release.add_argument("hold", metavar="HOLD")
    add_actor(release)
    shown = words.add_parser("list", help="every hold, with who added it and who asked for its release")
    shown.add_argument("--json", action="store_true")
    words.add_parser("sync", help="tell the store of all of them again, as after a command that died")
    options = parser.parse_args(argv)
    return at_desk(lambda desk: _WORDS[options.word](desk, options))


def _add(desk: Desk, options: argparse.Namespace) -> int:
    prefix = options.prefix.strip("/")
    said = {"prefix": prefix, "reason": options.reason}
    act = record_act(desk.store, ADDED, said, signer_of(desk, options), desk.now)
    HoldsInStore(desk.store, desk.principals).put_on()
    print(f"{name_of(act)} is on {prefix or 'everything'}")
    return 0


def _release(desk: Desk, options: argparse.Namespace) -> int:
    signer, before = signer_of(desk, options), _holds(desk).get(options.hold)
    why = ""
    if before is None:
        why = f"there is no hold {options.hold}"
    elif not before.is_active:
        why = f"{before.name} is released"
    elif signer.name in before.released_by:
        why = f"{signer.name} has asked for the release of {before.name} already; it takes somebody else too"
    if why:
        sys.stderr.write(f"deploytrail archive: {why}\n")
        return EXIT_REFUSED
    record_act(desk.store, RELEASED, {"hold": options.hold, "reason": options.reason}, signer, desk.now)
    hold = _holds(desk)[options.hold]
    if hold.is_active:
        print(f"{hold.name} still holds: {len(hold.released_by)} of {NEEDED} principals asked for its release")
        return 0
    HoldsInStore(desk.store, desk.principals).take_off(hold)
    print(f"{hold.name} is released, by {' and '.join(hold.released_by)}")
    return 0


def _list(desk: Desk, options: argparse.Namespace) -> int:
    for hold in _holds(desk).values():
        if options.json:
            print(json.dumps({**asdict(hold), "state": hold.state}, ensure_ascii=False))
        else:
            asked = f"; release asked for by {', '.join(hold.released_by)}" if hold.released_by else ""
            print(f"{hold.name}  {hold.state}  {hold.prefix or '(all)'}  {hold.by} {hold.at}: {hold.reason}{asked}")
    return 0


def _holds(desk: Desk) -> dict[str, Hold]:
    return holds_of(read_acts(desk.store, desk.principals))


def _sync(desk: Desk, _: argparse.Namespace) -> int:
    told = HoldsInStore(desk.store, desk.principals)
    told.take_off()
    print(f"{told.put_on()} objects are held")
    return 0


_WORDS = {"add": _add, "release": _release, "list": _list, "sync": _sync}
