"""Predictions on the wire: answers are those of `predict`, faults are told before any work, both clients agree."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

from nflae_bridge import AsyncClient, BadChannels, BadRequest, Client, TooLarge, precode, predict
from nflae_bridge.live.client import History
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.frames import decode_request, encode_request
from nflae_bridge.live.protocol.headers import decode_request_header
from nflae_bridge.live.protocol.messages import PredictionOptions, PredictRequest
from nflae_bridge.live.server.admission import Admission
from nflae_bridge.live.server.computation.costs import PREDICTION, CostModel
from nflae_bridge.live.server.computation.sequences.prediction import Predictor
from nflae_bridge.live.server.settings import ServerSettings
from simulator.downlink.budget import LinkBudget
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.moving_users import moving_users

USERS, ANTENNAS, SNAPSHOTS = 3, 32, 16
HISTORY = moving_users(SNAPSHOTS, USERS, ANTENNAS)


def ask(address: str, array: npt.NDArray[Any], **fields: Any) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Any other program's request, spelt out; the header and the arrays in MATLAB's order."""
    header = {"v": 1, "id": "1", "op": "predict", "shape": array.shape[::-1]} | fields
    with zmq.Context.instance().socket(zmq.DEALER) as socket:
        socket.linger, socket.rcvtimeo = 0, 60_000
        socket.connect(address)
        socket.send_multipart([json.dumps(header).encode(), array.tobytes()])
        head, *frames = socket.recv_multipart()
    told = json.loads(head)
    arrays = {
        entry["name"]: np.frombuffer(frame, entry["dtype"]).reshape(entry["shape"], order="F")
        for entry, frame in zip(told.get("arrays", []), frames, strict=True)
    }
    return told, arrays


@pytest.mark.parametrize(
    "options",
    [{}, {"ahead": 8, "method": "hold"}, {"geometry": "panel:4x8", "method": "ar"}, {"csi_snr_db": 12.5, "ahead": 1}],
    ids=str,
)
def test_answers_are_those_of_python_bit_for_bit(server: LiveServer, options: dict[str, Any]) -> None:
    told, arrays = ask(server.address, HISTORY, **options)
    ours = predict(HISTORY, **options)
    assert told["ok"], told
    assert arrays["H"].shape == (ANTENNAS, USERS, options.get("ahead", 4))
    assert arrays["H"].T.tobytes() == ours.channels.tobytes()
    assert arrays["csi_error_db"].tobytes("F") == ours.csi_error_db.tobytes()
    assert [told["info"]["methods"][int(index) - 1] for index in arrays["method"][:, 0]] == list(ours.method)
    with Client(server.address) as client:
        theirs = client.predict(HISTORY, **options)
    assert (theirs.channels == ours.channels).all()
    assert theirs.method == ours.method


def test_rows_of_y_equals_h_x_come_back_as_such(server: LiveServer) -> None:
    _, arrays = ask(server.address, HISTORY.conj(), convention="direct")
    assert (predict(HISTORY).channels.conj() == arrays["H"].T).all()


def test_uneven_times_travel_with_the_history(server: LiveServer) -> None:
    times = [float(index) for index in range(SNAPSHOTS + 1) if index != 9]
    with Client(server.address) as client:
        found = client.predict(HISTORY, times, ahead=2)
    ours = predict(HISTORY, times, ahead=2)
    assert (found.channels == ours.channels).all()
    assert found.notes == ours.notes
    assert len(found.notes) > 0
    assert not np.array_equal(found.channels, predict(HISTORY, ahead=2).channels)


def test_precoders_are_those_for_the_predicted_channels(server: LiveServer) -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0]], bool)
    budget = {"power": 2.0, "noise_power": 0.3, "alpha_c": 0.7, "min_rate": 0.1}
    with Client(server.address) as client:
        found, result = client.predict_and_precode(
            HISTORY,
            ahead=2,
            scheme="wmmse",
            near_field=labels,
            **budget,  # type: ignore[arg-type]
        )
    expected = precode(predict(HISTORY, ahead=2).channels, scheme="wmmse", near_field=labels, **budget)  # type: ignore[arg-type]
    assert np.allclose(result.precoder, expected.precoder, atol=1e-6)
    assert np.allclose(result.sum_rate, expected.sum_rate)
    assert (result.near_field == labels).all()
    assert (found.channels == predict(HISTORY, ahead=2).channels).all()


def test_only_what_is_wanted_comes_back(server: LiveServer) -> None:
    told, arrays = ask(server.address, HISTORY, then="precode", want=["precoder", "csi_error_db"], scheme="mrt")
    assert list(arrays) == ["precoder", "csi_error_db"]
    assert told["info"]["scheme"] == "mrt"
    assert told["info"]["ahead"] == 4


