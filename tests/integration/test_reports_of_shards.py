"""Every report where regions lie on two engines: the bytes that it has where the same rows lie on one."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deploytrail_local import ports
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.writer import connect
from deploytrail_sinks.reports.report_command import main
from support.breaking_proxy import BreakingProxy
from support.clickhouse import ClickHouseProcess
from support.commands import run
from support.many_deployments import fill, report
from support.monday import play
from support.on_shards import OnShards
from support.questions import at, candidate, record
from support.seeded_month import seeded_month, store
from support.values import approval, event, observation, signal

ROOT = Path(__file__).parents[2]
EU, US = "eu-west-1", "us-east-1"
pytestmark = pytest.mark.timeout(300)
KINDS = (RecordType.DEPLOYMENT_EVENT, RecordType.APPROVAL, RecordType.OBSERVATION, RecordType.SIGNAL)
AUDIT = ("audit", "--month", "2026-11", "--without", "kafka", "--without", "archive")
REPORTS = {
    "audit": AUDIT,
    "audit-as-of": (*AUDIT, "--as-of", "2026-11-12T00:00:00Z"),
    "access": ("access", "--quarter", "2026-Q4"),
    "coverage": ("coverage", "--quarter", "2026-Q4"),
    "team": ("team", "team-c", "--month", "2026-11"),
    "timeline": ("timeline", "INC-US"),
}


@dataclass(frozen=True)
class Twins:
    """The same history on one engine, and spread over two."""

    one: OnShards
    two: OnShards
    shards: str
    folder: Path
    american: str

    def env(self, trail: OnShards, shards: str) -> dict[str, str]:
        return {
            "DEPLOYTRAIL_CLICKHOUSE_URL": trail.url,
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database,
            "DEPLOYTRAIL_CLICKHOUSE_SHARDS": shards,
        }

    def left(self) -> list[str]:
        """The databases beside that of the two."""
        names = connect(Settings(clickhouse_url=self.two.url)).query("SELECT name FROM system.databases").result_rows
        return [str(name) for (name,) in names if str(name).startswith(f"{self.two.database}_")]


@pytest.fixture(scope="module")
def american(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a second engine."""
    with ClickHouseProcess(tmp_path_factory.mktemp("american")) as server:
        yield server.url


