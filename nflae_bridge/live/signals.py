"""Stop a loop in good order on SIGTERM, SIGINT or SIGHUP."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call a function on the first SIGTERM, SIGINT or SIGHUP; a second one has its previous effect.

    Without effect outside the main thread.

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

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop()

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
