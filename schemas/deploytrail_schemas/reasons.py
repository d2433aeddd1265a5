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


class Reason(StrEnum):
    """Why a rule gave its verdict."""
