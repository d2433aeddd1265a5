"""Our records as CDEvents (https://cdevents.dev), for whoever speaks that: pure.

CDEvents 0.4.1 and 0.5.1 have words for a service that is deployed, upgraded, rolled back, published
or removed, for incidents, and for runs of pipelines, as which the other steps of a deployment are
told. A deployment that succeeded is two events, the end of its run and what became of the service;
its id is the chain of all of them. `customData.deploytrail` keeps the whole record: the adapter
`cdevents` makes the same of it again.

Not told, since no CDEvent says it: progress, registrations, corrections, alerts and health checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.json_lines import RECORD_TYPE, canonical
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import fields

DEFAULT_SPEC = "0.5.1"
# Version of the spec → that of the events which are made here.
SPECS = {"0.4.1": "0.2.0", "0.5.1": "0.3.0"}
CONTENT_TYPE = "application/cdevents+json"
_RUNS = {"queued": "queued", "started": "started", "succeeded": "finished", "failed": "finished",
         "cancelled": "finished"}  # fmt: skip
_OUTCOMES = {"succeeded": "success", "failed": "failure", "cancelled": "cancel"}
_INCIDENTS = {"incident_opened": "detected", "incident_resolved": "resolved"}
_OBSERVATIONS = {"running": "published", "removed": "removed"}
# What a header of CloudEvents may hold as it is; all else is percent-encoded.
_PLAIN = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"

CdEvent = dict[str, Any]


def cdevents_of(kind: RecordType, value: Mapping[str, Any], spec: str = DEFAULT_SPEC) -> tuple[CdEvent, ...]:
    """The CDEvents that tell a record, oldest first; none where CDEvents has no word for it.

    `spec`: a key of SPECS; KeyError for another.
    """
    made = _Maker(kind, value, spec)
    told = value.get(_TYPE_FIELDS.get(kind, ""), "")
    if kind is RecordType.DEPLOYMENT_EVENT:
        run = made.run(told) if told in _RUNS else None
        return tuple(filter(None, (run, made.service(told))))
    if kind is RecordType.SIGNAL and told in _INCIDENTS:
        return (made.incident(_INCIDENTS[told]),)
    if kind is RecordType.OBSERVATION and told in _OBSERVATIONS:
        return (made.event("service", _OBSERVATIONS[told], made.service_name, made.environment),)
    return ()


def structured(event: CdEvent) -> dict[str, Any]:
    """A CDEvent as a CloudEvent 1.0 in structured content mode."""
    return {**_attributes(event), "datacontenttype": CONTENT_TYPE, "data": event}


def binary(event: CdEvent) -> tuple[dict[str, str], bytes]:
    """A CDEvent as headers and body of a CloudEvent 1.0 in binary content mode over HTTP."""
    headers = {f"ce-{name}": quote(text, safe=_PLAIN) for name, text in _attributes(event).items()}
    return {**headers, "content-type": CONTENT_TYPE}, json.dumps(event, separators=(",", ":")).encode()


def _attributes(event: CdEvent) -> dict[str, str]:
    context = event["context"]
    return {
        "specversion": "1.0",
        "id": context["id"],
        "source": context["source"],
        "type": context["type"],
        "time": context["timestamp"],
        "subject": event["subject"]["id"],
    }


_TYPE_FIELDS = {
    RecordType.DEPLOYMENT_EVENT: "event_type",
    RecordType.SIGNAL: "signal_type",
    RecordType.OBSERVATION: "observation_type",
}


class _Maker:
    """The CDEvents of one record."""

    def __init__(self, kind: RecordType, value: Mapping[str, Any], spec: str) -> None:
        self._kind, self._value, self._spec, self._version = kind, value, spec, SPECS[spec]
        self.service_name = self._text("service", "unknown")
        self.environment = {"environment": {"id": self._text("environment", "unknown")}}

    def run(self, told: str) -> CdEvent:
        """A step of a deployment as one of a pipeline's run, whose id is the deployment's."""
        deployment = self._text("deployment_id", "unknown")
        content = {"pipelineName": self._text("pipeline", self.service_name)}
        url = self._text("build_url")
        named = url if "://" in url else f"urn:deploytrail:{quote(deployment, safe='')}"
        content["url" if self._spec < "0.5" else "uri"] = named
        if told in _OUTCOMES:
            content["outcome"] = _OUTCOMES[told]
            if error := self._text("error"):
                content["errors"] = error
        return self.event("pipelinerun", _RUNS[told], deployment, content, own_id=told == "succeeded")

    def service(self, told: str) -> CdEvent | None:
        """What became of the service, where something did."""
        is_rollback = told == "rolled_back" or self._text("kind") == "rollback"
        if told not in ("succeeded", "rolled_back"):
            return None
        happened = "rolledback" if is_rollback else "upgraded" if self._text("previous_version") else "deployed"
        return self.event(
            "service", happened, self.service_name, self.environment | {"artifactId": self._artifact(told)}
        )

    def incident(self, happened: str) -> CdEvent:
        """An incident; one that was reported where a ticket's address says so."""
        ticket = self._text("ticket_id")
        content: dict[str, Any] = {**self.environment, "service": {"id": self.service_name}}
        if title := self._text("title"):
            content["description"] = title
        if happened == "detected" and "://" in ticket:
            happened, content["ticketURI"] = "reported", ticket
        subject = self._text("incident_id") or self._text("fingerprint") or self._text("signal_id", "unknown")
        return self.event("incident", happened, subject, content)

    def event(
        self, what: str, happened: str, subject: str, content: dict[str, Any], *, own_id: bool = False
    ) -> CdEvent:
        """A CDEvent of the spec. `own_id`: it is the second of its record, and not called like that."""
        told = canonical(self._kind, dict(self._value))
        number = self._text(self._kind.id_field, "unknown")
        source = f"/deploytrail/{quote(self._text('producer_id', 'unknown'), safe='')}"
        context = {
            "version" if self._spec < "0.5" else "specversion": self._spec,
            "id": name_based_id("cdevents", number, what, happened) if own_id else number,
            "source": source,
            "type": f"dev.cdevents.{what}.{happened}.{self._version}",
            "timestamp": str(told["occurred_at"]),
        }
        if chain := self._text("deployment_id"):
            context["chainId"] = chain
        about: dict[str, Any] = {"id": subject, "source": source, "content": content}
        if self._spec < "0.5":
            about["type"] = {"pipelinerun": "pipelineRun"}.get(what, what)
        custom = {name: self._text(name) for name in ("region", "environment", "service", "version", "severity")}
        return {
            "context": context,
            "subject": about,
            "customData": {name: text for name, text in custom.items() if text} | {"deploytrail": self._whole(told)},
            "customDataContentType": "application/json",
        }

    def _whole(self, told: dict[str, Any]) -> dict[str, Any]:
        """The record as it was reported: without what intake adds, and without what has its default."""
        kept = {RECORD_TYPE: told[RECORD_TYPE]}
        for field in fields(self._kind):
            name = field["name"]
            if name not in CANONICAL_FIELDS and ("default" not in field or told[name] != field["default"]):
                kept[name] = told[name]
        return kept

    def _artifact(self, told: str) -> str:
        """A package URL: the artifact's own, or one of its digest or version."""
        uri, digest = self._text("artifact_uri"), self._text("artifact_digest")
        name, version = quote(self.service_name, safe=""), self._text("version")
        if told == "rolled_back":  # what runs now is what ran before
            version = self._text("previous_version")
        elif uri.startswith("pkg:"):
            return uri
        elif digest:
            return f"pkg:oci/{name}@{quote(digest, safe='')}"
        return f"pkg:generic/{name}@{quote(version, safe='')}" if version else f"pkg:generic/{name}"

    def _text(self, name: str, otherwise: str = "") -> str:
        return str(self._value.get(name) or otherwise)
