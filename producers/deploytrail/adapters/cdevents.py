"""CDEvents 0.3 to 0.6 (https://cdevents.dev): deployments, services, incidents, over CloudEvents.

Up to 0.5 only the end of a deployment has a word (`service.deployed`): it becomes one that
succeeded. The draft of 0.6 adds `deployment`, `targetrollout` and `migration`, which are queued,
started and finished. A run of a pipeline or a task deploys only where `customData.environment` says
so; then its tasks and the `service` events of its chain are the same deployment.

Which deployment it is: chain, region, environment and service where the event has a `chainId`, since
a chain may pass through several of them; else what the subject or the event is called. What the
spec has no field for is read from `customData`: region, service, environment, version, severity.
Events that `deploytrail.cdevents_out` has written come back as the very records that they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType

from deploytrail.adapters._cloudevents import opened
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    each,
    first,
    instant,
    items,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "cdevents"
OURS = "deploytrail"  # the key of customData under which our own events keep their whole record
SERVICES = {"deployed": "unknown", "upgraded": "unknown", "rolledback": "rollback"}
OBSERVATIONS = {"published": "running", "removed": "removed"}
INCIDENTS = {"detected": "incident_opened", "reported": "incident_opened", "resolved": "incident_resolved"}
TICKETS = {"created": "incident_opened", "closed": "incident_resolved"}
PHASES = {"queued": "queued", "started": "started", "finished": ""}
# The outcome of what is finished; the spec's words, and those of tools that came before it.
OUTCOMES = {
    "cancel": "cancelled",
    "cancelled": "cancelled",
    "error": "failed",
    "failure": "failed",
    "success": "succeeded",
}
_SEVERITIES = {"critical": "critical", "high": "error", "error": "error", "medium": "warning", "warning": "warning",
               "low": "info", "info": "info"}  # fmt: skip
_RUNS = {"pipelinerun", "taskrun"}
_UNTOLD = {
    "artifact": "an artifact that lies somewhere runs nowhere yet",
    "build": "a build is no deployment",
    "change": "a change of source is no deployment",
    "changewindow": "change windows are policy here, not events",
    "reconciliation": "what it changed is told by events of deployments and services",
    "ticket": "only tickets of type incident are signals",
    **dict.fromkeys(_RUNS, "a run deploys only where customData.environment says to which environment"),
}


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The CDEvent may be the body itself, in a CloudEvent of any mode, or one of a batch."""
    if isinstance(payload, list):
        return each(payload, lambda event: _adapt(opened(event, {}), defaults, received_at))
    return _adapt(opened(payload, headers), defaults, received_at)


def _adapt(event: Mapping[str, Any], defaults: Defaults, received_at: int) -> Adapted:
    context = mapping(event, "context")
    name = text(context, "type")
    parts = name.split(".")
    if parts[:2] == ["dev", "cdeventsx"]:
        return Adapted(ignored=f"{name} is a tool's own event, whose meaning is nowhere said")
    if len(parts) < 5 or parts[:2] != ["dev", "cdevents"]:
        raise AdapterError(f"the event's type is {name!r}; expected dev.cdevents.SUBJECT.PREDICATE.VERSION")
    if not text(context, "id"):
        raise AdapterError("the event's context has no id")
    if own := mapping(event, "customData", OURS):
        return _own(own)
    told = _Event(event, defaults, received_at, parts[2], parts[3])
    value = told.read()
    return Adapted((value,)) if value else Adapted(ignored=told.why_not())


def _own(canonical: Mapping[str, Any]) -> Adapted:
    """A record of ours, as it was before it went out."""
    given = dict(canonical)
    try:
        kind = RecordType(given.pop("record_type", None))
    except ValueError:
        raise AdapterError(f"customData.{OURS} names no record_type") from None
    if kind not in SOURCE.fills:
        raise AdapterError(f"customData.{OURS} is a {kind.value}, which no CDEvent tells of")
    value, wrong = validate(kind, given)
    if wrong or kind.id_field not in value:
        said = ", ".join(f"{v.pointer} {v.detail}" for v in wrong) or f"it has no {kind.id_field}"
        raise AdapterError(f"customData.{OURS} is no {kind.value}: {said}")
    return Adapted(((kind, value),))


