"""Every kind of policy: its name, and what reads its spec. One more kind is one file, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploytrail_schemas.policies import document
from deploytrail_schemas.policies.alias import Alias, read_alias
from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.escalation import Escalation, read_escalation
from deploytrail_schemas.policies.reader import Reader
from deploytrail_schemas.policies.retention import Retention, read_retention
from deploytrail_schemas.policies.service import Service, read_service

from deploytrail_processors.rules.policies.approval import Approvals, read_approvals
from deploytrail_processors.rules.policies.break_glass import BreakGlass, read_break_glass
from deploytrail_processors.rules.policies.calendar import Calendar, read_calendar
from deploytrail_processors.rules.policies.intake import Intake, read_intake
from deploytrail_processors.rules.policies.reconciliation import Reconciliation, read_reconciliation
from deploytrail_processors.rules.policies.requirement import Requirement, read_regime, read_required_fields
from deploytrail_processors.rules.policies.rollback import RollbackVerification, read_rollback_verification
from deploytrail_processors.rules.policies.success import SuccessCriteria, read_success_criteria
from deploytrail_processors.rules.policies.suppression import Suppression, read_suppression
from deploytrail_processors.rules.policies.thresholds import Thresholds, read_thresholds
from deploytrail_processors.rules.policies.velocity import Velocity, read_velocity
from deploytrail_processors.rules.policies.window import ChangeWindow, read_window

Spec = (
    Service
    | Alias
    | ChangeWindow
    | Calendar
    | BreakGlass
    | Thresholds
    | Intake
    | Approvals
    | Suppression
    | RollbackVerification
    | Requirement
    | Velocity
    | Reconciliation
    | SuccessCriteria
    | Escalation
    | Retention
)

KINDS: Mapping[str, Callable[[Reader], Spec]] = {
    "service": read_service,
    "environment": read_alias,
    "region": read_alias,
    "change_window": read_window,
    "calendar": read_calendar,
    "break_glass": read_break_glass,
    "thresholds": read_thresholds,
    "intake": read_intake,
    "approval": read_approvals,
    "suppression": read_suppression,
    "rollback_verification": read_rollback_verification,
    "required_fields": read_required_fields,
    "regime": read_regime,
    "velocity": read_velocity,
    "reconciliation": read_reconciliation,
    "success_criteria": read_success_criteria,
    "escalation": read_escalation,
    "retention": read_retention,
}


def read_document(value: object) -> Document:
    """The document of a JSON value; invalid ones come back with every problem."""
    return document.read(value, KINDS)
