"""What may be said of a deployment: for type checkers only, never imported when a deploy runs.

Names and meanings are those of the Avro DeploymentEvent (schemas/README.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypedDict


class Facts(TypedDict, total=False):
    """Fields of a DeploymentEvent that a caller may give; None is the same as not given."""

    region: str | None
    deployment_id: str | None
    occurred_at: datetime | int | str | None
    tier: str | None
    team: str | None
    kind: (
        Literal[
            "release",
            "hotfix",
            "configuration_change",
            "database_migration",
            "infrastructure",
            "feature_flag",
            "rollback",
            "unknown",
        ]
        | None
    )
    strategy: Literal["rolling", "blue_green", "canary", "recreate", "unknown"] | None
    cohort: str | None
    cohort_weight: float | None
    parent_deployment_id: str | None
    rollback_of: str | None
    instance: str | None
    version: str | None
    previous_version: str | None
    artifact_digest: str | None
    artifact_uri: str | None
    commit_sha: str | None
    repository: str | None
    ref: str | None
    build_system: str | None
    build_id: str | None
    build_number: str | None
    build_url: str | None
    pipeline: str | None
    job: str | None
    stage: str | None
    deployer: str | None
    deployer_type: Literal["person", "automation", "unknown"] | None
    change_ticket: str | None
    feature_ticket: str | None
    sprint: str | None
    justification: str | None
    permit_id: str | None
    emergency: bool | None
    reversible: bool | None
    source: str | None
    provenance: Literal["reported", "inferred"] | None
    confidence: float | None
    hybrid_logical_clock: int | None
    exit_code: int | None
    raw_status: str | None
    config_changes: Mapping[str, str] | None
    tags: Mapping[str, str] | None


class Placed(Facts, total=False):
    """The same, with the place: for the end of a deployment of which this host knows nothing."""

    service: str | None
    environment: str | None
