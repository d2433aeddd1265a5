"""What CI systems tell Jira of deployments and builds, e.g. Jenkins by its plugin for Jira.

https://developer.atlassian.com/cloud/jira/software/rest/api-group-deployments/ and …/api-group-builds/: the
request itself, or the plugin's own message around it. One payload has several. A deployment is known by its
pipeline, environment and sequence number; of one that is told again, the update's number and the state tell
what is new. A build deploys nothing, unless the webhook's URL names the environment that it deploys to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    first,
    host_of,
    instant,
    items,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

STATUSES = {
    "pending": "queued",
    "in_progress": "started",
    "successful": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "rolled_back": "rolled_back",
    "unknown": "unknown",
}
FILLS = usual(
    RecordType.DEPLOYMENT_EVENT,
    *("commit_sha", "repository", "ref", "build_system", "build_number", "build_url", "pipeline"),
    *("feature_ticket", "error", "raw_status", "tags"),
    never=("region",),
)
Payload = Mapping[str, Any]


def adapt(payload: Payload, name: str, defaults: Defaults, received_at: int) -> Adapted:
    """An event a deployment; `name` is the source that they come by."""
    told = mapping(payload, "payload") or payload
    product = text(told, "providerMetadata", "product")
    if found := items(told, "deployments"):
        return Adapted(tuple(_deployment(one, product, name, defaults, received_at) for one in found))
    if found := items(told, "builds"):
        if not defaults.environment:
            return Adapted(ignored="a build deploys nothing, and the webhook's URL names no environment")
        return Adapted(tuple(_build(one, product, name, defaults, received_at) for one in found))
    if text(payload, "requestType") or items(told, "acceptedBuilds") or "builds" in told or "deployments" in told:
        return Adapted(ignored="the message has neither deployments nor builds")
    raise AdapterError("a Jira webhook has a webhookEvent, or a list of deployments or builds")


def _deployment(
    given: object, product: str, name: str, defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    pipeline, environment = mapping(given, "pipeline"), mapping(given, "environment")
    number = text(given, "deploymentSequenceNumber")
    if not text(pipeline, "id") or not text(environment, "id") or not number:
        raise AdapterError("every deployment has pipeline.id, environment.id and deploymentSequenceNumber")
    known = (text(pipeline, "id"), text(environment, "id"), number)
    tickets = [*items(given, "issueKeys"), *_associated(given, "issueKeys"), *_associated(given, "issueIdOrKeys")]
    commits = _associated(given, "commit")
    return _event(
        name,
        known,
        given,
        placed(
            defaults,
            name,
            environment=first(text(environment, "displayName"), text(environment, "id")),
            service=first(defaults.service, text(pipeline, "displayName")),
            host=host_of(text(given, "url")),
        ),
        received_at,
        tickets,
        build_system=product,
        pipeline=first(text(pipeline, "displayName"), text(pipeline, "id")),
        commit_sha=text(commits[0], "commitHash") if commits else "",
        repository=text(commits[0], "repositoryId") if commits else "",
        tags={"environment_type": text(environment, "type")},
    )


def _build(
    given: object, product: str, name: str, defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    pipeline, number = text(given, "pipelineId"), text(given, "buildNumber")
    if not pipeline or not number:
        raise AdapterError("every build has pipelineId and buildNumber")
    reference: object = next(iter(items(given, "references")), None)
    return _event(
        name,
        (pipeline, "build", number),
        given,
        placed(
            defaults,
            name,
            service=first(defaults.service, text(given, "displayName")),
            host=host_of(text(given, "url")),
        ),
        received_at,
        items(given, "issueKeys"),
        build_system=product,
        pipeline=first(text(given, "displayName"), pipeline),
        commit_sha=text(reference, "commit", "id"),
        repository=text(reference, "commit", "repositoryUri"),
        ref=text(reference, "ref", "name"),
    )


def _event(
    name: str,
    known: tuple[str, str, str],
    given: object,
    place: dict[str, str],
    received_at: int,
    tickets: list[Any],
    *,
    tags: Mapping[str, str] | None = None,
    **fields: Any,
) -> tuple[RecordType, dict[str, Any]]:
    state = text(given, "state").lower()
    keys = [ticket for ticket in map(text, tickets) if ticket]
    return record(
        RecordType.DEPLOYMENT_EVENT,
        name,
        (*known, text(given, "updateSequenceNumber"), state),
        place,
        event_type=STATUSES.get(state, "unknown"),
        deployment_id=":".join((name, *known)),
        occurred_at=instant(given, "lastUpdated") or received_at,
        build_number=known[2],
        build_url=text(given, "url"),
        feature_ticket=keys[0] if keys else "",
        raw_status=text(given, "state"),
        error=text(given, "description") if state == "failed" else "",
        tags=texts(
            label=text(given, "label"),
            title=text(given, "displayName"),
            tickets=",".join(keys[1:]),
            **(tags or {}),
        ),
        **fields,
    )


def _associated(given: object, kind: str) -> list[Any]:
    """The values of a deployment's associations of one kind."""
    of_kind = [one for one in items(given, "associations") if text(one, "associationType") == kind]
    return [value for one in of_kind for value in items(one, "values")]