@pytest.fixture(scope="module")
def twins(clickhouse: str, american: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """`us-east-1` lies on the second engine, and `eu-west-1` by service on both; the rest is on the first."""
    shards = f"{US}={american};{EU}={clickhouse}|{american}"
    one, two = OnShards(clickhouse), OnShards(clickhouse, shards=shards)
    for trail in (one, two):
        _tell(trail)
    yield Twins(one, two, shards, tmp_path_factory.mktemp("reports"), american)
    one.close()
    two.close()


def _tell(trail: OnShards) -> None:
    store(seeded_month(), trail, KINDS)
    play(trail)
    for kind, values in _ACROSS:
        trail.store(kind, values)
    taken, all_of_it = datetime(2026, 11, 2, tzinfo=UTC), (["*"], ["*"], ["*"])
    grants = [[taken, f"dtk_{n}", "retail", *all_of_it, ["report"], taken, None, None] for n in (1, 3)]
    columns = ["taken_at", "credential", "team", "services", "environments", "regions", "verbs", "created_at"]
    trail.client.insert(f"{trail.database}.grants", grants, [*columns, "expires_at", "revoked_at"])


# At first nobody said of which service it is: its revisions, its other name, its verdicts and its steps lie on both.
_NO_SERVICE, _LATER = {"service": ""}, {"service": "cart"}
_VERDICT = {
    "rule": "change_window", "occurred_at": at("10:00"), "region": EU, "environment": "production",
    "deployment_id": "amended", "severity": "error",
}  # fmt: skip
_FIRST = _VERDICT | _NO_SERVICE | {"finding_id": "w1", "verdict": "violation", "reason": "outside_allowed_windows"}
_THEN = _VERDICT | _LATER | {"finding_id": "w2", "verdict": "ok", "reason": "inside_allowed_window"}
_AMERICAN: dict[str, Any] = {"region": US, "producer_id": "runner-9"}
_ACROSS: list[tuple[RecordType, list[dict[str, Any]]]] = [
    (RecordType.RECORD, [
        record("amended", "running", at("10:00"), **_NO_SERVICE),
        record("amended", "succeeded", at("10:00"), at("10:05"), revision=2, change_ticket="CHG-A", **_LATER),
        record("another-name", "running", at("10:00"), **_NO_SERVICE),
        record("another-name", "merged", at("10:00"), revision=2, merged_into="amended", **_LATER),
        record("un-merged", "merged", at("10:20"), merged_into="amended", **_LATER),
        record("un-merged", "succeeded", at("10:20"), at("10:25"), revision=2, **_NO_SERVICE),
        record("moved", "running", at("10:30"), **_NO_SERVICE),
        record("moved", "succeeded", at("10:30"), at("10:31"), revision=2, environment="staging", **_LATER),
        record("us-1", "succeeded", at("10:00"), at("10:20"), region=US, change_ticket="CHG-US", service="payments"),
    ]),
    (RecordType.FINDING, [
        _FIRST, _THEN | {"supersedes": "w1"}, candidate("s-us", "us-1", 1, 0.8, at("10:30"), region=US),
        candidate("s-eu", "us-1", 1, 0.6, at("10:32")), candidate("s-eu", "", 2, 0.4, at("10:32")),
    ]),
    (RecordType.APPROVAL, [  # systems of tickets name no region
        approval("approved", at("09:00"), deployment_id="", change_ticket="CHG-US", approver="ada", service="",
                 region="", reporter="dtk_3"),
        approval("approved", at("09:00"), deployment_id="", change_ticket="CHG-R", approver="ada", service="",
                 region="other"),
        approval("registered", at("08:00"), deployment_id="amended", change_ticket="CHG-R", **_NO_SERVICE),
    ]),
    (RecordType.DEPLOYMENT_EVENT, [
        event("started", at("10:00"), deployment_id="another-name", permit_id="p-9", **_NO_SERVICE),
        *(event("started", at(f"10:0{seq}"), deployment_id=f"n-{seq}", service=service, producer_seq=seq,
                reporter="dtk_1", **(_AMERICAN | {"region": region}))
          for seq, service, region in ((1, "cart", EU), (2, "", EU), (3, "cart", US), (5, "shop", EU))),
    ]),
    (RecordType.SIGNAL, [
        signal("alert_firing", at("10:30"), signal_id="s-us", fingerprint="u", incident_id="INC-US", region=US),
        signal("alert_firing", at("10:32"), signal_id="s-eu", fingerprint="e", incident_id="INC-US", **_NO_SERVICE),
        signal("alert_resolved", at("10:50"), signal_id="e-us", fingerprint="u", incident_id="INC-US", region=US),
    ]),
    (RecordType.OBSERVATION, [
        observation(at("20:30"), service="hidden", version="3.3", region=region) for region in (EU, US, "mars")
    ]),
]  # fmt: skip


@pytest.fixture
def made(twins: Twins, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., bytes]:
    """Makes a report in this process; its bytes."""

    def make(env: dict[str, str], *words: str) -> bytes:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        path = twins.folder / uuid.uuid4().hex
        code = main([*words, "--output", str(path)])
        assert code == 0, capfd.readouterr().err
        return path.read_bytes()

    return make


def test_the_history_lies_on_both_engines(twins: Twins) -> None:
    """Or the comparison below would show nothing."""
    tables = ("deployment_revisions", "deployment_events", "approvals", "observations", "signals", "findings")
    for table in tables:
        (whole,), parts = twins.one.held(table), twins.two.held(table)

        assert min(parts) > 0 and sum(parts) == whole, table
    placed = twins.two.ask("SELECT revision FROM {db}.deployment_revisions WHERE deployment_id = 'amended'")
    assert len(placed) == 1


@pytest.mark.requirement("M5.2", "M5.6", "M6.3", "M6.4", "M7.6", "M8.1")
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_over_two_shards_is_that_of_one_engine_to_the_byte(
    name: str, twins: Twins, made: Callable[..., bytes]
) -> None:
    words, one, two = REPORTS[name], twins.env(twins.one, ""), twins.env(twins.two, twins.shards)
    forms = {"audit": ("markdown", "csv", "html", "json"), "timeline": ("html", "json")}.get(name, ("json",))
    for form in forms:
        whole, spread = (made(env, *words, "--format", form) for env in (one, two))

        assert spread.decode().splitlines() == whole.decode().splitlines(), form  # tells where
        assert spread == whole
    first_alone = made(twins.env(twins.two, ""), *words, "--format", "json")
    assert first_alone != whole
    assert twins.left() == []


@pytest.mark.requirement("M5.2", "M8.1")
@pytest.mark.parametrize("words", [AUDIT, REPORTS["coverage"]], ids=["audit", "coverage"])
def test_a_shard_that_is_away_is_named_and_there_is_no_report(words: tuple[str, ...], twins: Twins) -> None:
    away = f"http://127.0.0.1:{ports.free_port()}"
    path = twins.folder / "kept.md"
    path.write_text("of last month")
    env = twins.env(twins.two, f"{US}={away}")
    done = run("report", *words, "--output", str(path), env=env, cwd=twins.folder)

    assert done.returncode == 69, done.stderr
    assert done.stderr.startswith(f"deploytrail report: ClickHouse at {away} does not answer: Connection refused; ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert path.read_text() == "of last month"
    assert twins.left() == []


@pytest.mark.requirement("M5.2", "M8.1")
@pytest.mark.parametrize("words", [AUDIT, REPORTS["timeline"]], ids=["audit", "timeline"])
def test_a_shard_that_goes_away_midway_is_named_and_leaves_nothing(words: tuple[str, ...], twins: Twins) -> None:
    with BreakingProxy(twins.american, answers=1 << 40) as whole:
        connect(Settings(clickhouse_url=whole.url))
        greeting = whole.passed
    with BreakingProxy(twins.american, answers=greeting + 60_000) as breaking:
        env = twins.env(twins.two, twins.shards.replace(twins.american, breaking.url))
        done = run("report", *words, "--output", "midway.md", env=env, cwd=twins.folder)

    assert done.returncode == 69, done.stderr
    assert f"ClickHouse at {breaking.url}" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(twins.folder.glob("*midway*")) == []
    assert twins.left() == []


def test_a_shard_without_its_tables_is_no_report(twins: Twins, tmp_path: Path) -> None:
    env = twins.env(twins.one, f"{US}={twins.american}")
    access, audit = (run("report", *words, env=env, cwd=tmp_path) for words in (REPORTS["access"], AUDIT))

    assert (access.returncode, audit.returncode) == (78, 78)
    assert f"at {twins.american} lacks migrations: run `deploytrail migrate`" in access.stderr
    assert f"ClickHouse at {twins.american}" in audit.stderr
    assert twins.left() == []


def test_what_a_killed_report_left_behind_goes_with_one_of_another_day(twins: Twins, tmp_path: Path) -> None:
    client, now = connect(Settings(clickhouse_url=twins.two.url)), datetime.now(UTC)
    dead, at_work = (f"{twins.two.database}_report_{now - age:%Y%m%d%H%M%S}_0123abcd" for age in (2 * _DAY, _DAY / 2))
    for name in (dead, at_work):
        client.command(f"CREATE DATABASE {name}")
    done = run("report", *REPORTS["timeline"], env=twins.env(twins.two, twins.shards), cwd=tmp_path)
    left = twins.left()
    client.command(f"DROP DATABASE {at_work}")

    assert done.returncode == 0, done.stderr
    assert left == [at_work]


_DAY = timedelta(days=1)


@pytest.mark.requirement("M2.6", "M8.1")
def test_an_auditor_who_may_only_read_has_the_audit_and_is_told_who_has_the_others(tmp_path: Path) -> None:
    """Both shards are one engine under two names, which is enough to ask what may be asked."""
    env = {f"DEPLOYTRAIL_{name}_SHA256": hashlib.sha256(b"secret").hexdigest()
           for name in ("WRITER", "SRE", "AUDITOR", "ADMIN")}  # fmt: skip
    env |= {"DEPLOYTRAIL_CLICKHOUSE_USERS": str(ROOT / "deploy" / "clickhouse" / "users.xml")}
    (tmp_path / "server").mkdir()
    with ClickHouseProcess(tmp_path / "server", env) as server:
        asked = {
            "DEPLOYTRAIL_CLICKHOUSE_URL": server.url,
            "DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"{US}={server.url.replace('127.0.0.1', 'localhost')}",
            "DEPLOYTRAIL_CLICKHOUSE_PASSWORD": "secret",
        }
        of = {name: asked | {"DEPLOYTRAIL_CLICKHOUSE_USER": f"deploytrail_{name}"} for name in ("admin", "auditor")}
        assert run("migrate", env=of["admin"], cwd=tmp_path).returncode == 0
        audit, access = (run("report", *REPORTS[name], env=of["auditor"], cwd=tmp_path) for name in ("audit", "access"))
        as_admin = run("report", *REPORTS["access"], env=of["admin"], cwd=tmp_path)

    assert (audit.returncode, access.returncode, as_admin.returncode) == (0, 78, 0), audit.stderr + as_admin.stderr
    assert "DEPLOYTRAIL_CLICKHOUSE_USER may not make" in access.stderr
    assert "take an administrator (`report audit` needs none)" in access.stderr


@pytest.mark.requirement("M5.2", "M8.1")
def test_eight_times_as_many_deployments_on_two_shards_need_little_more_memory(
    clickhouse: str, american: str, tmp_path: Path
) -> None:
    """The same rows lie on both, as where a map of the shards has changed: each counts once."""
    peaks = {}
    for count in (500, 4000):
        trail = OnShards(clickhouse, shards=f"{US}={american}")
        env = {
            "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
            "DEPLOYTRAIL_CLICKHOUSE_SHARDS": f"{US}={american}",
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database,
        }
        try:
            for url in (clickhouse, american):
                fill(connect(Settings(clickhouse_url=url)), trail.database, count)
            made = report(env, tmp_path / f"{count}.csv", "csv")
        finally:
            trail.close()
        assert made.code == 0, made.stderr
        assert len(made.path.read_bytes().split(b"\r\n")) == 1 + count + 1
        peaks[count] = made.peak_mb

    assert peaks[4000] < peaks[500] + 40, peaks
