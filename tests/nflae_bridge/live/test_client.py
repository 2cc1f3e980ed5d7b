"""The Python clients: deadlines, retries, errors by code, asyncio. What outlives a kill -9: test_bridge_survival."""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import zmq

from nflae_bridge import AsyncClient, Client, NflaeError, precode
from nflae_bridge.live import errors as bridge
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.test_server import channels
from tests.sockets import bounded_context

Answer = Callable[[list[bytes]], list[list[bytes]]]


@contextmanager
def impostor(answer: Answer) -> Iterator[str]:
    """A server that answers [header, ...] with the messages ``answer`` makes of it; its address."""
    context = bounded_context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def run() -> None:
        try:
            while True:
                identity, *frames = socket.recv_multipart()
                for message in answer(frames):
                    socket.send_multipart([identity, *message])
        except zmq.ContextTerminated:
            socket.close(linger=0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        context.term()
        thread.join(10)


def refusal(frames: list[bytes], code: str) -> list[bytes]:
    error = {"code": code, "message": f"{code} it is"}
    return [json.dumps({"v": 1, "id": json.loads(frames[0])["id"], "ok": False, "error": error}).encode()]


@pytest.mark.parametrize(
    ("code", "kind", "builtin"),
    [
        ("bad_request", bridge.BadRequest, ValueError),
        ("bad_channels", bridge.BadChannels, ValueError),
        ("too_large", bridge.TooLarge, ValueError),
        ("busy", bridge.ServerBusy, Exception),
        ("expired", bridge.Expired, TimeoutError),
        ("internal", bridge.ServerFault, Exception),
        ("stopping", bridge.ServerStopping, Exception),
        ("a code of tomorrow", bridge.ServerFault, Exception),
    ],
)
def test_every_code_has_its_exception(
    code: str, kind: type[Exception], builtin: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is worth asking again is asked once more; the pause after that would end past the deadline.
    monkeypatch.setattr("nflae_bridge.live.client.blocking.pauses", lambda: iter((0.01, math.inf)))
    with impostor(lambda frames: [refusal(frames, code)]) as address, Client(address, timeout=60) as client:
        with pytest.raises(kind, match=f"{code} it is") as raised:
            client.precode(channels(1, 2, 8))
        assert isinstance(raised.value, (bridge.BridgeError, NflaeError))
        assert isinstance(raised.value, builtin)


def test_nobody_there_is_told_when_time_is_up(free_port: int) -> None:
    with Client(f"tcp://127.0.0.1:{free_port}", timeout=0.3) as client:
        began = time.monotonic()
        with pytest.raises(bridge.NoAnswer, match=rf"127.0.0.1:{free_port}: no answer within 0.3 s; is `nflae serve`"):
            client.status()
        assert 0.3 <= time.monotonic() - began < 30
        with pytest.raises(TimeoutError):
            client.precode(channels(1, 2, 8), timeout=0.05)


def test_a_server_that_starts_late_is_waited_for(free_port: int) -> None:
    with Client(f"tcp://127.0.0.1:{free_port}", timeout=120) as client:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(client.precode(channels(1, 4, 32), scheme="rzf")))
        asking.start()
        with LiveServer(bind=f"tcp://127.0.0.1:{free_port}"):
            asking.join(120)
    np.testing.assert_allclose(answers[0].power, precode(channels(1, 4, 32), scheme="rzf").power)


def test_late_and_foreign_answers_are_thrown_away(server: LiveServer) -> None:
    with Client(server.address) as honest:
        right = honest.precode(channels(1, 2, 8), scheme="rzf")

    def answer(frames: list[bytes]) -> list[list[bytes]]:
        noise = [b"no json"], [b'{"id": 3}'], [b'{"v":1,"id":"somebody else","ok":true,"arrays":[]}'], [b""]
        return [*noise, ask(frames)]

    asked = zmq.Context.instance().socket(zmq.DEALER)
    asked.connect(server.address)

    def ask(frames: list[bytes]) -> list[bytes]:
        asked.send_multipart(frames)
        return list(asked.recv_multipart())

    with impostor(answer) as address, Client(address, timeout=60) as client:
        np.testing.assert_array_equal(client.precode(channels(1, 2, 8), scheme="rzf").power, right.power)
    asked.close()


def test_a_server_about_to_leave_is_asked_again_until_another_comes() -> None:
    times = []

    def answer(frames: list[bytes]) -> list[list[bytes]]:
        times.append(time.monotonic())
        if len(times) < 3:
            return [refusal(frames, "stopping")]
        status = {"v": 1, "id": json.loads(frames[0])["id"], "ok": True, "arrays": [], "status": {"model": "next"}}
        return [[json.dumps(status).encode()]]

    with impostor(answer) as address, Client(address, timeout=60) as client:
        assert client.status() == {"model": "next"}
    assert len(times) == 3


@pytest.mark.parametrize(
    "given", [np.ones((2, 8)), np.ones(8, complex), np.ones((1, 1, 2, 8), complex), np.ones((0, 2, 8), complex)]
)
def test_channels_of_a_wrong_kind_are_not_even_sent(given: np.ndarray, free_port: int) -> None:
    with Client(f"tcp://127.0.0.1:{free_port}") as client, pytest.raises(ValueError, match="complex"):
        client.precode(given)


@pytest.mark.parametrize(
    ("budget", "rule"),
    [
        ({"power": -1}, "power must be positive"),
        ({"power": 1e40}, "power must be positive and finite, within 300 dBW of 1 W, got 1e+40"),
        ({"noise_power": 0}, "noise_power must be positive"),
        ({"alpha_c": 1.5}, "alpha_c must be a share"),
        ({"min_rate": float("nan")}, "min_rate must be a rate"),
    ],
)
def test_a_link_budget_out_of_range_is_not_even_sent(budget: dict[str, float], rule: str, free_port: int) -> None:
    with (
        Client(f"tcp://127.0.0.1:{free_port}") as client,
        pytest.raises(bridge.BadRequest, match=re.escape(rule)),
    ):
        client.precode(channels(1, 4, 32), **budget)  # type: ignore[arg-type]


def test_one_drop_without_its_axis(server: LiveServer) -> None:
    H = channels(1, 4, 32)
    with Client(server.address) as client:
        np.testing.assert_array_equal(client.precode(H[0]).precoder, client.precode(H).precoder)


def test_layouts_and_receive_antennas_are_those_of_python(server: LiveServer) -> None:
    rng = np.random.default_rng(4)
    shape = (16, 2, 3, 5)  # transmit x receive antennas x users x drops, y = H x with H = array(:, :, k, s).'
    array = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    options: dict[str, str] = {"layout": "nrks", "convention": "direct", "receive_antennas": "eigen", "scheme": "rzf"}
    with Client(server.address) as client:
        served = client.precode(array, noise_power=0.1, **options)
        with pytest.raises(bridge.BadRequest, match="2 receive antennas per user"):
            client.precode(array, layout="nrks")
        with pytest.raises(bridge.BadRequest, match=r"name the axes of any other array, e\.g\. layout="):
            client.precode(array)
    local = precode(array, noise_power=0.1, **options)
    assert served.receive_combiner is not None
    assert np.array_equal(served.receive_combiner, local.receive_combiner)
    np.testing.assert_allclose(served.rate, local.rate, rtol=1e-5)


def test_a_default_noise_power_is_checked_against_the_channels(server: LiveServer) -> None:
    channels = 1e-6 * np.exp(2j * np.pi * np.random.default_rng(0).random((2, 3, 16)))
    with Client(server.address) as client:
        with pytest.raises(bridge.BadRequest, match=r"SNR of the median user is -88.0 dB .*pass noise_power in W"):
            client.precode(channels)
        assert client.precode(channels, noise_power=1e-13).rate.min() > 1


def test_addresses_and_timeouts_that_cannot_be() -> None:
    with pytest.raises(NflaeError, match="nowhere"):
        Client("nowhere")
    with pytest.raises(ValueError, match="timeout"):
        Client(timeout=0)


def test_a_closed_client_says_so(server: LiveServer) -> None:
    client = Client(server.address)
    client.close()
    client.close()
    with pytest.raises(bridge.BridgeError, match="closed"):
        client.status()


def test_threads_may_share_a_client(server: LiveServer) -> None:
    with Client(server.address) as client:
        drops = [channels(1, 4, 32, seed) for seed in range(12)]
        answers: list[np.ndarray | None] = [None] * len(drops)

        def ask(number: int) -> None:
            answers[number] = client.precode(drops[number], scheme="rzf").power

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(drops))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for H, power in zip(drops, answers, strict=True):
        np.testing.assert_allclose(power, precode(H, scheme="rzf").power)


def test_asyncio_many_at_a_time(server: LiveServer) -> None:
    drops = [channels(1, 4, 32, seed) for seed in range(50)]

    async def ask() -> list[np.ndarray]:
        async with AsyncClient(server.address) as client:
            status = await client.status()
            assert status["model"] == "tiny"
            results = await asyncio.gather(*(client.precode(H, scheme="rzf") for H in drops))
        return [result.power for result in results]

    for H, power in zip(drops, asyncio.run(ask()), strict=True):
        np.testing.assert_allclose(power, precode(H, scheme="rzf").power, rtol=1e-6)


def test_asyncio_errors(server: LiveServer, free_port: int) -> None:
    async def ask() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.raises(bridge.BadRequest, match="scheme"):
                await client.precode(channels(1, 4, 32), scheme="magic")
        async with AsyncClient(f"tcp://127.0.0.1:{free_port}", timeout=0.2) as client:
            with pytest.raises(bridge.NoAnswer):
                await client.status()
        with pytest.raises(bridge.BridgeError, match="closed"):
            await client.status()

    asyncio.run(ask())


def test_a_client_imports_no_torch() -> None:
    code = "import sys; from nflae_bridge import Client; assert not {'torch', 'h5py', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