def test_both_clients_agree(server: LiveServer) -> None:
    async def both() -> tuple[Any, Any]:
        async with AsyncClient(server.address) as client:
            return await asyncio.gather(
                client.predict(HISTORY, ahead=2), client.predict_and_precode(HISTORY, ahead=2, scheme="zf")
            )

    found, (again, result) = asyncio.run(both())
    assert (found.channels == again.channels).all()
    assert np.allclose(result.precoder, precode(found.channels, scheme="zf").precoder, atol=1e-6)


def swapped() -> npt.NDArray[np.complex64]:
    channels = HISTORY.copy()
    channels[9:, [0, 1]] = HISTORY[9:, [1, 0]]
    return channels


def without(snapshots: slice) -> npt.NDArray[np.complex64]:
    channels = HISTORY.copy()
    channels[snapshots, 1] = np.nan
    return channels


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (swapped(), "snapshot 10, user 2: is user 1"),
        (np.concatenate([HISTORY[:9], 100 * HISTORY[9:]]), r"snapshot 10, user 1: the gain changes by \+"),
        (without(slice(4, 9)), "snapshot 5, user 2: NaN"),
    ],
)
def test_what_is_no_sequence_is_refused_with_its_place(
    server: LiveServer, channels: npt.NDArray[np.complex64], message: str
) -> None:
    with Client(server.address) as client:
        with pytest.raises(BadChannels, match=message):
            client.predict(channels)
        if "gain" in message:
            assert "gain changes" in client.predict(channels, force=True).notes[0]


def test_gaps_up_to_a_quarter_are_filled_and_said(server: LiveServer) -> None:
    with Client(server.address) as client:
        found = client.predict(without(slice(4, 6)))
    assert found.notes == predict(without(slice(4, 6))).notes
    assert "2 such gaps are filled" in found.notes[0]
    assert np.isfinite(found.channels).all()


# Refused by the header alone


class Parts:
    """What admission needs of a device."""

    def __init__(self) -> None:
        self.costs = CostModel()
        self.costs.calibrate(PREDICTION, 1e-3, 0.1)
        self.costs.calibrate("mrt", 0.01, 0.03)
        self.check_prediction = Predictor("cpu").check

    def check_scheme(self, spec: str) -> None:
        if not spec:
            raise WireError("bad_request", "unknown scheme ''")


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"ahead": 9}, "bad_request", "9 snapshots ahead is beyond half the history of 16"),
        ({"ahead": 0}, "bad_request", r"\$.ahead"),
        ({"geometry": "panel:5x5"}, "bad_request", "panel:5x5 has 25 antennas, the channels have 32"),
        ({"geometry": "ring"}, "bad_request", "no geometry 'ring'"),
        ({"method": "magic"}, "bad_request", "no prediction method 'magic'"),
        ({"times": [1.0, 2.0]}, "bad_request", "2 times for a history of 16"),
        ({"noise_power": 0.5}, "bad_request", 'noise_power: for precoders only; add "then": "precode"'),
        ({"want": ["H", "rate"]}, "bad_request", 'rate: for precoders only; add "then": "precode"'),
        ({"then": "dance"}, "bad_request", r"\$.then.*allowed: precode"),
        ({"snapshots": 16}, "bad_request", "unknown field `snapshots`; allowed: .*csi_snr_db"),
        ({"then": "precode", "scheme": ""}, "bad_request", "unknown scheme ''"),
        ({"shape": [32, 3, 257]}, "bad_request", "at most 256"),
        ({"shape": [32, 129, 16]}, "too_large", "129 users"),
        ({"shape": [256, 32, 256]}, "too_large", "estimated to take .*shorter history"),
    ],
    ids=str,
)
def test_faults_are_told_before_the_history_arrives(fields: dict[str, Any], code: str, message: str) -> None:
    device: Any = Parts()
    header = {"v": 1, "id": "1", "op": "predict", "shape": [32, 3, 16]} | fields
    antennas, users, snapshots = header["shape"]  # type: ignore[misc]
    with pytest.raises(WireError, match=message) as caught:
        Admission(ServerSettings(), device).check_announced(
            b"1", [json.dumps(header).encode()], 8 * antennas * users * snapshots
        )
    assert caught.value.code == code


def test_the_estimate_has_both_parts_and_grows_with_the_history() -> None:
    costs = Parts().costs
    alone = costs.estimate((32, 256, None, 0, False, (16, 4, "auto", "none"), None), 4)
    both = costs.estimate((32, 256, "mrt", 0, False, (16, 4, "auto", "none"), None), 4)
    assert alone == pytest.approx(0.1, rel=1e-3)
    assert both - alone == pytest.approx(costs.estimate((32, 256, "mrt", 0, False, None, None), 4), rel=1e-3)
    growth = [
        costs.estimate((32, 256, None, 0, False, (P, 4, "auto", "line"), None), 4) / alone for P in (64, 128, 256)
    ]
    # Processor times of 2 to 8 users by 32 to 256 antennas, kalman or auto along a line, over those of 16 snapshots.
    assert growth[0] == pytest.approx(10, rel=0.1)  # 4 to 8
    assert growth[1] == pytest.approx(59, rel=0.1)  # 18 to 35
    assert growth[2] == pytest.approx(426, rel=0.1)  # 99 to 310


