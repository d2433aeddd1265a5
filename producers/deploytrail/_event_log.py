"""Events as JSON lines beside their way to the spool: DEPLOYTRAIL_LOG=stderr, or a file.

Each line conforms to `json/deployment_event.v1.canonical.schema.json` of the schemas. A log that
cannot be written is said once; the event goes its way all the same.
"""

from __future__ import annotations

import os
import sys

from deploytrail._report import say_once

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from typing import Any


def write(target: str, value: dict[str, Any]) -> None:
    """Append one event's line; whole, also where several processes write to one file."""
    from deploytrail_schemas.json_lines import json_line
    from deploytrail_schemas.records import RecordType

    try:
        line = json_line(RecordType.DEPLOYMENT_EVENT, value) + "\n"
        if target == "stderr":
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        descriptor = os.open(os.path.expanduser(target), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)  # noqa: PTH111  # light
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except (OSError, ValueError, AttributeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        say_once("event log", f"DEPLOYTRAIL_LOG is {target!r}, which cannot be written: {why}")
