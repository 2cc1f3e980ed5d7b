"""Write the log of the live programs to stderr: one line per event, as ``key=value`` fields.

time=2026-11-22T10:53:01.123Z level=info event=listening address=tcp://127.0.0.1:5555
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import TextIO

_UNQUOTED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/+,*@%[]")
_MAX_LINES_PER_PERIOD = 10
_PERIOD_SECONDS = 10.0
_MAX_LINE = 16 << 10  # characters
_MAX_WAITING = 1000  # lines
_FLUSH_SECONDS = 1.0

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


class _Writer(logging.Handler):
    """Write lines to stderr from a thread of its own, so that a reader that has stopped reading delays no other thread.

    At most `_MAX_WAITING` lines wait; further ones are left out and counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_OneLine())
        self._lines: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._left_out = 0
        self._thread = threading.Thread(target=self._run, args=(sys.stderr,), name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() >= _MAX_WAITING:
            self._left_out += 1
            return
        line = self.format(record)
        self._lines.put(line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}...")

    def flush(self) -> None:
        """Wait until the lines so far are written, at most `_FLUSH_SECONDS`."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(_FLUSH_SECONDS if self._thread.is_alive() else 0)

    def close(self) -> None:
        """End the thread after the lines so far."""
        self._lines.put(None)
        super().close()

    def _run(self, stream: TextIO) -> None:
        while (entry := self._lines.get()) is not None:
            if isinstance(entry, threading.Event):
                entry.set()
                continue
            try:
                _write(stream, f"{entry}\n")
                if self._left_out:
                    number, self._left_out = self._left_out, 0
                    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
                    _write(stream, f"time={moment} level=warning event=log_lines_left_out number={number}\n")
            except (OSError, ValueError):  # a full disk, a closed pipe: there is no other place to report it
                self._left_out += 1


def _write(stream: TextIO, text: str) -> None:
    """Write to the descriptor: a lock of the stream, held during a write that blocks, would block the program's end."""
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        stream.write(text)
        stream.flush()
        return
    left = text.encode(errors="backslashreplace")
    while left:
        left = left[os.write(descriptor, left) :]


class EventLog:
    """Write events; warnings and tracebacks of one kind are limited to ten lines in ten seconds.

    The limit keeps a flood of malformed messages from filling the disk. No method blocks where the log cannot be
    written; lines are left out, and their number is logged, instead.

    Parameters
    ----------
    level : {"info", "debug", "warning", "error"}
        Lowest level that is written.
    """

    def __init__(self, level: str = "info") -> None:
        for handler in _logger.handlers[:]:
            _logger.removeHandler(handler)
            handler.close()
        _logger.addHandler(_Writer())
        _logger.propagate = False
        _logger.setLevel(level.upper())
        self._periods: dict[str, tuple[float, int]] = {}
        self.is_verbose = _logger.isEnabledFor(logging.DEBUG)

    def info(self, event: str, **fields: object) -> None:
        """Write an event of normal operation."""
        _logger.info("", extra={"fields": {"event": event, **fields}})

    def debug(self, event: str, **fields: object) -> None:
        """Write an event of one request."""
        _logger.debug("", extra={"fields": {"event": event, **fields}})

    def warning(self, event: str, **fields: object) -> None:
        """Write a fault of a peer; the first line after a limited period has the field ``not_logged_before``."""
        if self._is_within_limit(event, fields):
            _logger.warning("", extra={"fields": {"event": event, **fields}})

    def exception(self, event: str, **fields: object) -> None:
        """Write a fault of this program with its traceback, on one line; limited as warnings are."""
        if self._is_within_limit(event, fields):
            _logger.error("", exc_info=True, extra={"fields": {"event": event, **fields}})

    def flush(self) -> None:
        """Wait until the lines so far are written, at most a second."""
        for handler in _logger.handlers:
            handler.flush()

    def _is_within_limit(self, event: str, fields: dict[str, object]) -> bool:
        """Count a line of its kind, and add the number of lines left out before it."""
        began, lines = self._periods.get(event, (0.0, 0))
        now = time.monotonic()
        if now - began >= _PERIOD_SECONDS:
            if lines > _MAX_LINES_PER_PERIOD:
                fields["not_logged_before"] = lines - _MAX_LINES_PER_PERIOD
            began, lines = now, 0
        self._periods[event] = (began, lines + 1)
        return lines < _MAX_LINES_PER_PERIOD
