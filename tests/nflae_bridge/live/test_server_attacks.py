"""A client with small requests beside hostile ones: the attacks of benchmarks/attacks.py, a hundredth of their size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.attacks import measure
from benchmarks.hostile_clients import ATTACKS, MEGABYTE
from tests.nflae_bridge.live.live_server import LiveServer

SLOW = ("large_requests", "expensive", "connections", "greedy", "large_envelopes")
LATE = 5.0  # s; attackers, server and client share the processors with whatever else runs


@pytest.fixture(scope="module")
def attacked() -> Iterator[LiveServer]:
    with LiveServer() as server:
        server.start_memory = server.memory()  # type: ignore[attr-defined]
        yield server
        assert server.stop() == 0
        assert not any("event=failed" in line for line in server.lines)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ATTACKS]
)
def test_a_client_beside_an_attack_gets_right_answers_in_time(attacked: LiveServer, name: str) -> None:
    outcome = measure(name, attacked.process.pid, attacked.address, 0.01, seconds=0.3, quiet_seconds=0.5)
    assert outcome.messages > 0
    assert len(outcome.attacked) > 3
    assert (outcome.wrong, outcome.failed) == (0, 0)
    assert np.percentile(outcome.attacked, 99) <= max(5 * np.percentile(outcome.quiet, 99), LATE)
    assert attacked.memory() - attacked.start_memory < 512 * MEGABYTE  # type: ignore[attr-defined]
    assert outcome.peak - outcome.start < 512 * MEGABYTE
