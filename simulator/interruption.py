"""Interrupt iterative computations between their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_INTERRUPT: ContextVar[Callable[[], None] | None] = ContextVar("interrupt", default=None)


def check_interrupt() -> None:
    """Call the function of `interrupted_by` in the current context, if there is one."""
    interrupt = _INTERRUPT.get()
    if interrupt is not None:
        interrupt()


@contextmanager
def interrupted_by(interrupt: Callable[[], None]) -> Iterator[None]:
    """Have a function called between the steps of the iterative computations in a block.

    Parameters
    ----------
    interrupt : callable
        Function without arguments, called once per step in the thread that computes. It may compute something else, or
        raise an exception, which ends the computation.

    Yields
    ------
    None
        The function is called until the block ends.
    """
    token = _INTERRUPT.set(interrupt)
    try:
        yield
    finally:
        _INTERRUPT.reset(token)
