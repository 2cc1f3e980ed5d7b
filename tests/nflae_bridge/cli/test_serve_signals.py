"""Signals to ``nflae serve`` before and after its start."""

from __future__ import annotations

import os
import signal

import pytest
from click.testing import Result

from nflae_bridge.live import signals
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.loop import ServerLoop
from tests.channel_files import Run

BIND = ("serve", "--bind", "tcp://127.0.0.1:*")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_the_server_with_status_0(
    nflae: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(Device, "calibrate", lambda self, name: os.kill(os.getpid(), number))
    done = nflae(*BIND)
    assert done.exit_code == 0, done.output
    assert "unfinished output" not in done.stderr


def signalled_twice(nflae: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, list[bool]]:
    stopped: list[bool] = []

    def run(self: ServerLoop) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            stopped.append(self._admission.stopping)

    monkeypatch.setattr(Device, "calibrate", lambda self, name: None)
    monkeypatch.setattr(ServerLoop, "run", run)
    return nflae(*BIND), stopped


def test_a_second_signal_ends_the_server_at_once(nflae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "TOGETHER_SECONDS", 0.0)
    done, stopped = signalled_twice(nflae, monkeypatch)
    assert stopped == [True]
    assert done.exit_code == 1
    assert "ended by a second signal" in done.stderr


def test_signals_at_the_same_time_are_one(nflae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As timeout(1) sends them."""
    monkeypatch.setattr(signals, "TOGETHER_SECONDS", 3600.0)
    done, stopped = signalled_twice(nflae, monkeypatch)
    assert stopped == [True, True]
    assert done.exit_code == 0, done.output
