"""Arguments of both clients and of the history that are never sent: one line each, which names the argument."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nflae_bridge import AsyncClient, Client
from nflae_bridge.live import errors as bridge
from nflae_bridge.live.client import History
from nflae_bridge.live.client.requests import Deadline, SchemeChoice, make_request
from nflae_bridge.live.client.slots import SlotClient
from nflae_bridge.live.protocol.frames import decode_request, encode_request
from tests.channel_files import random_channels

HUGE = 10**400
LONG = np.zeros((2, 3, 4, 5, 6))
NO_TEXTS: tuple[Any, ...] = (1, True, 2.5, b"rzf", [], np.array(1), LONG, Path("x"), object())
NO_NUMBERS: tuple[Any, ...] = ("1", True, 1j, [], np.ones(3), LONG, HUGE, object(), np.datetime64("2026"))
NO_WHOLE_NUMBERS = (*NO_NUMBERS, 2.5, float("nan"))
NO_ARRAYS: tuple[Any, ...] = ("x", [[1], [2, 3]], object(), np.ma.masked_array([1.0], [True]))
NO_TIMEOUTS = (*NO_NUMBERS, 0, -1, 1e7, 1e20, 1e308, float("nan"), float("inf"), -float("inf"))
NO_PATHS: tuple[Any, ...] = (1, True, b"key", [], LONG, object())

PRECODING: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("layout", "convention", "receive_antennas"), NO_TEXTS),
    **dict.fromkeys(("power", "noise_power"), (*NO_NUMBERS, 0, -1, float("nan"), float("inf"))),
    "alpha_c": (*NO_NUMBERS, 0, 1.5, float("nan")),
    "min_rate": (*NO_NUMBERS, -1, float("nan")),
    "near_field": (*NO_ARRAYS, np.full((1, 3), 0.5), np.zeros(2)),
    "scheme": (None, *NO_TEXTS),
    "refine": (None, -1, HUGE, *NO_WHOLE_NUMBERS),
    "timeout": NO_TIMEOUTS,
}
PREDICTION: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("method", "geometry"), (None, *NO_TEXTS)),
    **dict.fromkeys(("layout", "convention", "receive_antennas"), NO_TEXTS),
    "times": (*NO_ARRAYS, [0.0, 1.0], np.arange(8) * 1j, [np.nan] * 8),
    "ahead": (None, 0, -1, 1000, HUGE, *NO_WHOLE_NUMBERS),
    "csi_snr_db": (*NO_NUMBERS, float("nan"), float("inf")),
    "force": (None, 1, "yes", LONG),
    "timeout": NO_TIMEOUTS,
}
CHANNELS: tuple[Any, ...] = (
    *(None, "H.mat", object(), 1, np.ones(3), np.ones((2, 3)), np.zeros((0, 3, 8), complex)),
    *(np.ones((1, 1, 3, 8), complex), LONG.astype(complex), [[1j], [1j, 2j]], np.ones((1, 200, 8), complex)),
)
CONSTRUCTION: dict[str, tuple[Any, ...]] = {
    "address": (None, *NO_TEXTS, "", "x", "tcp://h", "tcp://h:99999", "tcp://h:0", "tcp://*:5", "ipc://", "udp://h:5"),
    "timeout": (None, *NO_TIMEOUTS),
    "server_key": (*NO_PATHS, "no\0path", Path("/nonexistent.key"), Path("/")),
    "client_key": (*NO_PATHS, "no\0path"),
}


def check_one_line(raised: pytest.ExceptionInfo[BaseException], name: str) -> None:
    text = str(raised.value)
    assert name in text
    assert "\n" not in text
    assert len(text) < 400


def arguments_of(call: str) -> dict[str, Any]:
    channels = random_channels(1, 3, 8)
    return {"channels": channels} if call == "precode" else {"history": np.repeat(channels, 8, 0)}


TABLE = [
    *(("precode", name, values) for name, values in PRECODING.items()),
    *(("predict", name, values) for name, values in PREDICTION.items()),
    *(("predict_and_precode", name, values) for name, values in (PREDICTION | PRECODING).items()),
    ("precode", "channels", CHANNELS),
    ("predict", "history", CHANNELS),
    ("status", "timeout", NO_TIMEOUTS),
]


@pytest.mark.parametrize(("call", "name", "values"), TABLE, ids=[f"{call}-{name}" for call, name, _ in TABLE])
def test_arguments_that_are_not_sent(call: str, name: str, values: tuple[Any, ...], free_port: int) -> None:
    address = f"tcp://127.0.0.1:{free_port}"

    async def both() -> None:
        async with AsyncClient(address, timeout=0.01) as several:
            for value in values:
                arguments = ({} if call == "status" else arguments_of(call)) | {name: value}
                with pytest.raises(bridge.BadRequest) as raised:
                    await getattr(several, call)(**arguments)
                check_one_line(raised, "" if name in ("channels", "history", "layout", "convention") else name)
                with pytest.raises(bridge.BadRequest) as again:
                    getattr(client, call)(**arguments)
                assert str(again.value) == str(raised.value)

    with Client(address, timeout=0.01) as client:
        asyncio.run(both())


@pytest.mark.parametrize("name", CONSTRUCTION)
def test_arguments_without_a_connection(name: str, tmp_path: Path) -> None:
    other = {"server_key": "client_key", "client_key": "server_key"}.get(name)
    rest: dict[str, Any] = {} if other is None else {other: tmp_path / "none.key"}
    for value in CONSTRUCTION[name]:
        for kind in (Client, AsyncClient):
            with pytest.raises(bridge.BadRequest) as raised:
                kind(**{**rest, name: value})
            check_one_line(raised, "")


def test_one_key_alone_is_named(tmp_path: Path) -> None:
    for name in ("server_key", "client_key"):
        with pytest.raises(bridge.NflaeError, match="must be given together"):
            Client(**{name: tmp_path / "a.key"})


@pytest.mark.parametrize("name", ["length", "ahead"])
def test_numbers_of_a_history(name: str) -> None:
    for value in (None, 0, -1, HUGE, *NO_WHOLE_NUMBERS):
        with pytest.raises(bridge.BadRequest) as raised:
            History(**{name: value})
        check_one_line(raised, name)


def test_snapshots_and_times_of_a_history() -> None:
    history = History(4)
    snapshot = random_channels(1, 3, 8)[0]
    history.push(snapshot, 0.0)
    for bad in (*NO_ARRAYS, snapshot.real, snapshot[0], snapshot[:2], snapshot[:, :4], snapshot[None]):
        with pytest.raises(bridge.BadRequest) as raised:
            history.push(bad, 1.0)
        check_one_line(raised, "snapshot")
    for time in (*NO_NUMBERS, float("nan"), float("inf"), 0.0, -1.0, None):
        with pytest.raises(bridge.BadRequest) as raised:
            history.push(snapshot, time)
        check_one_line(raised, "time")
    assert len(history) == 1


def test_a_history_of_two_axes_is_refused() -> None:
    with Client("tcp://127.0.0.1:9") as client, pytest.raises(bridge.BadRequest, match=r"history \(8, 16\) has two"):
        client.predict(random_channels(8, 3, 16)[:, 0])


@pytest.mark.parametrize("quantity", ["power", "noise_power", "alpha_c", "min_rate"])
def test_a_quantity_that_changes_in_place_is_read_for_every_request(quantity: str) -> None:
    value: Any = torch.tensor(0.5, dtype=torch.float64)
    found = []
    for stated in (0.5, 0.25):
        value.fill_(stated)
        for options in (None, {"weights": [1, 2, 3]}):
            budget = {"noise_power": 1.0, quantity: value}
            request, _ = make_request(random_channels(1, 3, 8), None, budget, SchemeChoice(), options=options)  # type: ignore[arg-type]
            found.append(vars(decode_request(encode_request(request)))["budget"])
    assert [getattr(budget, quantity) for budget in found] == [0.5, 0.5, 0.25, 0.25]


def test_refinements_that_change_in_place_are_those_of_the_call() -> None:
    steps: Any = torch.tensor(2)
    choice = SchemeChoice(refine=steps)
    steps.fill_(3)
    assert (choice.refine, SchemeChoice(refine=steps).refine) == (2, 3)


def test_time_limits_of_numpy_become_numbers_of_python() -> None:
    for limit in (np.float32(0.5), np.float64(0.5), torch.tensor(0.5)):
        assert type(Deadline.after(limit).limit) is float  # type: ignore[arg-type]
    with Client("tcp://127.0.0.1:9", timeout=np.float32(0.05)) as client, pytest.raises(bridge.NoAnswer):  # type: ignore[arg-type]
        client.status(timeout=np.float32(0.05))  # type: ignore[arg-type]


def test_joint_receivers_are_no_treatment_of_a_history() -> None:
    history = np.ones((8, 2, 2, 4), complex)
    with (
        Client("tcp://127.0.0.1:9") as client,
        pytest.raises(bridge.BadRequest, match="receive_antennas must be 'each'"),
    ):
        client.predict(history, layout="skrn", convention="hermitian", receive_antennas="joint")


@pytest.mark.parametrize(("kind", "given"), [(Client, ()), (AsyncClient, ()), (SlotClient, (1.0,))])
def test_a_client_for_another_process_is_refused_with_the_remedy(
    kind: type[Any], given: tuple[float, ...], free_port: int
) -> None:
    client = kind(f"tcp://127.0.0.1:{free_port}", *given)
    try:
        with pytest.raises(TypeError, match=f"cannot be pickled: make a new {kind.__name__} in each process"):
            pickle.dumps(client)
    finally:
        closing = client.close()
        if closing is not None:
            asyncio.run(closing)