class _Event:
    """One CDEvent, read on demand."""

    def __init__(self, event: Mapping[str, Any], defaults: Defaults, received_at: int, what: str, happened: str):
        self.what, self.happened, self.defaults = what, happened, defaults
        self.context, self.subject = mapping(event, "context"), mapping(event, "subject")
        self.content, self.custom = mapping(self.subject, "content"), mapping(event, "customData")
        self.source, self.id = text(self.context, "source"), text(self.subject, "id")
        self.occurred_at = instant(self.context, "timestamp") or received_at
        self.artifact = text(self.content, "artifactId")

    def read(self) -> tuple[RecordType, dict[str, Any]] | None:
        """The record that it is; None where it is none."""
        what, happened = self.what, self.happened
        if what == "service" and happened in SERVICES:
            return self._deployment("succeeded", kind=SERVICES[happened], raw_status=happened)
        if what == "service" and happened in OBSERVATIONS:
            version = _version(self.artifact)
            return self._record(
                RecordType.OBSERVATION,
                observation_type=OBSERVATIONS[happened],
                version=version,
                artifact_digest=_digest(version),
            )
        if what == "incident" and happened in INCIDENTS:
            return self._incident(INCIDENTS[happened], title=text(self.content, "description"))
        if what == "ticket" and happened in TICKETS and text(self.content, "ticketType") == "incident":
            return self._incident(TICKETS[happened], title=text(self.content, "summary"))
        if happened in PHASES:
            return self._phase()
        return None

    def why_not(self) -> str:
        """Why it is no record."""
        return f"{self.what}.{self.happened} says nothing of a deployment or an incident" + (
            f": {_UNTOLD[self.what]}" if self.what in _UNTOLD else ""
        )

    def _phase(self) -> tuple[RecordType, dict[str, Any]] | None:
        """What is queued, started and finished: a deployment, a part of one, a migration, a run that deploys."""
        outcome = text(self.content, "outcome")
        event_type = PHASES[self.happened] or OUTCOMES.get(outcome.lower(), "unknown")
        said: dict[str, Any] = {
            "raw_status": first(outcome, self.happened),
            "error": text(self.content, "errors") if event_type == "failed" else "",
        }
        if self.what == "deployment":
            return self._deployment(event_type, **said)
        if self.what == "targetrollout":
            said["instance"] = text(self.content, "name")
            if whole := text(self.content, "deploymentId"):
                return self._deployment("progressed", called=whole, **said)
            return self._deployment(event_type, alone=True, **said)
        if self.what == "migration":
            reversible = self.content.get("reversible")
            return self._deployment(
                event_type,
                kind="database_migration",
                reversible=reversible if isinstance(reversible, bool) else None,
                version=text(self.content, "toVersion"),
                previous_version=text(self.content, "fromVersion"),
                commit_sha=text(self.content, "change", "id"),
                **said,
            )
        if self.what in _RUNS and self._environment_of_run():
            url = first(text(self.content, "uri"), text(self.content, "url"))
            run = text(self.content, "pipelineRun", "id")
            said |= {
                "pipeline": text(self.content, "pipelineName"),
                "job": text(self.content, "taskName"),
            }
            if self.what == "taskrun" and (run or text(self.context, "chainId")):
                return self._deployment("progressed", called=run, build_id=run, build_url=url, **said)
            return self._deployment(event_type, build_id=self.id, build_url=url, **said)
        return None

    def _deployment(
        self, event_type: str, *, kind: str = "unknown", called: str = "", alone: bool = False, **fields: Any
    ) -> tuple[RecordType, dict[str, Any]]:
        """`called`: which deployment it is a part of; `alone`: it is one of its own, whatever its chain."""
        place, version = self._place(), _version(self.artifact)
        chain = "" if alone else text(self.context, "chainId")
        if chain:
            names = [chain, *(place[name] for name in ("region", "environment", "service"))]
        elif self.what == "service":  # the subject is the service: each event is a deployment of it
            names = [self.source, text(self.context, "id"), self.id]
        else:
            names = [first(text(self.subject, "source"), self.source), first(called, self.id)]
        if self.what == "migration" and not chain:  # the subject is the migration, which every environment gets
            names += [place["region"], place["environment"]]
        if kind == "rollback":
            names.append(kind)
        links = items(self.context, "links")
        triggers = [text(link, "target", "contextId") for link in links if text(link, "linkKind") == "TRIGGER"]
        about = {
            "version": version,
            "artifact_digest": _digest(version),
            "artifact_uri": self.artifact,
            "tags": texts(chain=text(self.context, "chainId"), triggered_by=",".join(filter(None, triggers))),
        }
        return self._record(
            RecordType.DEPLOYMENT_EVENT,
            event_type=event_type,
            deployment_id=":".join([NAME, *names]),
            kind=kind,
            **about | {name: item for name, item in fields.items() if item != ""},
        )

    def _incident(self, signal_type: str, *, title: str) -> tuple[RecordType, dict[str, Any]]:
        severity = first(text(self.custom, "severity"), text(self.content, "priority"), "error").lower()
        ticket = first(text(self.content, "ticketURI"), text(self.content, "uri"))
        return self._record(
            RecordType.SIGNAL,
            signal_type=signal_type,
            fingerprint=f"{text(self.subject, 'source')}:{self.id}",
            severity=_SEVERITIES.get(severity, "unknown"),
            title=first(title, self.id),
            incident_id=self.id,
            ticket_id=ticket,
            labels={n: text(self.custom, n) for n in self.custom if isinstance(n, str) and text(self.custom, n)},
        )

    def _record(self, kind: RecordType, /, **fields: Any) -> tuple[RecordType, dict[str, Any]]:
        identity = (self.source, text(self.context, "id"), text(self.context, "type"))
        return record(kind, NAME, identity, self._place(), occurred_at=self.occurred_at, **fields)

    def _place(self) -> dict[str, str]:
        subject = self.id if self.what == "service" else ""
        named = {"migration": text(self.content, "target", "id"), "pipelinerun": text(self.content, "pipelineName")}
        return placed(
            self.defaults,
            NAME,
            region=text(self.custom, "region"),
            environment=first(
                text(self.content, "environment", "id"),
                text(self.content, "environment"),
                self._environment_of_run(),
            ),
            service=first(
                text(self.content, "service", "id"),
                text(self.custom, "service"),
                self.defaults.service,
                subject,
                _package(self.artifact) if self.what in ("deployment", "targetrollout") else "",
                named.get(self.what, ""),
            ),
            host=self.source,
        )

    def _environment_of_run(self) -> str:
        return first(text(self.custom, "environment", "id"), text(self.custom, "environment"))


