"""Did each rollback help? One standing finding a rollback, said at its deadline and again when more becomes known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Agenda, Context, Row, over_trail, row_key, rows_of
from deploytrail_processors.apps.deployments import Deployments
from deploytrail_processors.rules import findings, lifecycle
from deploytrail_processors.rules import rollback_verification as verification
from deploytrail_processors.rules.correlation import alert_key
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import RollbackVerification, rollback_verification_for
from deploytrail_processors.safe_app import SafeApp

HOUR = 3_600_000_000
# What was seen, and verdicts that it may change, are kept for so long.
KEEP = 10 * HOUR
# By so much an end may be put behind what was last heard of a deployment, where two clocks contradict each other.
_AS_LATE = HOUR
Seen = dict[str, Any]


class Verification:
    """Rows of deployments: facts. Rows of rollbacks: the place, when they are `due` or were, the standing `finding`,
    the judgements `said` so far. Rows of what was seen of services, by place and id."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = Deployments(context, lambda _: None)
        self._rollbacks = context.table("rollbacks")
        self._seen = context.table("seen")
        self._due = Agenda(self._rollbacks, lambda row: row["next"])
        self._old_rollbacks = Agenda(self._rollbacks, lambda row: row["due"] + KEEP)
        self._old_seen = Agenda(self._seen, lambda row: row["at"] + KEEP)

    def on_record(self, partition: int, kind: RecordType, value: dict[str, Any]) -> None:
        if kind is RecordType.DEPLOYMENT_EVENT:
            self._deployment(partition, value)
        elif (seen := _seen_in(kind, value)) is not None:
            key = row_key(partition, f"{_place(value)}/{seen['id']}")
            self._seen[key] = seen
            self._old_seen.put(partition, key, seen)
            for name, row in rows_of(self._rollbacks, partition):
                if row["place"] == _place(value) and row["next"] is None and seen["at"] <= row["due"]:
                    self._judge(partition, name, row)

    def on_tick(self, partition: int, now: int) -> None:
        for key, row in self._due.pop_all(partition, now):
            self._judge(partition, key, row, by_tick=True)
        for agenda, table in ((self._old_rollbacks, self._rollbacks), (self._old_seen, self._seen)):
            for key, _ in list(agenda.pop(partition, now)):
                table.pop(key, None)
        self._deployments.forget_old(partition, now)

    def on_recovered(self) -> None:
        self._deployments.on_recovered()
        for agenda in (self._due, self._old_rollbacks, self._old_seen):
            agenda.forget()

    def _deployment(self, partition: int, event: dict[str, Any]) -> None:
        changed = self._deployments.add(partition, event)
        for row in changed.merged:
            self._take_back(partition, row_key(partition, row["facts"]["id"]), row)
        for row in changed.rows:
            self._deployments.put(partition, row)
        for row in changed.rows:
            self._follow(partition, row)

    def _take_back(self, partition: int, key: str, other: Row) -> None:
        """A rollback under another name is not verified a second time."""
        row = self._rollbacks.get(key)
        if row is None:
            return
        if row["place"]:
            standing = row["finding"]
            gone = findings.taken_back(standing, other["_into"], other.get("_again", 0)) if standing else None
            row = {**row, "place": "", "next": None, "finding": gone}
            self._put(partition, key, row)
        if row["finding"] is not None:
            said = row["finding"]
            self._context.forward(Topic.FINDINGS, partition, said["finding_id"], RecordType.FINDING, said)

    def _follow(self, partition: int, row: Row) -> None:
        """Note a rollback, and judge anew what rests on a deployment."""
        content = self._deployments.derive(partition, row["facts"])
        key = row_key(partition, content["deployment_id"])
        if verification.is_rollback(content):
            at = verification.due(content, self._policy(content)[1])
            known = self._rollbacks.get(key) or {"finding": None}
            self._put(partition, key, known | {"place": _place(content), "id": content["deployment_id"], "due": at,
                                               "next": at})  # fmt: skip
        elif (known := self._rollbacks.get(key)) is not None and known["place"] and known["finding"] is not None:
            gone = verification.not_one(content, known["finding"])
            self._say(partition, key, {**known, "next": None}, gone)
        # What a rollback undid, and what ran before, may be reported behind it.
        for name, rollback in rows_of(self._rollbacks, partition):
            if rollback["place"] == _place(content) and (name == key or rollback["finding"] is not None):
                self._judge(partition, name, rollback)

    def _judge(self, partition: int, key: str, row: Row, *, by_tick: bool = False) -> None:
        now = self._context.partition_time(partition)
        rollback = self._content(partition, row["id"])
        if now < row["due"] or rollback is None or not verification.is_rollback(rollback):
            return
        policy_key, policy = self._policy(rollback)
        undone = self._content(partition, rollback["rollback_of"])
        found = verification.verify(
            rollback, undone, self._before(partition, rollback, undone), self._evidence(partition, row["place"]),
            policy, policy_key, now=now,
        )  # fmt: skip
        if found is None:
            return
        fresh = found["finding_id"] not in row.get("said", [])[-1:]
        # A tick does not come again: the next one says once more what this one's crash might have lost.
        self._say(partition, key, {**row, "next": now + 1 if by_tick and fresh else None}, found)

    def _say(self, partition: int, key: str, row: Row, found: findings.Finding) -> None:
        """Write a judgement in place of the one that stands, or that one again where it is the same."""
        standing, said = row["finding"], row.get("said", [])
        if found["finding_id"] not in said[-1:]:
            said = [*said, found["finding_id"]]
            standing = verification.given_again(standing, found, said.count(found["finding_id"]))
        self._put(partition, key, {**row, "finding": standing, "said": said})
        self._context.forward(Topic.FINDINGS, partition, standing["finding_id"], RecordType.FINDING, standing)

    def _put(self, partition: int, key: str, row: Row) -> None:
        self._rollbacks[key] = row
        self._due.put(partition, key, row)
        self._old_rollbacks.put(partition, key, row)

    def _content(self, partition: int, deployment_id: str) -> dict[str, Any] | None:
        facts = self._deployments.get(partition, deployment_id)["facts"]
        return self._deployments.derive(partition, facts) if lifecycle.is_reported(facts) else None

    def _before(self, partition: int, rollback: dict[str, Any], undone: dict[str, Any] | None) -> dict[str, Any] | None:
        """The last deployment of the place that had succeeded before what was undone, or before the rollback."""
        since = (undone or rollback)["started_at"] or rollback["finished_at"]
        place = _place(rollback)
        found: tuple[int, str, dict[str, Any]] | None = None
        rows = self._deployments.near(partition, lambda there: _place(there) == place)
        for row in sorted(rows, key=lambda row: row["facts"]["last"], reverse=True):
            if found is not None and row["facts"]["last"] < found[0] - _AS_LATE:
                break  # nothing that was said of this, nor of what follows, is as late as what is found
            content = self._deployments.derive(partition, row["facts"])
            ended = content["finished_at"]
            if _place(content) == place and content["state"] == "succeeded" and ended is not None and ended < since:
                one = (ended, content["deployment_id"], content)
                found = one if found is None or one[:2] > found[:2] else found
        return found[2] if found else None

    def _evidence(self, partition: int, place: str) -> verification.Evidence:
        prefix = row_key(partition, f"{place}/")
        seen = [row for key, row in rows_of(self._seen, partition) if key.startswith(prefix)]
        return verification.Evidence(
            *(tuple(row for row in seen if row["kind"] == kind) for kind in ("running", "health", "alert"))
        )

    def _policy(self, content: dict[str, Any]) -> tuple[str, RollbackVerification]:
        policies = self._context.policies_at(content["finished_at"])
        service = policies.service(content["service"])
        subject = {
            **{name: content[name] for name in ("service", "environment", "region", "kind")},
            "team": service.team or content["team"],
            "tier": service.tier or content["tier"],
        }
        return rollback_verification_for(subject, policies)


