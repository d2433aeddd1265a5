"""GitLab: deployments of projects, by when they were last updated.

https://docs.gitlab.com/api/deployments/#list-project-deployments. The API tells the state of now; what
a webhook would have told on the way there follows from the times of the job behind the deployment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from deploytrail_schemas.instants import format_instant

from deploytrail.adapters.base import first, instant, mapping, text
from deploytrail.polling.api import Api
from deploytrail.polling.config import Watched
from deploytrail.polling.found import Asked, Found

_ENDS = {"success", "failed", "canceled", "skipped"}


def headers(token: str) -> dict[str, str]:
    """What every request carries: a personal, group or project access token."""
    return {"PRIVATE-TOKEN": token} if token else {}


def poll(api: Api, watched: Watched, asked: Asked) -> Iterator[Found]:
    """Deployments updated since. One that is still open is updated when it ends: nothing is asked for twice."""
    del watched
    path = f"api/v4/projects/{quote(asked.project, safe='')}"
    project = api.get(path).value
    since = format_instant(asked.since)
    listed = api.pages(f"{path}/deployments", updated_after=since, order_by="updated_at", sort="asc", per_page=100)
    for page in listed:
        for deployment in page.value:
            for status, at in _steps(deployment):
                yield Found(_payload(project, deployment, status, at), {"x-gitlab-event": "Deployment Hook"}, at)


def _steps(deployment: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """The statuses that it went through, with their times as far as its job has them."""
    status, job = text(deployment, "status"), mapping(deployment, "deployable")
    began = instant(job, "started_at")
    if began is not None and status in _ENDS:
        yield "running", began
    ended = instant(job, "finished_at") if status in _ENDS else began if status == "running" else None
    yield status, ended or instant(deployment, "updated_at")


def _payload(project: Mapping[str, Any], deployment: Mapping[str, Any], status: str, at: int | None) -> dict[str, Any]:
    """As the webhook has it: https://docs.gitlab.com/user/project/integrations/webhook_events/#deployment-events."""
    job, web_url = mapping(deployment, "deployable"), text(project, "web_url")
    commit = mapping(job, "commit")
    sha = text(deployment, "sha")
    return {
        "object_kind": "deployment",
        "status": status,
        "status_changed_at": format_instant(at) if at is not None else "",
        "deployment_id": deployment.get("id"),
        "deployable_id": job.get("id"),
        "deployable_url": first(text(job, "web_url"), f"{web_url}/-/jobs/{text(job, 'id')}" if job else ""),
        "environment": text(deployment, "environment", "name"),
        "environment_tier": text(deployment, "environment", "tier"),
        "environment_external_url": text(deployment, "environment", "external_url"),
        "project": {
            "id": project.get("id"),
            "name": text(project, "name"),
            "web_url": web_url,
            "path_with_namespace": text(project, "path_with_namespace"),
            "default_branch": text(project, "default_branch"),
        },
        "ref": text(deployment, "ref"),
        "short_sha": sha[:8],
        "user": {name: text(deployment, "user", name) for name in ("id", "name", "username")},
        "commit_url": f"{web_url}/-/commit/{sha}" if sha else "",
        "commit_title": text(commit, "title"),
    }