def _version(artifact: str) -> str:
    """The version in a package URL, which for images is a digest (https://github.com/package-url/purl-spec)."""
    plain = artifact.partition("?")[0].partition("#")[0]
    return unquote(plain.rpartition("@")[2]) if "@" in plain else ""


def _digest(version: str) -> str:
    return version if version.startswith("sha256:") else ""


def _package(artifact: str) -> str:
    """The name in a package URL, without its namespace."""
    plain = artifact.partition("?")[0].partition("#")[0].partition("@")[0]
    return unquote(plain.rpartition("/")[2])


SOURCE = Source(
    name=NAME,
    title="CDEvents and CloudEvents",
    adapt=adapt,
    signature="standard_webhooks",
    ignored=_UNTOLD,
    delivery=("webhook-id",),
    statuses=OUTCOMES | {word: "succeeded" for word in SERVICES} | {"queued": "queued", "started": "started"},
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "instance", "version", "previous_version", "artifact_digest", "artifact_uri", "commit_sha"),
            *("build_id", "build_url", "pipeline", "job", "reversible", "error", "raw_status", "tags"),
        ),
        RecordType.OBSERVATION: usual(RecordType.OBSERVATION, "version", "artifact_digest"),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL, "fingerprint", "severity", "title", "incident_id", "ticket_id", "labels"
        ),
    },
)
