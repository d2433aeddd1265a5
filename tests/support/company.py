"""A company's month of production deployments, each in order unless its plan says otherwise.

November 2026, two regions, fourteen services: every change is registered, asked for and approved by somebody else in
the ticket system, gets a permit, uses it at the cluster, begins inside the window, is seen to run and ends. Some are
approved by their ticket alone, some approvals arrive late, some deployments are also told of by Argo CD, some fail
and are rolled back, some are emergencies at night that were approved and looked at afterwards: all that is in order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploytrail_schemas.instants import parse_instant
from deploytrail_schemas.records import RecordType

from support.values import MINUTE, SECOND, approval, event, observation

Told = tuple[int, int, RecordType, dict[str, Any]]  # when it comes onto the trail (µs), partition, what
Fields = Mapping[str, Any]
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
BEGIN = parse_instant("2026-11-01T00:00:00Z")
# Mondays to Thursdays; what lies in the freeze is no day for a change.
DAYS = tuple(day for day in range(2, 25) if (day - 2) % 7 < 4)
SERVICES = ("shop", "cart", "search", "payments", "ledger", "mail", "auth", "stock", "price", "media", "tax", "pick",
            "pack", "ship")  # fmt: skip
SOX = ("payments", "ledger")
REGIONS = {"eu-west-1": 1, "us-east-1": 3}
DEPLOYERS, AUTHORS = ("dora", "eve", "finn"), ("cy", "dan")
APPROVERS = ("grace", "hana", "ivan")
POLICIES = f"""\
{{kind: environment, name: payments-live, spec: {{aliases: [pay-prod], production: true}}}}
---
{{kind: change_window, name: office, spec: {{effect: allow, zone: Europe/Berlin, start: "2020-01-06T09:00",
  duration_minutes: 480, rrule: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH"}}}}
---
{{kind: change_window, name: black-friday, spec: {{effect: deny, zone: Europe/Berlin, start: "2026-11-25T00:00",
  duration_minutes: 7200}}}}
---
{{kind: approval, name: production, spec: {{roles: [release-manager], permit: true,
  holders: {{release-manager: [{", ".join((*APPROVERS, *DEPLOYERS, *AUTHORS))}]}}}}}}
---
{{kind: break_glass, name: night, spec: {{approver_roles: [release-manager], max_minutes: 240}}}}
---
{{kind: required_fields, name: billing, spec: {{fields: [commit_sha], tags: [cost_centre]}}}}
---
{{kind: regime, name: sox, spec: {{controls: [registered, approved, permit, authenticated_reporter],
  fields: [repository]}}}}
---
{{kind: rollback_verification, name: quick, spec: {{required: [digest]}}}}
"""


def policies() -> Iterator[dict[str, Any]]:
    """The company's policy documents; they hold since 2020."""
    from yaml import safe_load_all

    for document in safe_load_all(POLICIES):
        yield document | {"effective_from": "2020-01-01T00:00:00Z", "version": 1}
    for name in SERVICES:
        spec = {"team": f"team-{name[0]}", "tier": "1", "regimes": ["sox"] if name in SOX else []}
        yield {"kind": "service", "name": name, "effective_from": "2020-01-01T00:00:00Z", "version": 1, "spec": spec}


# Numbers of what is planted lie below.
FIRST_IN_ORDER = 999


@dataclass(frozen=True)
class Change:
    """What is deployed, where, when and by whose hands."""

    number: int
    service: str
    region: str
    at: int
    digest: str = ""
    environment: str = "production"

    @property
    def id(self) -> str:
        """Its deployment id."""
        return f"{self.service}-{self.number}"

    @property
    def ticket(self) -> str:
        """Its change ticket."""
        return f"CHG{self.number:05}"

    @property
    def artifact(self) -> str:
        """The digest of what it deploys."""
        return self.digest or digest_of(self.id)

    @property
    def permit(self) -> str:
        """The id of its permit."""
        return f"permit-{self.number}"

    @property
    def deployer(self) -> str:
        """Who deploys it."""
        return DEPLOYERS[self.number % len(DEPLOYERS)]

    @property
    def approver(self) -> str:
        """Who approves it."""
        return APPROVERS[self.number % len(APPROVERS)]

    @property
    def place(self) -> dict[str, Any]:
        """Where it is deployed, and its id."""
        return {"service": self.service, "region": self.region, "environment": self.environment,
                "deployment_id": self.id}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What happens of a change; times are minutes from its start, None: it does not happen."""

    registered_at: float | None = -50
    registered: Fields = field(default_factory=dict)
    approved_at: float | None = -30
    approved: Fields = field(default_factory=dict)
    by_ticket: bool = False
    arrives_late: bool = False
    steps: tuple[tuple[float, str, Fields], ...] = ()  # more of them: when, which, what
    permit: bool = True
    used: tuple[Fields, ...] = ({},)
    started: bool = True
    event: Fields = field(default_factory=dict)
    ends: float | None = 5
    end: str = "succeeded"
    also_by_argo: bool = False
    runs: str | None = ""  # the digest that is seen to run; empty: its own


def digest_of(name: str) -> str:
    """The digest of an artifact."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def in_order(change: Change) -> Plan:
    """A plan as most are, different from one to the next."""
    number = change.number
    return Plan(by_ticket=number % 3 == 0, arrives_late=number % 7 == 1, also_by_argo=number % 5 == 2)


def told(change: Change, plan: Plan) -> Iterator[Told]:
    """Everything that the trail hears of a change."""
    partition = REGIONS[change.region]

    def comes(kind: RecordType, value: dict[str, Any], late: float = 0) -> Told:
        return value["corrected_at"] + int(late * MINUTE), partition, kind, value

    def step(kind: str, minutes: float, fields: Fields, **usual: Any) -> dict[str, Any]:
        at = change.at + int(minutes * MINUTE)
        whole = {**change.place, "change_ticket": change.ticket, "uncertainty_ms": 20, **usual, **fields}
        made = approval(kind, at, **whole)
        # Two steps of one kind at one place and time are two.
        return made | {"approval_id": f"{made['approval_id']}-{change.number}-{minutes}"}

    if plan.registered_at is not None:
        usual = {"source": "library", "reporter": "ci", "artifact_digest": change.artifact, "tags": {
            "deployer": change.deployer, "commit_authors": ", ".join(AUTHORS)}}  # fmt: skip
        yield comes(RecordType.APPROVAL, step("registered", plan.registered_at, plan.registered, **usual))
    system = {"source": "servicenow", "reporter": "servicenow"}
    if plan.by_ticket:
        system |= {"deployment_id": "", "service": "", "region": change.region}
    yield comes(RecordType.APPROVAL, step("requested", -45, {}, **system, approver="cy", ticket_state="Assess"))
    given = {"approver": change.approver, "approver_role": "release-manager", "ticket_state": "Scheduled"}
    bound = {} if plan.by_ticket else {"artifact_digest": change.artifact}
    if plan.approved_at is not None:
        value = step("approved", plan.approved_at, plan.approved, **system, **given, **bound)
        yield comes(RecordType.APPROVAL, value, late=40 if plan.arrives_late else 0)
    for minutes, kind, fields in plan.steps:
        yield comes(RecordType.APPROVAL, step(kind, minutes, fields, **(system if kind != "registered" else {})))
    if plan.permit:
        until = change.at + 9 * MINUTE
        issued = {"source": "gate", "reporter": "gate", "artifact_digest": change.artifact, "valid_until": until,
                  "tags": {"permit_id": change.permit}}  # fmt: skip
        yield comes(RecordType.APPROVAL, step("permit_issued", -1, issued))
    for number, use in enumerate(plan.used if plan.permit else ()):
        where = {"permit_id": change.permit, "cluster": f"{change.region}-a", "namespace": change.environment,
                 "workload": change.service} | use.get("tags", {})  # fmt: skip
        fields = {"source": "kubernetes_admission", "reporter": "admission", "artifact_digest": change.artifact,
                  **use, "tags": where}  # fmt: skip
        yield comes(RecordType.APPROVAL, step("permit_used", 0.5 + number / 10, fields))
    yield from _life(change, plan, comes)


def _life(change: Change, plan: Plan, comes: Any) -> Iterator[Told]:
    usual = {
        **change.place, "deployer": change.deployer, "change_ticket": change.ticket, "kind": "release",
        "artifact_digest": change.artifact, "commit_sha": hashlib.sha1(change.artifact.encode()).hexdigest(),
        "version": f"2026.11.{change.number}", "repository": f"company/{change.service}", "reporter": "ci",
        "permit_id": change.permit if plan.permit else "", "uncertainty_ms": 40, "tags": {"cost_centre": "cc-7"},
    }  # fmt: skip
    usual |= {"justification": "the sprint's changes"} | dict(plan.event)
    if plan.started:
        yield comes(RecordType.DEPLOYMENT_EVENT, event("started", change.at, **usual))
    if plan.ends is not None and plan.started:
        at = change.at + int(plan.ends * MINUTE)
        yield comes(RecordType.DEPLOYMENT_EVENT, event(plan.end, at, **usual))
    if plan.also_by_argo and plan.started:
        theirs = {name: usual[name] for name in ("service", "region", "environment", "artifact_digest", "commit_sha")}
        theirs |= {"deployment_id": f"argo-{change.id}", "source": "argocd", "reporter": "argocd", "kind": "release"}
        theirs |= {"tags": {"cost_centre": "cc-7"}, "repository": usual["repository"]}
        for kind, minutes in (("started", 0.4), ("succeeded", 5.5)):
            yield comes(RecordType.DEPLOYMENT_EVENT, event(kind, change.at + int(minutes * MINUTE), **theirs))
    if plan.runs is not None:
        place = {name: change.place[name] for name in ("service", "region", "environment")}
        runs = {"instance": f"{change.service}-1", "cluster": f"{change.region}-a",
                "artifact_digest": plan.runs or change.artifact}  # fmt: skip
        yield comes(RecordType.OBSERVATION, observation(change.at + 6 * MINUTE, **place, **runs))


def slots(seed: int = 7) -> list[tuple[str, str, int]]:
    """Services, regions and times inside the window, three of a day for each service, shuffled."""
    found = [
        (service, region, BEGIN + (day - 1) * DAY + hour * HOUR + (7 * at % 50) * MINUTE + 11 * SECOND)
        for at, service in enumerate(SERVICES)
        for region in REGIONS
        for day in DAYS
        for hour in (8, 11, 14)
    ]
    random.Random(seed).shuffle(found)
    return found


def ticks() -> Iterator[Told]:
    """Partition time: each half hour, until some days behind the month."""
    for partition in REGIONS.values():
        for at in range(BEGIN, BEGIN + 33 * DAY, 30 * MINUTE):
            yield at, partition, RecordType.TICK, {"at": at, "region": ""}
