"""Report errors to the user: one line on stderr and exit status 1."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

import click

from matlab_io.errors import NflaeError

# After a callback that has discarded an interrupt, s.
_REPEAT_SECONDS = 0.01

_failures_by_signal: list[int] = []


class Failure(click.ClickException):
    """The work failed; the message is one line that names the fault, its place and the remedy."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as one line on ``file``, by default stderr."""
        click.echo(f"nflae: error: {' '.join(self.message.split())}", file=file or sys.stderr)


@contextmanager
def failing_in_one_line(tracebacks: bool) -> Iterator[None]:
    """Convert every exception raised inside into a `Failure`.

    Parameters
    ----------
    tracebacks : bool
        Let exceptions pass unchanged, so that Python prints their tracebacks.

    Yields
    ------
    None

    Raises
    ------
    Failure
        For every exception but those of click.
    """
    with _signals_as_interrupts() as received:
        try:
            yield
        except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit):
            raise
        except BaseException as error:
            if tracebacks or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            # HDF5 turns an interrupt that arrives inside it into another exception.
            interrupted = received and not isinstance(error, NflaeError)
            _failures_by_signal.extend(received)
            raise Failure(explain(KeyboardInterrupt() if interrupted else error)) from error


def failed_by_signal() -> bool:
    """Return whether a signal has ended a command of this process.

    Returns
    -------
    bool
    """
    return bool(_failures_by_signal)


def explain(error: BaseException) -> str:
    """Describe an exception in one line for the user.

    Parameters
    ----------
    error : BaseException
        The exception.

    Returns
    -------
    str
        The message of an `NflaeError`, keys under the names of their options; for others the fault and the remedy.
    """
    if isinstance(error, NflaeError):
        return re.sub(r"\b(server|client)_key\b", r"--\1-key", str(error))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; an unfinished output is removed"
    if isinstance(error, MemoryError) or _is(error, "torch", "OutOfMemoryError"):
        return "out of memory; give a smaller --batch, or --device cpu if the memory of the accelerator ran out"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error) or type(error).__name__).lower()}"
    return f"unexpected {type(error).__name__}: {error}; please report it with the output of nflae --debug ..."


def _is(error: BaseException, module: str, name: str) -> bool:
    """Return whether ``error`` is of a class of ``module``; a module not imported yet cannot have raised it."""
    return module in sys.modules and isinstance(error, getattr(sys.modules[module], name))


@contextmanager
def _signals_as_interrupts() -> Iterator[list[int]]:
    """Handle SIGTERM like Ctrl-C, so that a scheduler's stop leaves as little behind. Yield the signals received.

    Python discards an exception that is raised in a weakref callback or a ``__del__``; the signal is then sent again.
    """
    received: list[int] = []
    repeats: list[threading.Timer] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def repeat_if_discarded(discarded: sys.UnraisableHookArgs) -> None:
        if received and issubclass(discarded.exc_type, KeyboardInterrupt):
            again = threading.Timer(_REPEAT_SECONDS, os.kill, (os.getpid(), received[-1]))
            again.daemon = True
            repeats.append(again)
            again.start()
        else:
            hook(discarded)

    hook, sys.unraisablehook = sys.unraisablehook, repeat_if_discarded
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield received
    finally:
        for again in repeats:  # none may meet the previous handlers
            again.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
