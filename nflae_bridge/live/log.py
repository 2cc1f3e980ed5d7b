"""Write the log of the live programs to stderr: one line per event, as ``key=value`` fields.

time=2026-11-22T10:53:01.123Z level=info event=listening address=tcp://127.0.0.1:5555
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime

_UNQUOTED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/+,*@%[]")
_MAX_LINES_PER_PERIOD = 10
_PERIOD_SECONDS = 10.0

_logger = logging.getLogger("nflae.live")


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: Mapping[str, object] = getattr(record, "fields", {})
        shown = {"time": moment.replace("+00:00", "Z"), "level": record.levelname.lower()} | dict(fields)
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={_quoted(value)}" for name, value in shown.items())


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if text and _UNQUOTED.issuperset(text) else json.dumps(text)


class EventLog:
    """Write events; warnings of one kind are limited to ten lines in ten seconds.

    The limit keeps a flood of malformed messages from filling the disk.

    Parameters
    ----------
    level : {"info", "debug", "warning", "error"}
        Lowest level that is written.
    """

    def __init__(self, level: str = "info") -> None:
        handler = logging.StreamHandler()
        handler.setFormatter(_OneLine())
        _logger.handlers[:] = [handler]
        _logger.propagate = False
        _logger.setLevel(level.upper())
        self._periods: dict[str, tuple[float, int]] = {}

    def info(self, event: str, **fields: object) -> None:
        """Write an event of normal operation."""
        _logger.info("", extra={"fields": {"event": event, **fields}})

    def debug(self, event: str, **fields: object) -> None:
        """Write an event of one request; cheap at other levels."""
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("", extra={"fields": {"event": event, **fields}})

    def warning(self, event: str, **fields: object) -> None:
        """Write a fault of a peer; the first line after a limited period has the field ``not_logged_before``."""
        began, lines = self._periods.get(event, (0.0, 0))
        now = time.monotonic()
        if now - began >= _PERIOD_SECONDS:
            if lines > _MAX_LINES_PER_PERIOD:
                fields |= {"not_logged_before": lines - _MAX_LINES_PER_PERIOD}
            began, lines = now, 0
        self._periods[event] = (began, lines + 1)
        if lines < _MAX_LINES_PER_PERIOD:
            _logger.warning("", extra={"fields": {"event": event, **fields}})

    def exception(self, event: str, **fields: object) -> None:
        """Write a fault of this program with its traceback, on one line."""
        _logger.error("", exc_info=True, extra={"fields": {"event": event, **fields}})