def _place(value: Mapping[str, Any]) -> str:
    return joined(*(value[name] for name in lifecycle.PLACE))


def _seen_in(kind: RecordType, value: dict[str, Any]) -> Seen | None:
    """What a record shows of a service; None for what does not matter here."""
    if kind not in (RecordType.OBSERVATION, RecordType.SIGNAL):
        return None
    seen: Seen = {"at": value["corrected_at"], "width": (value["uncertainty_ms"] or 0) * 1000}
    if kind is RecordType.OBSERVATION:
        if value["observation_type"] not in ("running", "removed"):
            return None
        instance = "/".join(filter(None, (value["cluster"], value["instance"])))
        seen |= {"kind": "running", "id": value["observation_id"], "type": value["observation_type"]}
        return seen | {"instance": instance, "version": value["version"], "digest": value["artifact_digest"]}
    seen["id"] = value["signal_id"]
    if value["signal_type"] == "health_check":
        series = "/".join((value["source"], value["fingerprint"] or value["title"]))
        return seen | {"kind": "health", "series": series, "healthy": value["healthy"], "value": value["value"]}
    if value["signal_type"] in ("alert_firing", "alert_resolved") and value["source"] != "deploytrail":
        return seen | {"kind": "alert", "key": alert_key(value), "firing": value["signal_type"] == "alert_firing"}
    return None


def make(settings: Settings) -> SafeApp:
    """The rollback_verification app."""
    return over_trail("rollback_verification", settings, Verification)
