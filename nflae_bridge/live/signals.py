"""Stop a loop in good order on SIGTERM, SIGINT or SIGHUP."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
TOGETHER_SECONDS = 0.5  # signals within it are one: timeout(1) signals its command, then the process group of both


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call a function on the first SIGTERM, SIGINT or SIGHUP; a second one has its previous effect.

    Those within `TOGETHER_SECONDS` of the first are the first. Without effect outside the main thread.

    Parameters
    ----------
    stop : callable
        Called from the signal handler.

    Yields
    ------
    None
        While the handlers are in place.
    """
    before: dict[int, Any] = {}
    first: list[float] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            stop()
        elif time.monotonic() - first[0] >= TOGETHER_SECONDS:
            restore()
            signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
