"""With what a command ends that cannot go on: what a supervisor may start again, and what somebody has to mend first.

Numbers of sysexits.h: https://man7.org/linux/man-pages/man3/sysexits.h.3head.html
"""

from __future__ import annotations

from deploytrail_schemas.errors import ConfigurationError

UNAVAILABLE = 69  # EX_UNAVAILABLE: something is away or in use; the same may go well later
CONFIG = 78  # EX_CONFIG: a setting is wrong, and will be so at the next start


def exit_code_of(error: Exception) -> int:
    """CONFIG for a wrong setting, UNAVAILABLE for all else."""
    return CONFIG if isinstance(error, ConfigurationError) else UNAVAILABLE
