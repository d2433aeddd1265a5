"""Logging of the long-running processes: lines on stderr in which no secret stands."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from deploytrail_schemas.redaction import redact_text

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_plain = logging.Formatter()


class WithoutSecrets(logging.Filter):
    """Takes secrets out of a record's message, traceback and stack; for handlers, which every logger's records pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: a line is changed, not dropped."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit: logging would print them with the complaint
            message = f"{record.msg} {record.args!r}"
        record.msg, record.args = redact_text(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _plain.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact_text(record.exc_text)
        if record.stack_info:
            record.stack_info = redact_text(record.stack_info)
        return True


def configure(level: int) -> None:
    """Log to stderr; what no code catches is logged too, instead of printed as it is."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, WithoutSecrets) for known in handler.filters):
            handler.addFilter(WithoutSecrets())
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("deploytrail").critical("the process ends by an error", exc_info=(kind, error, trace))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and not isinstance(told.exc_value, SystemExit):
        name = told.thread.name if told.thread else "unknown"
        where = (told.exc_type, told.exc_value, told.exc_traceback)
        logging.getLogger("deploytrail").critical("the thread %s ends by an error", name, exc_info=where)
