"""Precoding problems over the wire: the results of `precode`, to the last bit, and refusals before any work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import zmq

from matlab_io.result import OPTIONAL_ARRAYS, RESULT_ARRAYS, RESULT_NAMES, Result
from nflae_bridge import AsyncClient, Client, precode
from nflae_bridge.live.errors import BadRequest, TooLarge, WireError
from nflae_bridge.live.protocol.binary import announced_bytes
from nflae_bridge.live.protocol.frames import decode_request, encode_request
from nflae_bridge.live.protocol.headers import decode_request_header
from nflae_bridge.live.protocol.messages import PLAIN, PrecodeRequest
from nflae_bridge.live.server.computation.costs import CostModel
from nflae_bridge.live.server.computation.micro_batches import announced_key, batch_key
from nflae_bridge.live.server.computation.problems import trial_name
from simulator.problems.problem import PrecodingProblem
from tests.nflae_bridge.live.live_server import LiveServer
from tests.octave_session import require_zeromq, run_octave

RNG = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return ((RNG.normal(size=shape) + 1j * RNG.normal(size=shape)) / np.sqrt(32)).astype(np.complex64)


H, F, R = draw(6, 3, 16), draw(2, 3, 3, 16), draw(4, 3, 2, 16)
JOINT = {"layout": "skrn", "convention": "hermitian", "receive_antennas": "joint"}
LIMITS = RNG.uniform(0.01, 0.1, 16)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer("--max-users", 6) as running:
        yield running


def assert_equal(found: Result, expected: Result) -> None:
    for name, value in vars(expected).items():
        other = getattr(found, name)
        assert (other is None) == (value is None), name
        if value is not None:
            assert other.shape == value.shape, name
            assert np.array_equal(other, value, equal_nan=value.dtype != bool), name


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (H, {"weights": [8, 1, 1], "scheme": "wmmse:iterations=20"}),
        (H, {"weights": RNG.uniform(0.1, 5, (6, 3)), "alpha_c": 0.9}),
        (H, {"objective": "proportional-fair", "window": 3, "scheme": "rzf"}),
        (H, {"power_per_antenna": 0.05}),
        (H, {"power_per_antenna": LIMITS, "antenna_groups": 4, "power": 0.5, "scheme": "rzf"}),
        (H, {"rf_chains": 4, "phase_bits": 3}),
        (H, {"rf_chains": 4, "connection": "sub", "scheme": "rzf"}),
        (R, {**JOINT, "scheme": "rzf"}),
        (R, {**JOINT, "streams": 1, "scheme": "bd"}),
        (F, {"layout": "sfkn", "convention": "hermitian", "power_scope": "total", "power": 3.0}),
    ],
)
def test_answers_are_those_of_precode_to_the_last_bit(server: LiveServer, channels: np.ndarray, options: Any) -> None:
    precode(channels, noise_power=0.1, **options)  # the first call of the network is on another backend
    expected = precode(channels, noise_power=0.1, **options)
    with Client(server.address) as client:
        assert_equal(client.precode(channels, noise_power=0.1, **options), expected)

    async def call() -> Result:
        async with AsyncClient(server.address) as other:
            return await other.precode(channels, noise_power=0.1, **options)

    assert_equal(asyncio.run(call()), expected)


def exchange(server: LiveServer, header: dict[str, Any], *frames: bytes) -> tuple[dict[str, Any], list[bytes]]:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(server.address)
        message = {"v": 1, "id": "7", "op": "precode", "noise_power": 0.1, **header}
        socket.send_multipart([json.dumps(message).encode(), *frames])
        assert socket.poll(60_000)
        head, *arrays = socket.recv_multipart()
        return json.loads(head), arrays


def test_arrays_that_are_wanted_and_those_that_are_not_there(server: LiveServer) -> None:
    hybrid = {"shape": [16, 3, 6], "rf_chains": 4, "scheme": "rzf"}
    answer, frames = exchange(server, {**hybrid, "want": ["analog", "sum_rate"]}, H.tobytes())
    assert [(each["name"], each["shape"]) for each in answer["arrays"]] == [
        ("analog", [16, 4, 6]),
        ("sum_rate", [1, 6]),
    ]
    expected = precode(H, noise_power=0.1, rf_chains=4, scheme="rzf")
    assert frames[0] == expected.analog.tobytes()  # type: ignore[union-attr]
    assert answer["info"]["problem"] == ["hybrid array"]
    answer, _ = exchange(server, hybrid, H.tobytes())
    assert [each["name"] for each in answer["arrays"]] == [*RESULT_NAMES, "analog", "digital"]
    answer, _ = exchange(server, {"shape": [16, 3, 6], "want": ["analog"], "scheme": "rzf"}, H.tobytes())
    assert answer["error"]["message"] == "want names analog, which the result of this problem does not have"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rf_chains": 2}, "rf_chains must be from 3, the number of streams, to 16"),
        ({"rf_chains": 4, "phase_bits": 0}, "phase_bits must be a whole number of at least 1, got 0"),
        ({"weights": [1, -1, 1]}, "weights must be finite and not negative; value 2 is -1"),
        ({"weights": [1, 1]}, "weights must hold one value for each of the 3 users"),
        ({"objective": "max-min", "rf_chains": 4}, "hybrid array + max-min cannot be solved together"),
        ({"objective": "fairness"}, "allowed: sum-rate, max-min, proportional-fair"),
        ({"scheme": "omp"}, "scheme omp solves hybrid array only; the problem has none of it"),
        ({"rf_chains": 4, "scheme": "bd"}, "scheme bd does not solve hybrid array; there are nflae, wmmse"),
        ({"rf_chains": 4, "scheme": "wmmse:sweep=3"}, "sweep"),
        ({"power_scope": "total"}, "subcarriers, the drops that share the power, belong together"),
        ({"power_scope": "total", "subcarriers": 4}, "subcarriers must divide the 6 drops, got 4"),
    ],
)
def test_what_cannot_be_solved_is_refused(server: LiveServer, options: dict[str, Any], words: str) -> None:
    answer, frames = exchange(server, {"shape": [16, 3, 6], **options}, H.tobytes())
    assert (answer["error"]["code"], frames) == ("bad_request", [])
    assert words in answer["error"]["message"]


def test_limits_of_the_server_count_streams_and_iterations(server: LiveServer) -> None:
    with Client(server.address) as client:
        with pytest.raises(TooLarge, match="8 users"):
            client.precode(draw(1, 4, 2, 16), **JOINT, noise_power=0.1)
        client.precode(H, noise_power=0.1, rf_chains=4, scheme="pe-altmin")  # with its trials
        with pytest.raises(TooLarge, match="--max-seconds"):
            client.precode(H, noise_power=0.1, rf_chains=4, scheme="pe-altmin:iterations=10000")
        with pytest.raises(BadRequest, match="not negative"):
            client.precode(H, noise_power=0.1, weights=[1, -1, 1])


@pytest.mark.parametrize(
    ("shape", "options", "sizes"),
    [
        ([16, 3, 6], {}, [16 * 3 * 6 * 8]),
        ([16, 3, 6], {"weights": True, "near_field": True}, [16 * 3 * 6 * 8, 18, 8 * 18]),
        ([16, 2, 3, 4], {"receive_antennas": "each", "near_field": True}, [16 * 2 * 3 * 4 * 8, 24]),
        ([16, 2, 3, 4], {"receive_antennas": "joint", "near_field": True}, [16 * 2 * 3 * 4 * 8, 12]),
    ],
)
def test_frames_are_announced_with_their_sizes(shape: list[int], options: dict[str, Any], sizes: list[int]) -> None:
    header = {"v": 1, "id": "7", "op": "precode", "shape": shape, **options}
    assert announced_bytes(decode_request_header([json.dumps(header).encode()])) == sizes


@pytest.mark.parametrize(
    "problem",
    [
        PLAIN,
        PrecodingProblem(weights=np.array([1.0, 2, 0.1])),
        PrecodingProblem(weights=RNG.uniform(0.1, 1, (6, 3))),
        PrecodingProblem(antenna_power=LIMITS, antenna_groups=2, total_power=False),
        PrecodingProblem(rf_chains=8, phase_bits=2, connection="sub"),
        PrecodingProblem(objective="proportional-fair", window=2),
        PrecodingProblem(power_scope="total", subcarriers=3),
        PrecodingProblem(joint_receivers=True, streams=1),
    ],
)
def test_a_problem_survives_the_wire_and_has_one_key(problem: PrecodingProblem) -> None:
    joint = problem.joint_receivers
    request = PrecodeRequest("7", draw(6, 3, 2, 16) if joint else H, problem=problem)
    request = PrecodeRequest(**(vars(request) | {"receive_antennas": "joint"})) if joint else request
    frames = encode_request(request)
    found = decode_request(frames)
    assert isinstance(found, PrecodeRequest)
    described, expected = found.problem.describe(), problem.describe()
    assert described.keys() == expected.keys()
    assert all(np.array_equal(described[name], expected[name]) for name in expected)
    header = decode_request_header(frames)
    assert announced_key(header)[0] == batch_key(found)  # type: ignore[arg-type]
    if not problem.total_power:
        assert found.budget.power == pytest.approx(LIMITS.sum())


def test_times_grow_with_streams_chains_and_iterations_and_have_trials_of_their_own() -> None:
    costs = CostModel()

    def key(problem: PrecodingProblem, scheme: str = "wmmse", users: int = 4) -> Any:
        shape = (2, users, 2, 32) if problem.joint_receivers else (2, users, 32)
        return batch_key(PrecodeRequest("", np.ones(shape, np.complex64), scheme=scheme, problem=problem))

    hybrid, joint = PrecodingProblem(rf_chains=4), PrecodingProblem(joint_receivers=True)
    assert costs.untried(key(hybrid)) == ["hybrid array/wmmse"] == [trial_name(key(hybrid)[5], "wmmse:sweeps=3")]
    for name in ("hybrid array/wmmse", "receive antennas/wmmse"):
        costs.calibrate(name, 0.01, 0.1)
    assert not costs.untried(key(joint))
    plain = costs.estimate(key(hybrid), 1)
    assert costs.estimate(key(hybrid, "wmmse:sweeps=300"), 1) == pytest.approx(10 * plain)
    assert costs.estimate(key(PrecodingProblem(rf_chains=16)), 1) > 3 * plain
    assert costs.estimate(key(joint, users=8), 1) > 3 * costs.estimate(key(joint, users=2), 1)
    with pytest.raises(WireError, match="--max-seconds"):
        costs.check(key(hybrid, "wmmse:sweeps=10000"), 1, 1.0)


OCTAVE_CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("H", "'weights', [8 1 1], 'Scheme', 'rzf'", {"weights": [8, 1, 1], "scheme": "rzf"}),
    ("H", "'Weights', a", {"weights": "a"}),
    ("H", "'Objective', 'proportional-fair', 'Window', 3", {"objective": "proportional-fair", "window": 3}),
    (
        "H",
        "'PowerPerAntenna', b, 'AntennaGroups', 4, 'Power', 0.5, 'Scheme', 'rzf'",
        {"power_per_antenna": "b", "antenna_groups": 4, "power": 0.5, "scheme": "rzf"},
    ),
    ("H", "'RfChains', 4, 'PhaseBits', 3", {"rf_chains": 4, "phase_bits": 3}),
    ("R", "'Layout', 'nrks', 'ReceiveAntennas', 'joint', 'Scheme', 'rzf'", {**JOINT, "scheme": "rzf"}),
    (
        "F",
        "'Layout', 'nkfs', 'PowerScope', 'total', 'Power', 3, 'Scheme', 'zf'",
        {"layout": "sfkn", "convention": "hermitian", "power_scope": "total", "power": 3.0, "scheme": "zf"},
    ),
]


@pytest.mark.octave
def test_octave_receives_the_same(server: LiveServer, tmp_path: Path) -> None:
    require_zeromq()
    arrays = {"H": H, "R": R, "F": F, "a": RNG.uniform(0.1, 5, (6, 3)), "b": LIMITS}
    scipy.io.savemat(tmp_path / "in.mat", {name: values.T for name, values in arrays.items()})
    lines = [f"load in.mat; c = nflae.Client('{server.address}', 'Timeout', 120);"]
    for index, (name, options, _) in enumerate(OCTAVE_CASES):
        lines += [
            f"r = c.precode({name}, 'NoisePower', 0.1, {options});",
            f"save('-v7', 'out{index}.mat', '-struct', 'r');",
        ]
    lines.append("r = c.precode(H, 'RfChains', 4, 'Scheme', 'rzf', 'Want', {'digital'});")
    lines.append(
        "assert(isequal(sort(fieldnames(r)), {'digital'; 'nflae_info'}) && isequal(size(r.digital), [4 3 6]));"
    )
    bad = ("'RfChains', 2", "'Weights', [1 2]", "'PowerScope', 'total'", "'Objective', 'max-min', 'Streams', 2")
    for options in bad:
        lines.append(f"try, c.precode(H, {options}); disp('none'); catch e, disp(e.identifier); end")
    assert run_octave("\n".join(lines), tmp_path).split() == ["nflae:badRequest"] * len(bad)
    for index, (name, _, options) in enumerate(OCTAVE_CASES):
        given = {key: arrays.get(str(value), value) for key, value in options.items()}
        precode(arrays[name], noise_power=0.1, **given)
        expected = precode(arrays[name], noise_power=0.1, **given)
        found = scipy.io.loadmat(tmp_path / f"out{index}.mat")
        for entry in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS):
            values = getattr(expected, entry.field)
            assert (values is None) == (entry.name not in found), (index, entry.name)
            if values is not None:
                expected_here = np.atleast_2d(values.T)
                assert np.array_equal(found[entry.name], expected_here, equal_nan=values.dtype != bool), (
                    index,
                    entry.name,
                )
