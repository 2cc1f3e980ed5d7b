"""Errors as a user sees them: one line on stderr, exit status 1."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

import click

from matlab_io.errors import NflaeError


class Failure(click.ClickException):
    """The work failed. One line that says what, where and what to do."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"nflae: error: {' '.join(self.message.split())}", file=file or sys.stderr)


@contextmanager
def failing_in_one_line(tracebacks: bool) -> Iterator[None]:
    """Turn whatever is raised inside into a `Failure`; with ``tracebacks`` let it through as it is."""
    with _signals_as_interrupts() as received:
        try:
            yield
        except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit):
            raise
        except BaseException as error:
            if tracebacks or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            # An interrupt that arrives within HDF5 comes out of it as some other error.
            interrupted = received and not isinstance(error, NflaeError)
            raise Failure(explain(KeyboardInterrupt() if interrupted else error)) from error


def explain(error: BaseException) -> str:
    """What to tell the user of an exception, on one line."""
    if isinstance(error, NflaeError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; no output was written"
    if isinstance(error, MemoryError) or _is(error, "torch", "OutOfMemoryError"):
        return "out of memory; give a smaller --batch, or --device cpu if it was the accelerator's"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error) or type(error).__name__).lower()}"
    return f"unexpected {type(error).__name__}: {error}; please report it with the output of nflae --debug ..."


def _is(error: BaseException, module: str, name: str) -> bool:
    """Whether ``error`` is of a class whose module, if never imported, can't have raised it."""
    return module in sys.modules and isinstance(error, getattr(sys.modules[module], name))


@contextmanager
def _signals_as_interrupts() -> Iterator[list[int]]:
    """A scheduler's SIGTERM leaves as little behind as Ctrl-C does. Yields the signals that came."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
