"""Closed lists of reasons: they become log fields, metric labels, report columns and tests."""

from __future__ import annotations

from enum import StrEnum


class DeadLetterReason(StrEnum):
    """Why a message was set aside with its raw bytes."""

    EMPTY = "empty"
    UNKNOWN_WIRE_FORMAT = "unknown_wire_format"
    UNKNOWN_SCHEMA = "unknown_schema"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNEXPECTED_KIND = "unexpected_kind"
    INVALID_VALUE = "invalid_value"
    RULE_FAILED = "rule_failed"
    INSERT_REFUSED = "insert_refused"
    UNAUTHENTICATED = "unauthenticated"
    OUT_OF_SCOPE = "out_of_scope"


class Refusal(StrEnum):
    """Why somebody was not let in."""

    NO_CREDENTIAL = "no_credential"
    MALFORMED_TOKEN = "malformed_token"
    UNKNOWN_TOKEN = "unknown_token"
    EXPIRED = "expired"
    REVOKED = "revoked"
    WRONG_SIGNATURE = "wrong_signature"
    OUT_OF_SCOPE = "out_of_scope"
    NOT_A_RELAY = "not_a_relay"

    # tokens of CI systems (OIDC)
    UNKNOWN_ISSUER = "unknown_issuer"
    UNKNOWN_KEY = "unknown_key"
    WRONG_AUDIENCE = "wrong_audience"
    NOT_YET_VALID = "not_yet_valid"
    NO_RULE = "no_rule"


class PermitRefusal(StrEnum):
    """Why a permit does not allow what is about to be deployed."""

    NO_PERMIT = "no_permit"
    NO_KEYS = "no_keys"

    # the text
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    WRONG_ALGORITHM = "wrong_algorithm"
    UNKNOWN_KEY = "unknown_key"
    UNSUITABLE_KEY = "unsuitable_key"
    WRONG_SIGNATURE = "wrong_signature"

    # its claims
    MISSING_CLAIM = "missing_claim"
    INVALID_CLAIM = "invalid_claim"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    TOO_LONG_LIVED = "too_long_lived"
    ALREADY_USED = "already_used"

    # what it is held against
    OTHER_SERVICE = "other_service"
    OTHER_ENVIRONMENT = "other_environment"
    OTHER_REGION = "other_region"
    OTHER_DEPLOYMENT = "other_deployment"
    OTHER_ARTIFACT = "other_artifact"
    NO_DIGEST = "no_digest"


class AdmissionReason(StrEnum):
    """Why a change of a Kubernetes object was let in or not."""

    NOT_A_ROLLOUT = "not_a_rollout"
    SYSTEM_NAMESPACE = "system_namespace"
    MADE_BY_CONTROLLER = "made_by_controller"
    NO_NEW_IMAGE = "no_new_image"
    EXEMPT_IMAGES = "exempt_images"
    NOT_REGULATED = "not_regulated"
    PERMIT_HOLDS = "permit_holds"
    PERMIT_REFUSED = "permit_refused"


