"""`SlotClient`: the newest channels first, late answers dropped, the last good one in use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from matlab_io.result import Result
from nflae_bridge import precode
from nflae_bridge.live.client import slots
from nflae_bridge.live.client.slots import SlotClient
from nflae_bridge.live.errors import BadRequest, BridgeError, NoAnswer
from tests.channel_files import random_channels
from tests.nflae_bridge.live.gnuradio.relays import wait_until
from tests.nflae_bridge.live.live_server import LiveServer


class HeldClient:
    """Answers when released, or raises; in place of `Client`."""

    def __init__(self, address: str, timeout: float, **keys: Any) -> None:
        self.keys = keys
        self.asked: list[npt.NDArray[Any]] = []
        self.options: list[dict[str, Any]] = []
        self.outcomes: list[Callable[[npt.NDArray[Any]], Result]] = []
        self.released = threading.Semaphore(0)

    def precode(self, channels: npt.NDArray[Any], **options: Any) -> Result:
        self.options.append(options)
        self.asked.append(channels)
        assert self.released.acquire(timeout=60)
        return self.outcomes.pop(0)(channels)

    def release(self, outcome: Callable[[npt.NDArray[Any]], Result]) -> None:
        self.outcomes.append(outcome)
        self.released.release()

    def close(self) -> None:
        self.release(lambda channels: precode(channels, scheme="mrt"))


def late(channels: npt.NDArray[Any]) -> Result:
    raise NoAnswer("no answer within the deadline")


def test_newest_channels_win_and_a_late_answer_leaves_the_last_one_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "Client", HeldClient)
    channels = [random_channels(2, 3, 8, seed=seed) for seed in range(5)]
    with SlotClient("tcp://127.0.0.1:1", 1.0) as client:
        held: Any = client._client
        client.submit(0, channels[0])
        wait_until(lambda: len(held.asked) == 1)
        assert client.current() is None
        client.submit(1, channels[1])
        client.submit(2, channels[2])
        held.release(lambda asked: precode(asked, scheme="mrt"))
        wait_until(lambda: len(held.asked) == 2)
        np.testing.assert_array_equal(held.asked[1], channels[2])
        first = client.current()
        assert first is not None
        assert first.slot == 0
        np.testing.assert_array_equal(first.result.precoder, precode(channels[0], scheme="mrt").precoder)
        held.release(late)
        wait_until(lambda: client.dropped == 1)
        assert client.current() is first
        assert client.fault == "no answer within the deadline"
        client.submit(3, channels[3])
        held.release(lambda asked: precode(asked, scheme="mrt"))
        wait_until(lambda: client.answered == 2)
        newest = client.current()
        assert newest is not None
        assert newest.slot == 3
    assert (client.answered, client.replaced, client.dropped) == (2, 1, 1)
    with pytest.raises(BridgeError, match=r"^this client is closed: make another SlotClient$"):
        client.submit(4, channels[4])


def test_submitted_channels_and_options_may_be_changed_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "Client", HeldClient)
    buffer = random_channels(1, 2, 4)
    before = buffer.copy()
    noise, want, weights = torch.tensor(0.1), ["power"], np.array([1.0, 2.0])
    with SlotClient("tcp://127.0.0.1:1", 1.0, noise_power=noise) as client:
        noise.fill_(0.2)  # read at each slot
        held: Any = client._client
        client.submit(0, np.ones_like(buffer))
        wait_until(lambda: len(held.asked) == 1)
        client.submit(1, buffer, want=want, weights=weights, refine=np.int64(1))  # waits while the first is computed
        buffer[:] = 0
        noise.fill_(7.0)
        want.append("rate")
        weights[:] = 9
        held.release(late)
        wait_until(lambda: len(held.asked) == 2)
        np.testing.assert_array_equal(held.asked[1], before)
        options = held.options[1]
        assert float(options["noise_power"]) == pytest.approx(0.2)
        assert (options["want"], options["weights"].tolist(), options["refine"]) == (["power"], [1, 2], 1)
        with pytest.raises(BadRequest, match="weights must be an array of numbers"):
            client.submit(2, before, weights=np.array(["a", "b"]))


def test_a_real_server_answers_and_an_absent_one_is_named(server: LiveServer, free_port: int) -> None:
    channels = random_channels(100, 3, 16)
    with SlotClient(server.address, 60.0, noise_power=0.1, scheme="zf") as client:
        client.submit(7, channels)
        wait_until(lambda: client.current() is not None or bool(client.fault))
        answer = client.current()
        assert answer is not None, client.fault
        assert answer.slot == 7
        assert answer.seconds > 0
        expected = precode(channels, noise_power=0.1, scheme="zf").sum_rate
        np.testing.assert_allclose(answer.result.sum_rate, expected, rtol=1e-6)
    with SlotClient(f"tcp://127.0.0.1:{free_port}", 0.2) as client:
        client.submit(0, channels)
        wait_until(lambda: client.dropped == 1)
        assert "is `nflae serve` running there" in client.fault


def test_a_slot_is_waited_for_and_options_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "Client", HeldClient)
    channels = random_channels(1, 2, 4)
    keys = {"server_key": Path("a.key"), "client_key": Path("b.key_secret")}
    with SlotClient("tcp://127.0.0.1:1", 1.0, **keys) as client:
        held: Any = client._client
        assert held.keys == keys
        client.submit(0, channels)
        assert client.wait(0, 0.0) is None
        held.release(lambda asked: precode(asked, scheme="mrt"))
        answer = client.wait(0, 60.0)
        assert isinstance(answer, slots.SlotAnswer)
        assert answer is client.current()
        assert client.wait(1, 0.0) is None
        client.submit(1, channels)
        held.release(late)
        assert isinstance(client.wait(1, 60.0), NoAnswer)
        assert client.current() is answer


def test_options_of_one_slot_replace_those_of_the_client(server: LiveServer) -> None:
    channels = random_channels(2, 2, 8)
    with SlotClient(server.address, 60.0, noise_power=0.1, scheme="zf") as client:
        for slot, noise in enumerate((0.2, 0.1)):
            client.submit(slot, channels, **({"noise_power": noise} if slot == 0 else {}))
            answer = client.wait(slot, 60.0)
            assert isinstance(answer, slots.SlotAnswer), answer
            expected = precode(channels, noise_power=noise, scheme="zf").sum_rate
            np.testing.assert_allclose(answer.result.sum_rate, expected, rtol=1e-6)


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(BadRequest, match="deadline must be positive"):
        SlotClient("tcp://127.0.0.1:1", 0.0)
    with pytest.raises(TypeError, match="SlotClient has no option 'noise': write 'noise_power'"):
        SlotClient("tcp://127.0.0.1:1", 1.0, noise=0.1)
    with SlotClient("tcp://127.0.0.1:1", 1.0) as client:
        channels = random_channels(1, 2, 4)
        with pytest.raises(TypeError, match="no option 'nois_power': write 'noise_power'"):
            client.submit(0, channels, nois_power=0.1)
        with pytest.raises(BadRequest, match="channels must be complex, got float32"):
            client.submit(0, channels.real)
        with pytest.raises(BadRequest, match="channels must be"):
            client.submit(0, "x")
        with pytest.raises(BadRequest, match="slot must be"):
            client.submit("a", channels)  # type: ignore[arg-type]


def test_any_exception_is_a_fault_and_the_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(channels: npt.NDArray[Any]) -> Result:
        raise RuntimeError("broken")

    monkeypatch.setattr(slots, "Client", HeldClient)
    channels = random_channels(1, 2, 4)
    with SlotClient("tcp://127.0.0.1:1", 1.0) as client:
        held: Any = client._client
        client.submit(0, channels)
        held.release(broken)
        assert str(client.wait(0, 60.0)) == "RuntimeError: broken" == client.fault
        client.submit(1, channels)
        held.release(lambda asked: precode(asked, scheme="mrt"))
        assert isinstance(client.wait(1, 60.0), slots.SlotAnswer)