def test_the_longest_history_of_a_few_users_is_accepted() -> None:
    device: Any = Parts()
    header = {"v": 1, "id": "1", "op": "predict", "shape": [32, 4, 256]}
    Admission(ServerSettings(), device).check_announced(b"1", [json.dumps(header).encode()], 8 * 32 * 4 * 256)


@pytest.mark.parametrize(("scheme", "refine"), [("wmmse", 0), ("nflae", 2)])
def test_the_request_survives_the_wire(scheme: str, refine: int) -> None:
    request = PredictRequest(
        "7",
        HISTORY,
        LinkBudget(2.0, 0.5, 0.7, 0.25),
        "direct",
        scheme,
        refine,
        np.ones((2, USERS), bool),
        ("precoder", "H"),
        options=PredictionOptions(2, "ar", "line", 3.5, tuple(float(index) for index in range(16)), True, True),
    )
    got = decode_request([bytes(frame) for frame in encode_request(request)])
    assert isinstance(got, PredictRequest)
    assert got.options == request.options
    assert (got.channels == HISTORY).all()
    assert (got.near_field == request.near_field).all()
    for name in ("id", "budget", "convention", "scheme", "refine", "want", "deadline", "size"):
        assert getattr(got, name) == getattr(request, name), name


def test_fields_of_precode_are_listed_for_precode() -> None:
    with pytest.raises(WireError, match=r"unknown field `x`; allowed: .*receive_antennas"):
        decode_request_header([b'{"v":1,"id":"1","op":"precode","shape":[4,2],"x":1}'])


# The history of a client


def test_history_keeps_the_last_snapshots_and_their_gaps(server: LiveServer) -> None:
    history = History(SNAPSHOTS, ahead=4)
    history.push(None)
    assert len(history) == 0
    for index, snapshot in enumerate(moving_users(SNAPSHOTS + 4, USERS, ANTENNAS)):
        history.push(None if index == 7 else snapshot)
        assert history.ready == (index >= 7)
    assert len(history) == SNAPSHOTS
    expected = moving_users(SNAPSHOTS + 4, USERS, ANTENNAS)[4:]
    expected[3] = np.nan
    assert np.array_equal(history.snapshots, expected, equal_nan=True)
    with Client(server.address) as client:
        found = client.predict(history)
    assert (found.channels == predict(expected).channels).all()
    history.clear()
    assert not history.ready


def test_times_of_a_history_travel_with_it(server: LiveServer) -> None:
    history = History(SNAPSHOTS)
    times = [0.001 * index for index in range(SNAPSHOTS + 1) if index != 9]
    for time, snapshot in zip(times, HISTORY, strict=True):
        history.push(snapshot, time)
    with Client(server.address) as client:
        found = client.predict(history, ahead=2)
        with pytest.raises(BadRequest, match="times are part of a History"):
            client.predict(history, times)
    assert (found.channels == predict(HISTORY, times, ahead=2).channels).all()


@pytest.mark.parametrize(
    ("snapshot", "time", "message"),
    [
        (np.ones((USERS, 4), complex), 2.0, "3 users and 4 antennas follows ones of 3 and 32"),
        (np.ones((USERS, ANTENNAS)), 2.0, "complex"),
        (HISTORY[0], 1.0, "1 s follows one at 1 s"),
        (HISTORY[0], None, "with every snapshot"),
        (HISTORY[0], float("nan"), "finite"),
    ],
)
def test_what_does_not_continue_a_history_is_refused(snapshot: Any, time: float | None, message: str) -> None:
    history = History()
    history.push(HISTORY[0], 1.0)
    with pytest.raises(BadRequest, match=message):
        history.push(snapshot, time)
    assert len(history) == 1


def test_lengths_of_a_history_are_checked() -> None:
    with pytest.raises(BadRequest, match="predicts 2: give a length of 6"):
        History(5, ahead=3)
    with pytest.raises(BadRequest, match="length must be a whole number"):
        History(0)
    with pytest.raises(BadRequest, match="no snapshot yet"):
        _ = History().snapshots


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ahead": 2.5}, "ahead must be"),
        ({"csi_snr_db": "10"}, "csi_snr_db must be"),
        ({"method": 3}, "method must be"),
        ({"times": [1, 2]}, "times must be 16"),
        ({"ahead": 9}, "beyond half the history of 16"),
    ],
)
def test_clients_refuse_wrong_options(server: LiveServer, options: dict[str, Any], message: str) -> None:
    with Client(server.address) as client, pytest.raises(BadRequest, match=message):
        client.predict(HISTORY, **options)


def test_a_long_history_is_refused_in_time(server: LiveServer) -> None:
    with Client(server.address) as client, pytest.raises(TooLarge, match="shorter history"):
        client.predict(moving_users(256, 64, 65), geometry="line")
