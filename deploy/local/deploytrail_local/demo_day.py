"""A company's first day on a running stack: scripts, webhooks, a day of history, questions, proofs.

One piece of code for `deploytrail demo` and for the end-to-end test. In: the settings of a running
stack, whose on-call sink pages the given receiver. Out: a Summary.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploytrail_schemas.codec import DecodeError, decode_routing
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.instants import format_instant, from_micros
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings, variable
from deploytrail_schemas.topics import Topic

from deploytrail_local import demo_archive, demo_kafka, demo_payloads, demo_proof, demo_questions
from deploytrail_local.demo_payloads import Answer, Posting
from deploytrail_local.demo_receiver import PageReceiver
from deploytrail_local.demo_summary import Hop, Row, Summary
from deploytrail_local.own_command import ask, own_command
from deploytrail_local.processes import wait_until
from deploytrail_local.simulation import simulate, write_lines
from deploytrail_local.simulation.world import HOUR
from deploytrail_local.stack_plan import APPS, PROCESSES, environment_of, without_settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

POLICIES = Path(__file__).parent / "policies"
SCRIPT = Path(__file__).parent / "demo_deploy.sh"
# What judges further has nothing planted for it in the day: it would take a core of somebody who waits.
DAY_APPS = tuple(name for name in APPS if name != "verdicts")
PROCESSORS = PROCESSES["processors"]
SINKS = ("clickhouse", "archive", "on-call")
# When something hangs; a small machine that does more takes minutes for what takes seconds.
_COMMAND_SECONDS = 300.0
_SETTLE_SECONDS = 300.0
_PAGE_SECONDS = 120.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Script:
    """One run of the deploy script under `deploytrail run`."""

    deployment_id: str
    outcome: str
    exit_code: int
    events: frozenset[tuple[str, str]]


def demo_settings(settings: Settings, receiver: PageReceiver) -> Settings:
    """Settings of a stack for the first day: signed webhooks, pages to the receiver, quick segments."""
    return replace(
        settings,
        webhook_secrets="github=the-demo-knows-this-secret;cdevents=whsec_ZGVwbG95dHJhaWwgZGVtbyBzZWNyZXQ=;"
        "alertmanager=the-demo-knows-this-token",
        oncall_url=receiver.url,
        archive_segment_seconds=2.0,
        archive_log_seconds=0.5,
    )


class FirstDay:
    """Plays the day step by step; `play` does all of it.

    `folder` holds what the day itself writes: history file, spools, pid files.
    """

    def __init__(
        self, settings: Settings, folder: Path, receiver: PageReceiver, *, seed: int = 1, progress: Progress
    ) -> None:
        self.settings, self.folder, self.receiver = settings, folder, receiver
        self.progress = progress
        self.lines, self.truth = simulate(seed)
        self.summary = Summary()
        self.scripts: list[Script] = []
        self.answers: list[Answer] = []
        # The day runs on its stack alone, whatever the caller's environment sets.
        self._environ = without_settings(os.environ) | environment_of(settings)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def gateway(self) -> str:
        """URL of the gateway."""
        return self.settings.url

    def play(self, more: Sequence[Posting] = ()) -> Summary:
        """The whole day; `more` is posted to the gateway besides the day's own webhooks.

        DeploytrailError where a step cannot be taken at all.
        """
        began = time.monotonic()
        self.apply_policies()
        self.run_scripts()
        self.post([*demo_payloads.own_payloads(self.settings, now=datetime.now(UTC)), *more])
        self.backfill()
        self.settle()
        self.ask()
        self.compare_hops()
        self.check_pages()
        self.summary.times.append(("the whole day", time.monotonic() - began))
        return self.summary

    def apply_policies(self) -> None:
        """Windows, owners and limits, before anything is judged by them."""
        with self._step("policies applied"):
            self._command("policy", "apply", str(POLICIES))

    def run_scripts(self) -> None:
        """The deploy script under `deploytrail run`: it succeeds, exits 3, is killed."""
        with self._step("the deploy script run three times"):
            gateway, kafka = self.gateway, f"kafka://{self.settings.kafka}"
            self.scripts = [
                self._run_script("succeeds", "storefront", gateway, "succeeded"),
                self._run_script("fails", "payments", kafka, "failed"),
                self._run_script("hangs", "search", gateway, "failed"),
            ]
        codes = {s.outcome: s.exit_code for s in self.scripts}
        wanted = {"succeeds": 0, "fails": 3, "hangs": -signal.SIGKILL}
        self.summary.rows.append(
            Row.compare("exit codes of the script, passed on", _pairs(wanted.items()), _pairs(codes.items()))
        )

    def post(self, postings: Sequence[Posting]) -> list[Answer]:
        """Webhooks, as their senders deliver them."""
        with self._step(f"{len(postings)} webhooks posted"):
            self.answers += [demo_payloads.post(self.gateway, posting) for posting in postings]
        refused = [f"{a.posting.name}: {a.status} {a.body}" for a in self.answers if not 200 <= a.status < 300]
        self.summary.rows.append(
            Row(
                "webhooks accepted",
                len(self.answers),
                len(self.answers) - len(refused),
                tuple(refused),
                (),
                not refused,
            )
        )
        return self.answers

    def backfill(self) -> None:
        """The simulated day, as a file of history."""
        history = self.folder / "day.jsonl"
        write_lines(history, self.lines)
        with self._step(f"{len(self.lines)} records of {format_instant(self.truth.opens_at)[:10]} loaded"):
            self._command("backfill", str(history))

    def settle(self) -> None:
        """Wait until every processor and every sink has committed all there is."""
        with self._step("judged, stored, archived"):
            intake, *others = (demo_kafka.group_of(self.settings, name) for name in PROCESSORS)
            self._drain(Topic.INTAKE, [intake, _sink_group("archive")])
            self._drain(Topic.EVENTS, [*others, *map(_sink_group, ("clickhouse", "archive"))])
            for topic in (Topic.RECORDS, Topic.FINDINGS):
                self._drain(topic, [_sink_group(name) for name in SINKS])
            for topic in (Topic.POLICIES, Topic.ONCALL_STATE):
                self._drain(topic, [_sink_group("archive")])

    def ask(self) -> None:
        """What an SRE asks, and what was planted against what is found."""
        client = self.client()
        try:
            with self._step("questions asked"):
                self._ask_states(client)
                self._ask_windows(client)
                self._ask_times(client)
                self._ask_causes(client)
                self._ask_running(client)
        finally:
            client.close()

    def compare_hops(self) -> None:
        """Distinct ids through every hop, and archived bytes against Kafka's."""
        with self._step("ids compared through every hop"):
            intake = demo_kafka.ids_in(self.settings, Topic.INTAKE)
            self._check_script_events()
            client = self.client()
            try:
                tables = {
                    "deployment": demo_questions.distinct_ids(client, "deployment_events", "event_id"),
                    "signal": demo_questions.distinct_ids(client, "signals", "signal_id"),
                    "approval": demo_questions.distinct_ids(client, "approvals", "approval_id"),
                    "observation": demo_questions.distinct_ids(client, "observations", "observation_id"),
                }
                dead = demo_questions.count(client, "dead_letters")
            finally:
                client.close()
        self.summary.rows.append(Row("dead letters", 0, dead, holds=not dead))
        told_apart = self._history_records(Topic.INTAKE) - self._history_records(Topic.EVENTS)
        again = self.truth.duplicates
        self.summary.rows.append(Row("records sent again, dropped", again, told_apart, holds=told_apart == again))
        with self._step("archive read back"):
            archived = demo_archive.read(self._environ)
            self.summary.rows += demo_archive.compare(self.settings, archived)
        self.summary.hops += [
            Hop("accepted", dict(self._accepted(intake))),
            Hop("intake", dict(intake)),
            Hop("trail", dict(demo_kafka.ids_in(self.settings, Topic.EVENTS))),
            Hop("ClickHouse", tables),
            Hop("archive (intake)", dict(demo_kafka.ids_of(s.value for s in archived.get(Topic.INTAKE.value, ())))),
            Hop("archive (trail)", dict(demo_kafka.ids_of(s.value for s in archived.get(Topic.EVENTS.value, ())))),
        ]
        with self._step("a deployment proven to an outsider"):
            trust = Path(self.settings.archive_trust)
            shown = demo_proof.show(self.scripts[0].deployment_id, archived, trust, self.folder, self._environ)
        self.summary.rows += shown.rows
        self.summary.answers.append((demo_proof.QUESTION, shown.lines))

    def check_pages(self) -> None:
        """Each failed deployment of now pages, exactly once; history pages nobody."""
        failed = {f"deployment_failed/{s.deployment_id}" for s in self.scripts if s.exit_code}
        with self._step("pages received"):
            wait_until(lambda: failed <= self._paged(), seconds=_PAGE_SECONDS)
        repeated = tuple(f"{key} × {n}" for key, n in self.receiver.times_by_key().items() if n != 1)
        history = [page for page in self.receiver.pages if self._is_history(page)]
        self.summary.rows += [
            Row.compare("failed deployments of now, paged", failed, failed & self._paged()),
            Row("pages received more than once", 0, len(repeated), invented=repeated, holds=not repeated),
            Row("pages about history", 0, len(history), holds=not history),
        ]
        self.summary.answers.append(
            (
                "Who was paged?",
                [f"{p.get('action'):<8} {p.get('severity'):<9} {p.get('title')}" for p in self.receiver.pages],
            )
        )

    def _paged(self) -> set[str]:
        return {key for key, action in self.receiver.times_by_key() if action == "trigger"}

    def _is_history(self, page: dict[str, Any]) -> bool:
        details = page.get("details", {})
        return details.get("deployment_id") in self.truth.deployments or details.get("signal_id") in self.truth.alerts

    def client(self) -> Client:
        """A ClickHouse client; the caller closes it."""
        import clickhouse_connect

        host, port = self.settings.clickhouse_url.removeprefix("http://").rsplit(":", 1)
        return clickhouse_connect.get_client(
            host=host,
            port=int(port),
            username=self.settings.clickhouse_user,
            password=self.settings.clickhouse_password,
            database=self.settings.clickhouse_database,
            autogenerate_session_id=False,
        )

    def _ask_states(self, client: Client) -> None:
        simulated = {d: s for d, s in demo_questions.states(client).items() if d in self.truth.deployments}
        self.summary.rows.append(Row.compare("deployments of the day", self.truth.deployments, simulated))
        for state in ("succeeded", "failed", "rolled_back", "cancelled", "lost", "superseded", "running"):
            found = {d for d, s in simulated.items() if s == state}
            self.summary.rows.append(Row.compare(f"  {state}", self.truth.with_outcome(state), found))
        in_order = {d for d in self.truth.disordered if simulated.get(d) == self.truth.deployments[d].outcome}
        self.summary.rows.append(
            Row.compare("ends received before their starts, outcome", self.truth.disordered, in_order)
        )
        ended = {d for d in self.truth.canaries if simulated.get(d) == self.truth.deployments[d].outcome}
        self.summary.rows.append(Row.compare("canaries and their cohorts, outcome", self.truth.canaries, ended))
        states = demo_questions.states(client)
        for script in self.scripts:
            wanted = "succeeded" if script.outcome == "succeeds" else "failed"
            record = states.get(script.deployment_id, "missing")
            self.summary.rows.append(Row.compare(f"script that {script.outcome}: its record", {wanted}, {record}))

    def _ask_windows(self, client: Client) -> None:
        truth = self.truth
        answer = [row for row in demo_questions.outside_window(client) if row[1] in truth.deployments]
        who = {f"{row[1]} by {row[0]}" for row in answer}
        truly = {f"{d} by {truth.deployments[d].deployer}" for d in truth.outside_window}
        windows = self._verdicts(client, "change_window")
        overdue = self._verdicts(client, "overdue")
        self.summary.rows += [
            Row.compare("outside a change window", truth.outside_window, windows.get("violation", ())),
            Row.compare("  too close to its boundary to tell", truth.uncertain_window, windows.get("inconclusive", ())),
            Row.compare(
                "  7 min slow: only looks outside",
                {truth.looks_outside},
                windows.get("ok", set()) & {truth.looks_outside},
            ),
            Row.compare(
                "  7 min slow: only looks inside",
                {truth.looks_inside},
                windows.get("violation", set()) & {truth.looks_inside},
            ),
            Row.compare("  and who it was", truly, who),
            Row.compare("overdue", truth.overdue, overdue.get("violation", ())),
            Row.compare("  taken back when a late end came", truth.overdue_taken_back, overdue.get("ok", ())),
        ]
        self.summary.answers.append(
            (
                "Who deployed outside the window?",
                [
                    f"{who:<10} {what:<24} {at:%H:%M} UTC  {region:<16} {why}"
                    for who, what, _, region, at, why in answer
                ],
            )
        )

    def _ask_times(self, client: Client) -> None:
        starts = demo_questions.starts(client)
        held = {
            d.id
            for d in self.truth.deployments.values()
            if d.id in starts
            and abs((starts[d.id][0] - from_micros(d.started_at)).total_seconds()) * 1000 <= starts[d.id][1]
        }
        slow = self.truth.slow
        self.summary.rows += [
            Row.compare("true start within the stated ±", self.truth.deployments, held),
            Row.compare("  of the producer 7 min slow", slow, held & slow),
        ]

    def _ask_causes(self, client: Client) -> None:
        blamed = {
            a.signal_id: (demo_questions.blamed(client, a.signal_id) or [("no answer", 0.0)])[0]
            for a in self.truth.alerts.values()
        }
        clear = [a for a in self.truth.alerts.values() if a.clear]
        for what, alerts in (
            ("alerts with a guilty deployment, clear", [a for a in clear if a.guilty]),
            ("alerts with none, clear", [a for a in clear if not a.guilty]),
        ):
            right = [a.signal_id for a in alerts if blamed[a.signal_id][0] == a.guilty]
            self.summary.rows.append(Row.compare(what, (a.signal_id for a in alerts), right))
        named = [a for a in self.truth.alerts.values() if blamed[a.signal_id][0] not in ("", "no answer")]
        right_named = [a for a in named if blamed[a.signal_id][0] == a.guilty]
        guilty = [a for a in self.truth.alerts.values() if a.guilty]
        every = len(self.truth.alerts)
        right_answers = sum(blamed[a.signal_id][0] == a.guilty for a in self.truth.alerts.values())
        self.summary.rows.append(Row("all alerts, unclear ones too", every, right_answers, holds=None))
        precision = len(right_named) / len(named) if named else 1.0
        recall = len(right_named) / len(guilty) if guilty else 1.0
        self.summary.answers.append(
            (
                "Which deployment caused each alert?",
                [f"precision {precision:.2f}, recall {recall:.2f} of {every} alerts"],
            )
        )
        changed = {a.signal_id: demo_questions.changed_before(client, a.signal_id) for a in self.truth.alerts.values()}
        right_changes = {
            s
            for s, rows in changed.items()
            if self.truth.changed_before(s).holds({r[0] for r in rows if r[0] in self.truth.deployments})
        }
        self.summary.rows.append(Row.compare("what changed in the 15 min before an alert", changed, right_changes))
        incident = next(a for a in self.truth.alerts.values() if a.guilty)
        self.summary.answers.append(
            (
                f"What changed before the alert of {incident.service}, {incident.region}, "
                f"{from_micros(incident.at):%H:%M} UTC?",
                [f"{r[0]:<24} {r[2]:<10} by {r[3]:<10} from {r[4]:%H:%M:%S}" for r in changed[incident.signal_id]]
                + [f"{p:.0%} {d or 'none of them'}" for d, p in demo_questions.blamed(client, incident.signal_id)],
            )
        )

    def _ask_running(self, client: Client) -> None:
        rows = [row for row in demo_questions.running(client) if row[0] in self.truth.deployments]
        self.summary.rows.append(
            Row.compare("running when the day closed", self.truth.with_outcome("running"), (row[0] for row in rows))
        )
        hours = range(0, 24, 3)
        right = {
            str(hour)
            for hour in hours
            if self.truth.running_at(self._hour(hour)).holds(
                demo_questions.ran_at(client, from_micros(self._hour(hour))) & set(self.truth.deployments)
            )
        }
        self.summary.rows.append(Row.compare("what ran at 8 hours of the day", map(str, hours), right))
        self.summary.answers.append(
            ("What is running now?", [f"{r[0]:<24} {r[2]:<11} {r[3]:<16} {r[4]:<10} since {r[5]:%H:%M}" for r in rows])
        )

    def _hour(self, hour: int) -> int:
        return self.truth.opens_at + hour * HOUR + HOUR // 2

    def _verdicts(self, client: Client, rule: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for deployment_id, standing in demo_questions.verdicts(client, rule).items():
            if deployment_id in self.truth.deployments:
                found.setdefault(standing.verdict, set()).add(deployment_id)
        return found

    def _accepted(self, intake: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """What was acknowledged to its senders: history, webhooks, and the events of the scripts."""
        accepted = {kind: set(ids) for kind, ids in self.truth.ids.items()}
        for answer in self.answers:
            for record_id in answer.ids:
                kind = next((k for k, ids in intake.items() if record_id in ids), "deployment")
                accepted[kind].add(record_id)
        accepted["deployment"] |= {event_id for _, _, event_id in self._script_events()}
        return {kind: frozenset(ids) for kind, ids in accepted.items()}

    def _script_events(self) -> set[tuple[str, str, str]]:
        ours = {s.deployment_id for s in self.scripts}
        found = set()
        for stored in demo_kafka.read_all(self.settings, Topic.INTAKE):
            try:
                kind, value = decode_routing(stored.value)
            except DecodeError:
                continue
            if kind is RecordType.DEPLOYMENT_EVENT and value["deployment_id"] in ours:
                found.add((value["deployment_id"], value["event_type"], value["event_id"]))
        return found

    def _history_records(self, topic: Topic) -> int:
        """How many records, ticks left out, lie in the partition of backfilled history."""
        return sum(
            _is_record(stored.value)
            for stored in demo_kafka.read_all(self.settings, topic)
            if stored.partition == self.settings.backfill_partition
        )

    def _check_script_events(self) -> None:
        events = self._script_events()
        wanted = {pair for script in self.scripts for pair in script.events}
        self.summary.rows.append(
            Row.compare("events of the three scripts", _pairs(wanted), _pairs((d, t) for d, t, _ in events))
        )

    def _run_script(self, outcome: str, service: str, url: str, ends: str) -> Script:
        deployment_id = f"demo-{outcome}-{os.getpid()}-{time.time_ns() // 1_000_000}"
        pid_file = self.folder / f"{deployment_id}.pid"
        argv = [
            *own_command("run"),
            *("--deployment-id", deployment_id, "--service", service, "--environment", "production"),
            *("--region", "eu-west-1", "--version", "7.0.1", "--deployer", "amara", "--wait", "60"),
            *("--", str(SCRIPT), outcome, str(pid_file)),
        ]
        spool = self.folder / f"spool-{outcome}"
        environ = {**self._environ, variable("url"): url, variable("spool"): str(spool)}
        log = self.folder / f"{deployment_id}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            if outcome == "hangs":
                if not wait_until(pid_file.exists, seconds=60):
                    raise DeploytrailError(f"the script did not begin; see {log}")
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
            code = process.wait(_COMMAND_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return Script(deployment_id, outcome, code, frozenset({(deployment_id, "started"), (deployment_id, ends)}))

    def _command(self, *argv: str) -> str:
        done = ask(own_command(*argv), self._environ, seconds=_COMMAND_SECONDS)
        if done.returncode != 0:
            raise DeploytrailError(f"deploytrail {' '.join(argv)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def _drain(self, topic: Topic, groups: Sequence[str]) -> None:
        ends = demo_kafka.end_offsets(self.settings, topic)
        deadline = time.monotonic() + _SETTLE_SECONDS
        left = dict.fromkeys(groups, 1)

        def drained() -> bool:
            for group in [g for g, behind in left.items() if behind]:
                left[group] = demo_kafka.behind(self.settings, group, topic, ends)
            return not any(left.values())

        if not wait_until(drained, seconds=deadline - time.monotonic(), every=0.2):
            late = ", ".join(f"{group} {behind}" for group, behind in left.items() if behind)
            raise DeploytrailError(f"after {_SETTLE_SECONDS:.0f} s records of {topic.value} wait for: {late}")

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.summary.times.append((what, took))
        self.progress(f"{what} ({took:.1f} s)")


def _is_record(value: bytes | None) -> bool:
    return decode_routing(value)[0] is not RecordType.TICK


def _sink_group(name: str) -> str:
    return f"deploytrail-sink-{name}"


def _pairs(items: Iterable[tuple[object, object]]) -> list[str]:
    return [f"{left} {right}" for left, right in items]
