"""Interrupts that arrive in a callback whose exceptions Python discards."""

from __future__ import annotations

import os
import signal
import time
import weakref

import pytest

from nflae_bridge.cli.failure import Failure, failing_in_one_line


class Target:
    """An object with weak references."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_a_weakref_callback_is_not_lost(number: int) -> None:
    called = []

    def callback(reference: weakref.ref[Target]) -> None:
        os.kill(os.getpid(), number)
        for _ in range(1000):  # the handler runs between these, and its exception is discarded
            pass
        called.append("not reached")

    @failing_in_one_line(tracebacks=False)
    def work() -> None:
        target = Target()
        reference = weakref.ref(target, callback)
        del target
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert reference() is None
            time.sleep(0.01)

    with pytest.raises(Failure, match="interrupted"):
        work()
    assert not called
