"""Interrupt a computation between its blocks and iterations, and measure the time that the interrupts take."""

from __future__ import annotations

from collections.abc import Callable

BLOCK_SECONDS = 0.02  # estimated time between interrupts

Interrupt = Callable[[], None]


def not_interrupted() -> None:
    """Let the computation go on."""


class Ended(BaseException):
    """Carry the exception of an interrupt through code that handles the exceptions of a computation.

    Parameters
    ----------
    reason : Exception
        The exception.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class Interrupts:
    """Call an interrupt, and measure the time of the computation without those that it takes.

    Parameters
    ----------
    clock : callable
        Returns the time of the computation, s.
    interrupt : callable
        Function without arguments; an exception of it ends the computation.

    """

    def __init__(self, clock: Callable[[], float], interrupt: Interrupt) -> None:
        self._clock, self._interrupt = clock, interrupt
        self._began = self._last = clock()
        self._paused = 0.0

    def worked(self) -> float:
        """Return the time since the start, that of the interrupts excepted, s."""
        return self._clock() - self._began - self._paused

    def __call__(self) -> None:
        """Call the interrupt."""
        self._paused -= self._clock()
        self._interrupt()
        self._last = self._clock()
        self._paused += self._last

    def within(self) -> None:
        """Call the interrupt between the iterations of a block that has taken the time of one."""
        if self._clock() - self._last > BLOCK_SECONDS:
            try:
                self()
            except Exception as reason:
                raise Ended(reason) from None
