"""Interrupt iterative computations between their steps."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

_INTERRUPT: ContextVar[Callable[[], None] | None] = ContextVar("interrupt", default=None)


def check_interrupt() -> None:
    """Call the function of `interrupted_by` in the current context, if there is one."""
    interrupt = _INTERRUPT.get()
    if interrupt is not None:
        interrupt()


class interrupted_by:
    """Have a function called between the steps of the iterative computations in a block.

    Parameters
    ----------
    interrupt : callable
        Function without arguments, called once per step in the thread that computes, until the block ends. It may
        compute something else, or raise an exception, which ends the computation.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt

    def __enter__(self) -> None:
        self._token = _INTERRUPT.set(self._interrupt)

    def __exit__(self, *exception: object) -> None:
        _INTERRUPT.reset(self._token)
