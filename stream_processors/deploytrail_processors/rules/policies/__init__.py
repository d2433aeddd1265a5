"""Policy documents: read, checked, and looked up as they were on a day.

In: documents as plain JSON values. Out: typed policies, or every problem at once. A document that
is invalid is kept as such: the rule that needs it fails closed.
"""

from deploytrail_schemas.policies.alias import Alias, Aliases
from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.escalation import Escalation, escalation_for
from deploytrail_schemas.policies.reader import Problem
from deploytrail_schemas.policies.retention import Retention, retention_for
from deploytrail_schemas.policies.scope import SCOPE_FIELDS, Scope
from deploytrail_schemas.policies.service import Service

from deploytrail_processors.rules.policies.approval import Approvals
from deploytrail_processors.rules.policies.break_glass import BreakGlass
from deploytrail_processors.rules.policies.calendar import Calendar
from deploytrail_processors.rules.policies.intake import Intake
from deploytrail_processors.rules.policies.kinds import KINDS, Spec, read_document
from deploytrail_processors.rules.policies.policy_set import Policies, PolicySet
from deploytrail_processors.rules.policies.reconciliation import Reconciliation, reconciliation_for
from deploytrail_processors.rules.policies.requirement import Requirement
from deploytrail_processors.rules.policies.rollback import RollbackVerification, rollback_verification_for
from deploytrail_processors.rules.policies.success import SuccessCriteria, success_criteria_for
from deploytrail_processors.rules.policies.suppression import Suppression, suppression_for
from deploytrail_processors.rules.policies.thresholds import Thresholds
from deploytrail_processors.rules.policies.velocity import Velocity
from deploytrail_processors.rules.policies.window import ChangeWindow

__all__ = [
    "KINDS",
    "SCOPE_FIELDS",
    "Alias",
    "Aliases",
    "Approvals",
    "BreakGlass",
    "Calendar",
    "ChangeWindow",
    "Document",
    "Escalation",
    "Intake",
    "Policies",
    "PolicySet",
    "Problem",
    "Reconciliation",
    "Requirement",
    "Retention",
    "RollbackVerification",
    "Scope",
    "Service",
    "Spec",
    "SuccessCriteria",
    "Suppression",
    "Thresholds",
    "Velocity",
    "escalation_for",
    "read_document",
    "reconciliation_for",
    "retention_for",
    "rollback_verification_for",
    "success_criteria_for",
    "suppression_for",
]
