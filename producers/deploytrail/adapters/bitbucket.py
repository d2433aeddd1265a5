"""Bitbucket Cloud webhooks: steps of pipelines that deploy, and build statuses of commits that do.

https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/ (repo:commit_status_created, …_updated) and
https://www.atlassian.com/blog/bitbucket/bitbucket-pipelines-opentelemetry-traces-via-webhooks (pipeline:span_created,
told once the step is over). Bitbucket has no webhook for its deployments and names no environment: a step or a status
is one where its name says that it deploys, to the environment in that name, or else in the webhook's URL. Set up one of
both: they know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _repositories as repositories
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    environment_of,
    first,
    host_of,
    instant,
    items,
    mapping,
    placed,
    record,
    says_deploy,
    text,
    texts,
    usual,
)

NAME = "bitbucket"
# https://developer.atlassian.com/cloud/bitbucket/rest/api-group-commit-statuses/ and, of steps, the results of
# https://developer.atlassian.com/cloud/bitbucket/rest/api-group-pipelines/, which traces call COMPLETE, FAILED, …
STATUSES = {
    "COMPLETE": "succeeded",
    "ERROR": "failed",
    "EXPIRED": "cancelled",
    "FAILED": "failed",
    "INPROGRESS": "started",
    "NOT_RUN": "cancelled",
    "SKIPPED": "cancelled",
    "STOPPED": "cancelled",
    "SUCCESSFUL": "succeeded",
}
_NEVER_BEGAN = ("NOT_RUN", "SKIPPED")
_STEPS = ("bbc.step", "bbc.pipeline_step")
_HOST = "bitbucket.org"

Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The event's name is in X-Event-Key; the payload tells it too."""
    if not isinstance(payload, Mapping):
        raise AdapterError("a Bitbucket webhook is a JSON object")
    if "commit_status" in payload:
        return _commit_status(payload, defaults, received_at)
    if "resourceSpans" in payload:
        return _steps(payload, defaults, received_at)
    return Adapted(ignored=f"Bitbucket's {headers.get('x-event-key') or 'unnamed'} event says nothing of a deployment")


def _commit_status(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    status, repository = mapping(payload, "commit_status"), mapping(payload, "repository")
    key, name = text(status, "key"), text(status, "name")
    commit = first(text(status, "commit", "hash"), text(status, "links", "commit", "href").rpartition("/")[2])
    if not key or not commit:
        raise AdapterError("the payload's commit_status has no key or no commit")
    if not says_deploy(key, name):
        return Adapted(ignored="the build status' name does not say that it deploys")
    environment = environment_of(f"{name} {key}", defaults.environment)
    if not environment:
        return Adapted(ignored="neither the build status' name nor the webhook's URL name an environment")
    full_name, state, ref = text(repository, "full_name"), text(status, "state"), text(status, "refname")
    # A commit that is deployed again has the same key, but another build.
    thing = name_based_id(NAME, full_name, commit, key, text(status, "url"))
    moment = "created_on" if state == "INPROGRESS" else "updated_on"
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (thing, state),
        placed(
            defaults,
            NAME,
            environment=environment,
            service=first(defaults.service, full_name.rpartition("/")[2]),
            host=first(host_of(text(repository, "links", "html", "href")), _HOST),
        ),
        event_type=STATUSES.get(state, "unknown"),
        deployment_id=f"{NAME}:{thing}",
        occurred_at=instant(status, moment) or instant(status, "updated_on") or received_at,
        version=ref,
        commit_sha=repositories.commit_in(commit),
        repository=full_name,
        ref=ref,
        build_url=text(status, "url"),
        pipeline=first(name, key),
        raw_status=state,
        error=text(status, "description") if STATUSES.get(state) == "failed" else "",
        tags=texts(commit="" if repositories.commit_in(commit) else commit),
        **deployer(first(text(payload, "actor", "nickname"), text(payload, "actor", "display_name"))),
    )
    return Adapted((event,))


def _steps(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    """A start and an end for each step that deploys, of the spans that a delivery holds."""
    spans = list(_spans(payload))
    run = next((said for name, _, said in spans if name == "bbc.pipeline_run"), {})
    records: list[tuple[RecordType, dict[str, Any]]] = []
    for name, span, said in spans:
        if name in _STEPS:
            records.extend(_step(span, {**run, **said}, payload, defaults, received_at))
    return Adapted(tuple(records), "" if records else "no step whose name says that it deploys to an environment")


def _step(
    span: Payload, said: Mapping[str, str], payload: Payload, defaults: Defaults, received_at: int
) -> Iterator[tuple[RecordType, dict[str, Any]]]:
    name, number = (
        first(said.get("step.step_name", ""), said.get("step.name", "")),
        said.get("step.uuid", "").strip("{}"),
    )
    environment = environment_of(name, defaults.environment)
    if not says_deploy(name) or not environment or not number:
        return
    full_name = first(text(payload, "repository", "full_name"), said.get("pipeline.repository.full_name", ""))
    result = first(said.get("step.state.result.name", ""), said.get("step.state.name", ""))
    place = placed(
        defaults,
        NAME,
        environment=environment,
        service=first(defaults.service, full_name.rpartition("/")[2]),
        host=first(host_of(said.get("pipeline_run.url", "")), _HOST),
    )
    ref = said.get("pipeline.target.ref_name", "")
    known: dict[str, Any] = {
        "deployment_id": f"{NAME}:{number}",
        "version": ref,
        "commit_sha": repositories.commit_in(said.get("pipeline.target.commit.hash", "")),
        "repository": full_name,
        "ref": ref,
        "build_system": "bitbucket_pipelines",
        "build_id": said.get("pipeline_run.uuid", "").strip("{}"),
        "build_number": first(said.get("pipeline_run.run_number", ""), said.get("pipeline.build_number", "")),
        "build_url": said.get("pipeline_run.url", ""),
        "job": name,
        **deployer(first(text(payload, "actor", "nickname"), text(payload, "actor", "display_name"))),
    }
    kind, began = RecordType.DEPLOYMENT_EVENT, instant(span, "startTimeUnixNano")
    event_type = STATUSES.get(result, "unknown")
    if began is not None and result not in _NEVER_BEGAN:
        yield record(kind, NAME, (number, "start"), place, event_type="started", occurred_at=began, **known)
    ended = instant(span, "endTimeUnixNano") or received_at
    yield record(
        kind, NAME, (number, "end"), place, event_type=event_type, occurred_at=ended, raw_status=result, **known
    )


def _spans(payload: Payload) -> Iterator[tuple[str, Payload, dict[str, str]]]:
    """Name, span and attributes: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding."""
    for resource in items(payload, "resourceSpans"):
        for scope in items(resource, "scopeSpans"):
            for span in items(scope, "spans"):
                said = {text(one, "key"): _value(one) for one in items(span, "attributes")}
                yield text(span, "name"), mapping(span), said


def _value(attribute: object) -> str:
    return first(*(text(attribute, "value", kind) for kind in ("stringValue", "intValue", "doubleValue")))


SOURCE = Source(
    name=NAME,
    title="Bitbucket Cloud",
    adapt=adapt,
    signature="hub_signature",
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "commit_sha", "repository", "ref", "build_system", "build_id", "build_number", "build_url"),
            *("pipeline", "job", "deployer", "deployer_type", "error", "raw_status", "tags"),
            never=("region",),
        )
    },
)
