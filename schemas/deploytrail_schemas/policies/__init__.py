"""What a policy document is, and the kinds that more than one room acts on: pure, but for `topic`."""

from __future__ import annotations

from deploytrail_schemas.policies.alias import read_alias
from deploytrail_schemas.policies.document import Kinds
from deploytrail_schemas.policies.escalation import read_escalation
from deploytrail_schemas.policies.retention import read_retention
from deploytrail_schemas.policies.service import read_service

__all__ = ["SHARED"]

# What reads the specs of these kinds; the processors know more of them.
SHARED: Kinds = {
    "service": read_service,
    "environment": read_alias,
    "region": read_alias,
    "escalation": read_escalation,
    "retention": read_retention,
}
