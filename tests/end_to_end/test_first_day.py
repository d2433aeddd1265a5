"""A company's first day on the whole real stack: what was planted is found, and no hop loses a record.

The day is played once, by `deploytrail demo` itself; each test looks at one promise.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deploytrail_local import demo, demo_kafka, demo_payloads
from deploytrail_local.demo_day import FirstDay
from deploytrail_local.demo_payloads import Answer, Posting
from deploytrail_local.demo_summary import Row, Summary
from deploytrail_local.java import find_java
from deploytrail_schemas.errors import MissingDependencyError
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from support.commands import users_of

pytestmark = pytest.mark.timeout(900)

SEED = 11


class Day(FirstDay):
    """The demo's day, with real payloads posted besides its own; what the trail holds in the end is kept."""

    def __init__(self, fixtures: Path | None, settings: Settings, *rest: Any, **named: Any) -> None:
        super().__init__(settings, *rest, **named)
        self.real = _real_payloads(fixtures, settings) if fixtures else []
        self.again = next((p for p in self.real if p.name == "github/deployment/payload.json"), None)
        self.trail: frozenset[str] = frozenset()

    def play(self, more: Sequence[Posting] = ()) -> Summary:
        summary = super().play([*more, *self.real, *filter(None, [self.again])])
        self.trail = frozenset(i for ids in demo_kafka.ids_in(self.settings, Topic.EVENTS).values() for i in ids)
        return summary


