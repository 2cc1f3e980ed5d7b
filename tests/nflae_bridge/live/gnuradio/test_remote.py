"""A server that is away: what the fallbacks send, and that the server is used again."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from matlab_io.result import Result
from nflae_bridge.api.precode import precode
from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.errors import BadRequest, NoAnswer
from nflae_bridge.live.gnuradio.computation.remote import Fallback, RemoteOptions, RemotePrecode, ServerWatch
from nflae_bridge.live.gnuradio.computation.worker import Worker
from nflae_bridge.live.gnuradio.counts import Counts
from simulator.downlink.sinr import achieved_sinr
from tests.channel_files import random_channels
from tests.nflae_bridge.live.gnuradio.relays import rzf, wait_until
from tests.nflae_bridge.live.live_server import LiveServer
from tests.ports import free_tcp_port

BUDGET = {"power": 2.0, "noise_power": 0.1, "alpha_c": 1.0, "min_rate": 0.0}


class Watch:
    present = True


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)

    warning = info


class Server:
    """``Client.precode`` of a server that is there, or not."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.timeouts: list[float] = []

    def __call__(self, channels: npt.NDArray[np.complex64], *, timeout: float, **options: Any) -> Result:
        self.timeouts.append(timeout)
        if self.error is not None:
            raise self.error
        return precode(channels, **{**options, "scheme": "wmmse"})


def remote(fallback: Fallback) -> tuple[RemotePrecode, Server, Watch, Counts, Log]:
    server, watch, counts, log = Server(), Watch(), Counts(), Log()
    options = RemoteOptions("wmmse", 0, timeout=7.0, fallback=fallback)
    local = rzf if fallback == "rzf" else None
    return RemotePrecode(server, watch, options, local, counts, log), server, watch, counts, log  # type: ignore[arg-type]


def test_stop_raises_the_error_of_the_client() -> None:
    compute, server, *_ = remote("stop")
    server.error = NoAnswer("away")
    with pytest.raises(NoAnswer, match="away"):
        compute(random_channels(2, 3, 8), **BUDGET)


@pytest.mark.parametrize("fallback", ["hold", "rzf"])
def test_a_refusal_is_no_absence(fallback: Fallback) -> None:
    compute, server, *_ = remote(fallback)
    server.error = BadRequest("no such scheme")
    with pytest.raises(BadRequest):
        compute(random_channels(2, 3, 8), **BUDGET)


def test_rzf_substitutes_at_once_until_the_server_answers() -> None:
    channels = random_channels(5, 3, 8)
    compute, server, watch, counts, log = remote("rzf")
    server.error, watch.present = NoAnswer("away"), False
    for _ in range(3):
        found = compute(channels, **BUDGET)
        np.testing.assert_allclose(found.precoder, precode(channels, scheme="rzf", **BUDGET).precoder)
        assert found.fallback.all()
    assert server.timeouts == [7.0]  # one wait, not one per batch
    server.error, watch.present = None, True
    compute._tried = -np.inf  # the interval between attempts is over
    found = compute(channels, **BUDGET)
    np.testing.assert_allclose(found.precoder, precode(channels, scheme="wmmse", **BUDGET).precoder)
    assert counts.substituted == 15
    assert log.events == ["fallback", "server_answers"]
    assert server.timeouts[1] <= 1.0


def test_hold_sends_the_last_precoders_with_the_rates_of_the_new_channels() -> None:
    first, later = random_channels(4, 3, 8), random_channels(2, 3, 8, seed=5)
    compute, server, _, counts, _ = remote("hold")
    result = compute(first, **BUDGET)
    server.error = NoAnswer("away")
    held = compute(later, **{**BUDGET, "power": 1.0})
    assert (held.precoder == result.precoder[-1]).all()
    np.testing.assert_allclose(held.power.sum(1), 1.0)  # not above the power of the new budget
    import torch

    sinr = achieved_sinr(torch.from_numpy(later), torch.tensor(held.precoder), torch.tensor(held.power), 0.1)
    np.testing.assert_allclose(held.sinr, sinr.numpy(), rtol=1e-6)
    np.testing.assert_allclose(held.sum_rate, np.log2(1 + sinr.numpy()).sum(1), rtol=1e-6)
    assert counts.substituted == 2


def test_hold_waits_while_there_is_nothing_to_hold() -> None:
    channels = random_channels(2, 3, 8)
    compute, server, _, counts, _log = remote("hold")
    server.error = NoAnswer("away")
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(compute(channels, **BUDGET)), daemon=True)
    thread.start()
    wait_until(lambda: len(server.timeouts) > 2)
    assert not found
    server.error = None
    thread.join(60)
    np.testing.assert_allclose(found[0].precoder, precode(channels, scheme="wmmse", **BUDGET).precoder)
    assert counts.substituted == 0


def test_the_absence_and_the_arrival_of_a_server_are_events() -> None:
    address, log = f"tcp://127.0.0.1:{free_tcp_port()}", Log()
    watch = ServerWatch(ServerAddress(address, 1.0, None, None), log)
    try:
        wait_until(lambda: log.events == ["server_absent"])
        assert not watch.present
        with LiveServer("--device", "cpu", bind=address):
            wait_until(lambda: watch.present)
        wait_until(lambda: not watch.present)
    finally:
        watch.close()
    assert log.events == ["server_absent", "server_connected", "server_absent"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_is_over_keeps_none_of_its_arrays(fails: bool) -> None:
    worker, channels = Worker(), random_channels(1, 2, 4)
    kept = weakref.ref(channels)

    def call(channels: npt.NDArray[np.complex64] = channels) -> int:
        if fails:
            raise BadRequest("no such scheme")
        return len(channels)

    gc.disable()
    try:
        worker.submit(call)
        wait_until(lambda: worker.done)
        with contextlib.suppress(BadRequest):
            assert worker.result() == 1
        del call, channels
        wait_until(lambda: kept() is None)
    finally:
        gc.enable()
        worker.close()
