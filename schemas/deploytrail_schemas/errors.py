"""Errors, one class per response that a caller can give."""

from __future__ import annotations


class DeploytrailError(Exception):
    """Anything that deploytrail raises on purpose."""


class ConfigurationError(DeploytrailError):
    """A setting or a policy is wrong: mend it and start again."""


class MissingDependencyError(DeploytrailError):
    """Something that must be installed is missing: install what the message names."""


class EncodeError(DeploytrailError, ValueError):
    """A value does not fit its schema: mend the caller."""


class RetryLater(DeploytrailError):
    """The other side is away or busy: try the same again."""