@dataclass(frozen=True)
class Played:
    """The day after it was played: what the demo said, and how it ended."""

    day: Day
    said: str
    code: int
    home: Path
    caller: Path

    def row(self, what: str) -> Row:
        """The summary's row of that name."""
        (found,) = (row for row in self.day.summary.rows if row.what.strip() == what)
        return found

    def answers(self, posting: Posting) -> list[Answer]:
        """What the gateway answered to a posting, each time."""
        return [answer for answer in self.day.answers if answer.posting is posting]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demo without a terminal, from its start to its end."""
    try:
        find_java()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("first-day")
    days: list[Day] = []

    def day(*words: Any, **named: Any) -> Day:
        days.append(Day(_fixtures(request), *words, **named))
        return days[-1]

    said = io.StringIO()
    told = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(demo, "FirstDay", day)
        # As in a shell that points to a running stack.
        patch.setenv("DEPLOYTRAIL_HOME", str(folder / "unused"))
        patch.setenv("DEPLOYTRAIL_ARCHIVE", f"file:{folder}/archive-of-a-stack")
        patch.setenv("DEPLOYTRAIL_KAFKA", "127.0.0.1:1")
        try:
            code = demo.main(["--home", str(folder / "demo"), "--seed", str(SEED)])
        finally:
            for number, handler in told.items():
                signal.signal(number, handler)
            sys.stderr.write(said.getvalue())  # shown by pytest where a test fails
    assert days, "the stack did not start: see what the demo says of it"
    return Played(days[0], said.getvalue(), code, folder / "demo", folder / "archive-of-a-stack")


def _fixtures(request: pytest.FixtureRequest) -> Path | None:
    """The folder of real payloads; None where it is missing."""
    try:
        shared: Path = request.getfixturevalue("shared")
    except pytest.skip.Exception:
        return None
    return shared / "fixtures"


def _real_payloads(fixtures: Path, settings: Settings) -> list[Posting]:
    """Every real payload, as its sender would post it."""
    github = [p for p in sorted(fixtures.glob("github/*/*.json")) if p.parent.name != "schemas"]
    return [
        *(demo_payloads.github(p.parent.name, p.read_bytes(), settings, _name(fixtures, p)) for p in github),
        *(
            demo_payloads.cdevents(p.read_bytes(), settings, _name(fixtures, p))
            for p in sorted(fixtures.glob("cdevents/v0.5.1/conformance/*.json"))
        ),
        *(
            demo_payloads.alertmanager(p.read_bytes(), settings, _name(fixtures, p))
            for p in sorted(fixtures.glob("alertmanager/*.json"))
        ),
    ]


def _name(fixtures: Path, path: Path) -> str:
    return str(path.relative_to(fixtures))


def check(row: Row) -> None:
    """A row whose planted things were all found, and nothing else."""
    assert (row.missed, row.invented) == ((), ())
    assert row.found == row.planted
    assert row.holds


@pytest.mark.requirement("M2.2")
def test_script_keeps_its_exit_code_and_its_end_is_reported(played: Played) -> None:
    check(played.row("exit codes of the script, passed on"))
    check(played.row("events of the three scripts"))
    for outcome in ("succeeds", "fails", "hangs"):
        check(played.row(f"script that {outcome}: its record"))


@pytest.mark.requirement("M2.3", "M7.5", "M8.5")
def test_webhooks_are_accepted_as_their_senders_send_them(played: Played) -> None:
    check(played.row("webhooks accepted"))


@pytest.mark.requirement("M7.5")
def test_real_payloads_of_deployments_and_alerts_become_records(played: Played, shared: Path) -> None:
    wanted = {
        "github/deployment/payload.json",
        "github/deployment_status/payload.json",
        "cdevents/v0.5.1/conformance/service_deployed.json",
        "cdevents/v0.5.1/conformance/service_rolledback.json",
        "cdevents/v0.5.1/conformance/incident_detected.json",
        "alertmanager/prom_post_request.json",
    }
    made: dict[str, set[str]] = {}
    for answer in played.day.answers:
        if answer.posting.name in wanted:
            made.setdefault(answer.posting.name, set()).update(answer.ids)

    assert set(made) == wanted
    for name, ids in made.items():
        assert ids, name
        assert ids <= played.day.trail, name


@pytest.mark.requirement("M2.3")
def test_delivery_that_is_sent_again_is_one_record(played: Played, shared: Path) -> None:
    assert played.day.again is not None
    first, second = played.answers(played.day.again)

    assert (second.status, second.body["repeated"], second.ids) == (202, True, [])
    assert len(first.ids) == 1
    assert set(first.ids) <= played.day.trail


@pytest.mark.requirement("M4.2")
def test_deployments_outside_their_windows_are_found_and_no_others(played: Played) -> None:
    check(played.row("outside a change window"))
    check(played.row("too close to its boundary to tell"))
    check(played.row("and who it was"))


@pytest.mark.requirement("M4.2", "M8.3")
def test_slow_clock_does_not_mislead_about_windows(played: Played) -> None:
    check(played.row("7 min slow: only looks outside"))
    check(played.row("7 min slow: only looks inside"))


@pytest.mark.requirement("M4.2")
def test_overdue_deployments_are_found_and_no_others(played: Played) -> None:
    check(played.row("overdue"))
    check(played.row("taken back when a late end came"))


@pytest.mark.requirement("M2.2", "M3.2")
def test_every_deployment_has_its_outcome(played: Played) -> None:
    check(played.row("deployments of the day"))
    for state in ("succeeded", "failed", "rolled_back", "cancelled", "lost", "superseded", "running"):
        check(played.row(state))


@pytest.mark.requirement("M2.5")
def test_canaries_have_the_outcome_of_their_cohorts(played: Played) -> None:
    check(played.row("canaries and their cohorts, outcome"))


@pytest.mark.requirement("M8.3")
def test_true_times_lie_within_the_stated_uncertainty(played: Played) -> None:
    check(played.row("true start within the stated ±"))
    check(played.row("of the producer 7 min slow"))


@pytest.mark.requirement("M4.3", "M6.2")
def test_clear_causes_are_named_and_none_is_invented(played: Played) -> None:
    check(played.row("alerts with a guilty deployment, clear"))
    check(played.row("alerts with none, clear"))


@pytest.mark.requirement("M6.2")
def test_what_changed_before_an_alert_is_answered(played: Played) -> None:
    check(played.row("what changed in the 15 min before an alert"))


@pytest.mark.requirement("M4.1")
def test_what_runs_now_and_then_is_answered(played: Played) -> None:
    check(played.row("running when the day closed"))
    check(played.row("what ran at 8 hours of the day"))


@pytest.mark.requirement("M4.5")
def test_failed_deployment_pages_once(played: Played) -> None:
    check(played.row("failed deployments of now, paged"))
    check(played.row("pages received more than once"))
    check(played.row("pages about history"))


@pytest.mark.requirement("M3.4", "M8.4")
def test_no_hop_loses_or_adds_an_id(played: Played) -> None:
    accepted, *hops = played.day.summary.hops

    assert [hop.name for hop in hops] == ["intake", "trail", "ClickHouse", "archive (intake)", "archive (trail)"]
    for hop in hops:
        for kind, ids in hop.ids.items():
            assert ids in (accepted.ids[kind], None), (hop.name, kind)
    assert hops[2].ids["deployment"] is not None
    assert hops[2].ids["signal"] is not None
    check(played.row("dead letters"))


@pytest.mark.requirement("M5.1")
def test_archived_bytes_are_those_of_kafka(played: Played) -> None:
    rows = [row for row in played.day.summary.rows if row.what.startswith("archived bytes")]

    assert len(rows) >= 4
    for row in rows:
        check(row)
        assert row.planted > 0
    check(played.row("archive verified"))


def test_summary_holds_and_is_printed(played: Played) -> None:
    assert played.day.summary.failures == []
    assert "PLANTED AGAINST FOUND" in played.said
    assert "Everything planted was found" in played.said


def test_demo_without_a_terminal_ends_with_zero_and_leaves_nothing_running(played: Played) -> None:
    assert played.code == 0
    assert "Ctrl-C" not in played.said
    assert users_of(played.home) == []
    assert not played.caller.exists()  # the archive to which the caller's shell points


@pytest.mark.requirement("M5.1")
def test_archive_is_verified_and_a_deployment_proven_from_it(played: Played) -> None:
    verified = re.search(
        r"archive verify --trust archive\.trust: whole; tree of (\d+) entries, root (\S+)…,", played.said
    )
    proven = re.search(
        r"the proof holds: (\d+) records of deployment 'demo-succeeds-.* (\d+) entries, signed", played.said
    )

    assert verified is not None, played.said
    assert proven is not None, played.said
    assert int(verified[1]) > 5000 and int(proven[2]) > 5000
    assert int(proven[1]) >= 4  # its start and its end, as reported and on the trail, and what followed


def test_history_was_loaded_whole(played: Played) -> None:
    lines = [json.loads(line) for line in (played.day.folder / "day.jsonl").read_text().splitlines()]

    assert lines == played.day.lines
