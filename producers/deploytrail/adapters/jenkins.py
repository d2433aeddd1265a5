"""Jenkins, by its Notification plugin: the phases of builds.

https://plugins.jenkins.io/notification/, as JSON over HTTP. A build is a deployment where its parameters or the
webhook's URL name an environment: set the notification up on jobs that deploy. The plugin signs nothing, but sends the
user and password of https://user:password@gateway.example/webhooks/jenkins, as they stand there; keep that URL as a
secret. Jenkins' CDEvents go to /webhooks/cdevents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _repositories as repositories
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    first,
    host_of,
    instant,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "jenkins"
# Phases, and the results of builds that are over: https://javadoc.jenkins.io/hudson/model/Result.html
STATUSES = {
    "ABORTED": "cancelled",
    "COMPLETED": "unknown",  # a result says how
    "FAILURE": "failed",
    "FINALIZED": "unknown",
    "NONE": "progressed",  # the pipeline's own step notifyEndpoints
    "NOT_BUILT": "cancelled",
    "QUEUED": "queued",
    "STARTED": "started",
    "SUCCESS": "succeeded",
    "UNSTABLE": "succeeded",  # what was deployed is; a test or a check was not content
}
# COMPLETED and, once the post-build steps are done, FINALIZED tell of one end, with one id.
_OVER = ("COMPLETED", "FINALIZED")
_JOB = re.compile(r"(?:^|/)job/([^/]+)")


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """Parameters that are read: DEPLOYTRAIL_ENVIRONMENT or ENVIRONMENT, and likewise SERVICE, REGION and VERSION."""
    del headers
    build = mapping(payload, "build")
    number, phase = text(build, "number"), text(build, "phase").upper()
    if not number or not phase:
        raise AdapterError("a Jenkins notification is a JSON object with build.number and build.phase")
    parameters = {str(name).upper(): text(value) for name, value in mapping(build, "parameters").items()}
    environment = first(_said(parameters, "ENVIRONMENT"), defaults.environment)
    if not environment:
        return Adapted(ignored="neither the build's parameters nor the webhook's URL name an environment")
    url = text(build, "full_url")
    host, job = host_of(url), _job_of(payload, build)
    # A pipeline has a result as soon as a step failed, long before it is over.
    status = (text(build, "status").upper() if phase in _OVER else "") or phase
    event_type = STATUSES.get(status, "unknown")
    identity = (host, job, number, status) + ((text(build, "timestamp"),) if event_type == "progressed" else ())
    event = record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        identity,
        placed(
            defaults,
            NAME,
            region=_said(parameters, "REGION"),
            environment=environment,
            service=first(_said(parameters, "SERVICE"), defaults.service, job.rpartition("/")[2]),
            host=host,
        ),
        event_type=event_type,
        deployment_id=f"{NAME}:{host}:{job}:{number}",
        occurred_at=_moment(build, phase) or received_at,
        version=_said(parameters, "VERSION"),
        commit_sha=repositories.commit_in(text(build, "scm", "commit")),
        repository=repositories.repository_of(text(build, "scm", "url")),
        ref=text(build, "scm", "branch").removeprefix("origin/"),
        build_system=NAME,
        build_id=text(build, "queue_id"),
        build_number=number,
        build_url=url,
        pipeline=job,
        raw_status=status,
        error=text(build, "notes") if event_type == "failed" else "",
        tags=texts(notes=text(build, "notes") if event_type != "failed" else ""),
        # Of the plugin build-user-vars, and of who polls.
        **deployer(first(parameters.get("BUILD_USER_ID", ""), parameters.get("BUILD_USER", ""))),
    )
    return Adapted((event,))


def _said(parameters: Mapping[str, str], name: str) -> str:
    return first(parameters.get(f"DEPLOYTRAIL_{name}", ""), parameters.get(name, ""))


def _job_of(payload: Any, build: Mapping[str, Any]) -> str:
    """The job's name with its folders: `retail/shop` of …/job/retail/job/shop/12/."""
    paths = (text(build, "full_url").partition("?")[0], text(build, "url"), text(payload, "url"))
    found = next((names for path in paths if (names := _JOB.findall(path))), [])
    return "/".join(map(unquote, found)) or text(payload, "name")


def _moment(build: Mapping[str, Any], phase: str) -> int | None:
    """When the phase began; only builds that say how long they took say when they were over."""
    return None if phase in _OVER and "duration" not in build else instant(build, "timestamp")


SOURCE = Source(
    name=NAME,
    title="Jenkins (Notification plugin)",
    adapt=adapt,
    signature="basic",
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "commit_sha", "repository", "ref", "build_system", "build_id", "build_number", "build_url"),
            *("pipeline", "deployer", "deployer_type", "error", "raw_status", "tags"),
        )
    },
)