class Reason(StrEnum):
    """Why a rule gave its verdict."""

    # change_window
    INSIDE_ALLOWED_WINDOW = "inside_allowed_window"
    OUTSIDE_ALLOWED_WINDOWS = "outside_allowed_windows"
    INSIDE_DENIED_WINDOW = "inside_denied_window"
    NO_WINDOW_APPLIES = "no_window_applies"
    WINDOW_BOUNDARY_WITHIN_UNCERTAINTY = "window_boundary_within_uncertainty"
    POLICY_INVALID = "policy_invalid"

    # change_window, where a policy lets emergencies pass; what lacks is a reason of approval
    BREAK_GLASS = "break_glass"
    NO_JUSTIFICATION = "no_justification"
    NO_EXPIRY = "no_expiry"
    APPROVAL_TOO_LONG = "approval_too_long"

    # change_window_overrun
    STILL_RUNNING_AFTER_CLOSE = "still_running_after_close"
    ENDED_BEFORE_CLOSE = "ended_before_close"
    END_TOO_CLOSE_TO_CLOSE = "end_too_close_to_close"

    # overdue
    RUNNING_LONGER_THAN_EXPECTED = "running_longer_than_expected"
    ENDED_IN_TIME = "ended_in_time"
    SUPERSEDED_IN_TIME = "superseded_in_time"

    # incident_correlation
    DEPLOYED_SHORTLY_BEFORE = "deployed_shortly_before"
    DEPLOYED_POSSIBLY_BEFORE = "deployed_possibly_before"
    DEPENDENCY_DEPLOYED_SHORTLY_BEFORE = "dependency_deployed_shortly_before"
    DEPLOYED_LONGER_BEFORE = "deployed_longer_before"
    CAUSED_AN_EARLIER_ALERT = "caused_an_earlier_alert"
    CHANGED_WHERE_THE_INCIDENT_IS = "changed_where_the_incident_is"
    NO_DEPLOYMENT_EXPLAINS_IT = "no_deployment_explains_it"
    NO_LONGER_A_CANDIDATE = "no_longer_a_candidate"

    # approval: what speaks for it
    APPROVED = "approved"
    EMERGENCY_APPROVED = "emergency_approved"
    NOTHING_REQUIRED = "nothing_required"
    # the registration
    REGISTERED = "registered"
    UNREGISTERED = "unregistered"
    LATE_REGISTRATION = "late_registration"
    REGISTERED_FOR_OTHER_ARTIFACT = "registered_for_other_artifact"
    REGISTERED_FOR_OTHER_PLACE = "registered_for_other_place"
    REGISTERED_FOR_OTHER_TIME = "registered_for_other_time"
    NO_ARTIFACT_DIGEST = "no_artifact_digest"
    NO_CHANGE_TICKET = "no_change_ticket"
    # the approvals
    NO_APPROVAL = "no_approval"
    NOT_ENOUGH_APPROVALS = "not_enough_approvals"
    LATE_APPROVAL = "late_approval"
    SELF_APPROVAL = "self_approval"
    APPROVED_BY_COMMIT_AUTHOR = "approved_by_commit_author"
    APPROVER_IS_A_BOT = "approver_is_a_bot"
    APPROVER_UNKNOWN = "approver_unknown"
    DEPLOYER_UNKNOWN = "deployer_unknown"
    APPROVER_LACKS_ROLE = "approver_lacks_role"
    APPROVED_OTHER_ARTIFACT = "approved_other_artifact"
    APPROVED_OTHER_TIME = "approved_other_time"
    APPROVAL_NOT_BOUND = "approval_not_bound"
    APPROVAL_NOT_YET_VALID = "approval_not_yet_valid"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_REVOKED = "approval_revoked"
    REJECTED = "rejected"
    APPROVAL_TIME_WITHIN_UNCERTAINTY = "approval_time_within_uncertainty"
    # the permit
    NO_PERMIT = "no_permit"
    PERMIT_UNKNOWN = "permit_unknown"
    PERMIT_USED_TWICE = "permit_used_twice"
    PERMIT_USED_ELSEWHERE = "permit_used_elsewhere"
    PERMIT_USED_FOR_OTHER_ARTIFACT = "permit_used_for_other_artifact"
    PERMIT_USED_LATE = "permit_used_late"
    PERMIT_IN_ORDER = "permit_in_order"

    # alert_suppression
    SUPPRESSED_DURING_DEPLOYMENT = "suppressed_during_deployment"
    RELEASED_AT_END = "released_at_end"
    RELEASED_LOST = "released_lost"
    RELEASED_SUPERSEDED = "released_superseded"
    RELEASED_AT_LIMIT = "released_at_limit"
    RELEASED_NO_LONGER_COVERED = "released_no_longer_covered"
    RESOLVED_WHILE_SUPPRESSED = "resolved_while_suppressed"
    CRITICAL_IS_NEVER_SUPPRESSED = "critical_is_never_suppressed"
    NEVER_SEEN_BEFORE = "never_seen_before"
    SEVERITY_NOT_COVERED = "severity_not_covered"
    START_WITHIN_UNCERTAINTY = "start_within_uncertainty"

    # rollback_verification
    ROLLBACK_VERIFIED = "rollback_verified"
    OTHER_ARTIFACT_RUNS = "other_artifact_runs"
    HEALTH_OUT_OF_BAND = "health_out_of_band"
    ALERT_STILL_FIRES = "alert_still_fires"
    ROLLBACK_TARGET_UNKNOWN = "rollback_target_unknown"
    NOT_SEEN_RUNNING = "not_seen_running"
    NO_HEALTH_SEEN = "no_health_seen"
    NO_ROLLBACK_AFTER_ALL = "no_rollback_after_all"

    # success_criteria
    CRITERIA_MET = "criteria_met"
    DEPLOYMENT_FAILED = "deployment_failed"
    DEPLOYMENT_ROLLED_BACK = "deployment_rolled_back"
    DEPLOYMENT_CANCELLED = "deployment_cancelled"
    TOOK_TOO_LONG = "took_too_long"
    DURATION_UNKNOWN = "duration_unknown"
    DURATION_WITHIN_UNCERTAINTY = "duration_within_uncertainty"
    TOO_MANY_ROLLBACKS = "too_many_rollbacks"
    TOO_FEW_DEPLOYMENTS = "too_few_deployments"
    INCIDENT_CORRELATED = "incident_correlated"
    INCIDENT_POSSIBLY_CORRELATED = "incident_possibly_correlated"
    START_UNKNOWN = "start_unknown"

    # unmapped_name, grain
    UNKNOWN_ENVIRONMENT = "unknown_environment"
    UNKNOWN_REGION = "unknown_region"
    COARSER_THAN_DECLARED = "coarser_than_declared"
    FINER_THAN_DECLARED = "finer_than_declared"

    # required_fields, regime
    FIELDS_MISSING = "fields_missing"
    CONTROLS_MISSING = "controls_missing"
    FIELDS_AND_CONTROLS_MISSING = "fields_and_controls_missing"
    REGIME_UNKNOWN = "regime_unknown"
    HEALED = "healed"

    # change_budget, change_burst
    OVER_BUDGET = "over_budget"
    WITHIN_BUDGET_AGAIN = "within_budget_again"
    BURST_OF_CHANGES = "burst_of_changes"
    BURST_OVER = "burst_over"

    # impact
    SERVICES_DEPEND_ON_IT = "services_depend_on_it"
    NOTHING_DEPENDS_ON_IT = "nothing_depends_on_it"
    DEPENDENCIES_UNKNOWN = "dependencies_unknown"
    NOT_A_PRODUCTION_DEPLOYMENT = "not_a_production_deployment"
    DEPLOYMENT_VOIDED = "deployment_voided"
    ANOTHER_NAME_OF_ONE = "another_name_of_one"

    # unreported_deployment
    RUNS_WITHOUT_DEPLOYMENT = "runs_without_deployment"
    EXPLAINED_BY_LATE_REPORT = "explained_by_late_report"
    NOT_SEEN_AFTER_ALL = "not_seen_after_all"

    # drift
    DECLARED_BUT_NOT_RUNNING = "declared_but_not_running"
    ROLLOUT_STUCK = "rollout_stuck"
    EARLIER_VERSION_RUNS_AGAIN = "earlier_version_runs_again"
    RUNS_UNDECLARED = "runs_undeclared"
    RUNS_AS_DECLARED = "runs_as_declared"

    # any rule that was asked of a deployment under one of its other names
    SAME_DEPLOYMENT = "same_deployment"


class Outcome(StrEnum):
    """Why a deployment's record is in its state."""

    REPORTED = "reported"
    NO_END_REPORTED = "no_end_reported"
    UNDONE_BY_ROLLBACK = "undone_by_rollback"
    EVERY_COHORT_SUCCEEDED = "every_cohort_succeeded"
    COHORT_FAILED = "cohort_failed"
    EVERY_COMPONENT_SUCCEEDED = "every_component_succeeded"
    COMPONENT_FAILED = "component_failed"
    EVERY_CHILD_SUCCEEDED = "every_child_succeeded"
    CHILD_FAILED = "child_failed"
    CHILD_CANCELLED = "child_cancelled"
    SUPERSEDED_BY_NEWER = "superseded_by_newer"
    SAME_DEPLOYMENT = "same_deployment"
    NOTHING_BUT_LATER_EVENTS = "nothing_but_later_events"
