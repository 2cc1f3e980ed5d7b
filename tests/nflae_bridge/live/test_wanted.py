"""Arrays that a client wants, precoders that it forms itself, and the effort of a call, at a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from click.testing import CliRunner

from matlab_io.result import RESULT_ARRAYS, Result
from nflae_bridge import AsyncClient, Client, precode
from nflae_bridge.cli.group import main
from nflae_bridge.live.client.requests import SchemeChoice, make_request
from nflae_bridge.live.client.results import NotRequested, PartialResult, form_precoder, with_wanted
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.frames import decode_request, encode_request
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import Job, batch_key
from nflae_bridge.network.shipped import EFFORTS
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.test_server import Peer


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer("--busy-poll", 200) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def channels(drops: int = 3, users: int = 4, antennas: int = 32, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    shape = (drops, users, antennas)
    return ((rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2 * antennas)).astype(np.complex64)


def test_only_the_wanted_arrays_are_there_bit_for_bit(client: Client) -> None:
    H = channels()
    whole = client.precode(H, noise_power=0.01)
    part = client.precode(H, noise_power=0.01, want=["precoder", "power", "uplink_power"])
    assert isinstance(part, Result)
    for name in ("precoder", "power", "uplink_power"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))
    for name in (entry.field for entry in RESULT_ARRAYS[3:]):
        assert not hasattr(part, name)
    with pytest.raises(NotRequested, match=r"^sinr was not requested: want names precoder, power, lambda; add 'sinr'$"):
        _ = part.sinr
    assert repr(part) == "PartialResult(drop 3, user 4, antenna 32: precoder, power, uplink_power)"
    with pytest.raises(AttributeError, match="no attribute 'presorter'"):
        _ = part.presorter  # type: ignore[attr-defined]


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
@pytest.mark.parametrize(
    "options", [{"effort": "fast"}, {"effort": "balanced"}, {}, {"scheme": "rzf"}, {"scheme": "wmmse", "alpha_c": 0.4}]
)
def test_precoder_formed_of_lambda_is_that_of_the_server(
    client: Client, convention: str, options: dict[str, Any]
) -> None:
    H = channels(5)
    H[0, 1] = H[0, 0] + 1e-3 * H[0, 2]  # nearly parallel
    H[1, 3] *= 1e-2
    whole = client.precode(H, noise_power=1e-3, convention=convention, **options)
    part = client.precode(H, noise_power=1e-3, convention=convention, want=["lambda", "power"], **options)
    assert set(vars(part)) == {"uplink_power", "power", "_request"}  # no precoder was sent
    np.testing.assert_allclose(part.precoder, whole.precoder, atol=1e-6)
    assert part.precoder is part.precoder
    assert not part.precoder.flags.writeable


def test_formed_precoder_maximises_the_virtual_uplink_sinr() -> None:
    H, duals = channels(1, 3, 8)[0].astype(complex), np.array([0.2, 0.0, 0.7])
    W = form_precoder(H[None].astype(np.complex64), duals[None])[0]
    for k in range(3):
        others = np.eye(8) + sum(duals[i] * np.outer(H[i], H[i].conj()) for i in range(3) if i != k)
        best = np.linalg.solve(others, H[k])
        np.testing.assert_allclose(W[k], best / np.linalg.norm(best), atol=1e-6)


def test_precoder_is_that_of_the_call_after_its_array_has_changed(client: Client) -> None:
    H = channels()
    whole = client.precode(H, noise_power=0.01)
    part = client.precode(H, noise_power=0.01, want=["lambda", "power"])
    H[:] = channels(seed=1)
    np.testing.assert_allclose(part.precoder, whole.precoder, atol=1e-6)


def test_arrays_of_other_problems_that_were_not_wanted_are_not_none(client: Client) -> None:
    hybrid = client.precode(channels(), noise_power=0.01, rf_chains=6, want=["precoder", "analog"])
    assert hybrid.analog is not None
    assert hybrid.receive_combiner is None
    with pytest.raises(NotRequested, match=r"^digital was not requested: want names precoder, analog; add 'digital'$"):
        _ = hybrid.digital
    H = np.stack([channels(), channels(seed=1)], 2)
    options: dict[str, Any] = {"layout": "skrn", "convention": "hermitian", "receive_antennas": "joint"}
    joint = client.precode(H, noise_power=0.01, want=["precoder"], **options)
    with pytest.raises(NotRequested, match="receive_combiner was not requested"):
        _ = joint.receive_combiner
    assert joint.analog is None


def test_want_holds_names(client: Client) -> None:
    with pytest.raises(BadRequest, match="want must be names of arrays, or None for all, got int 3"):
        client.precode(channels(), noise_power=0.01, want=3)  # type: ignore[arg-type]


def test_precoders_that_do_not_follow_from_lambda_are_not_formed(client: Client) -> None:
    part = client.precode(channels(), noise_power=0.01, scheme="zf", want=["lambda", "power"])
    with pytest.raises(NotRequested, match="precoders of scheme 'zf' do not follow from lambda; add 'precoder'"):
        _ = part.precoder
    weighted = client.precode(channels(), noise_power=0.01, weights=[1, 2, 3, 4], want=["lambda", "power"])
    with pytest.raises(NotRequested, match="precoders of this problem do not follow"):
        _ = weighted.precoder
    with pytest.raises(NotRequested, match=r"^precoder was not requested: want names power; add 'precoder'$"):
        _ = client.precode(channels(), noise_power=0.01, want="power").precoder


def test_combiners_of_receive_antennas_come_with_any_arrays(client: Client) -> None:
    H = np.stack([channels(), channels(seed=1)], 2)
    options: dict[str, Any] = {"layout": "skrn", "convention": "hermitian", "receive_antennas": "eigen"}
    whole = client.precode(H, noise_power=0.01, **options)
    part = client.precode(H, noise_power=0.01, want=["lambda", "receive_combiner"], **options)
    np.testing.assert_array_equal(part.receive_combiner, whole.receive_combiner)  # type: ignore[arg-type]
    np.testing.assert_allclose(part.precoder, whole.precoder, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [1, 2, 3, 4]])
@pytest.mark.parametrize("mode", ["strongest", "eigen"])
def test_combiners_may_be_named(server: LiveServer, mode: str, weights: list[int] | None) -> None:
    H = np.stack([channels(), channels(seed=1)], 2)  # drops, users, receive antennas, antennas
    options: dict[str, Any] = {"weights": weights} if weights else {}
    expected = precode(
        H, layout="skrn", convention="hermitian", receive_antennas=mode, noise_power=0.01, scheme="wmmse", **options
    )
    peer = Peer(server.address)
    common = {"receive_antennas": mode, "noise_power": 0.01, "scheme": "wmmse"} | options
    for want in (["receive_combiner"], ["receive_combiner", "power"], ["power", "receive_combiner", "sum_rate"]):
        header, arrays = peer.ask(H.transpose(3, 2, 1, 0), want=want, **common)
        assert header["ok"], header
        assert [entry["name"] for entry in header["arrays"]] == want
        np.testing.assert_array_equal(arrays["receive_combiner"], np.transpose(expected.receive_combiner))
        if "power" in want:
            np.testing.assert_allclose(arrays["power"], expected.power.T, rtol=1e-3, atol=1e-6)
    peer.socket.close()


def test_weights_are_those_of_the_receive_antennas_where_each_is_a_user(server: LiveServer) -> None:
    H, weights = np.stack([channels(), channels(seed=1)], 2), [1, 2, 3, 4, 5, 6, 7, 8]
    expected = precode(
        H,
        layout="skrn",
        convention="hermitian",
        receive_antennas="each",
        noise_power=0.01,
        scheme="wmmse",
        weights=weights,
    )
    peer = Peer(server.address)
    common = {"receive_antennas": "each", "noise_power": 0.01, "scheme": "wmmse", "want": ["sum_rate"]}
    header, arrays = peer.ask(H.transpose(3, 2, 1, 0), weights=weights, **common)
    assert header["ok"], header
    np.testing.assert_allclose(arrays["sum_rate"][0], expected.sum_rate, rtol=1e-3)
    header, _ = peer.ask(H.transpose(3, 2, 1, 0), weights=weights[:4], **common)
    assert header["error"]["message"].startswith("header: weights must hold one value for each of the 8 users")
    peer.socket.close()


def test_a_scheme_is_named_in_512_characters_at_most(server: LiveServer) -> None:
    peer = Peer(server.address)
    header, _ = peer.ask(channels().T, scheme=f"wmmse:iterations={'0' * 500}5")
    assert header["error"]["code"] == "bad_request"
    assert "512" in header["error"]["message"]
    peer.socket.close()


@pytest.mark.parametrize(
    ("want", "match"),
    [
        (["precoders"], "want names 'precoders': the arrays of this result are precoder, power, lambda"),
        (["analog"], "want names 'analog'"),
        (["lambda", "uplink_power"], "want names an array twice: lambda, lambda"),
        ([], "want names no array of the server"),
        ([1], "want must be a text"),
    ],
)
def test_names_that_cannot_be_wanted(client: Client, want: Any, match: str) -> None:
    with pytest.raises(BadRequest, match=match):
        client.precode(channels(), noise_power=0.01, want=want)


def test_asynchronous_client_has_the_same(server: LiveServer) -> None:
    async def call() -> Result:
        async with AsyncClient(server.address) as connected:
            return await connected.precode(channels(), noise_power=0.01, want=["lambda", "power"], effort="fast")

    part = asyncio.run(call())
    expected = precode(channels(), noise_power=0.01, effort="fast")
    np.testing.assert_allclose(part.precoder, expected.precoder, atol=1e-6)
    assert not hasattr(part, "rate")


# Effort


@pytest.mark.parametrize("effort", EFFORTS)
def test_effort_of_a_request_is_that_of_precode(server: LiveServer, client: Client, effort: Any) -> None:
    for _ in range(3):  # the backend of a network may change after its first batch
        expected = precode(channels(), noise_power=0.01, effort=effort)
        result = client.precode(channels(), noise_power=0.01, effort=effort)
        np.testing.assert_allclose(result.sum_rate, expected.sum_rate, rtol=1e-6)
    header, _ = Peer(server.address, zmq.DEALER).ask(channels().T, effort=effort)
    assert (header["info"]["model"], header["info"]["refine"]) == (
        EFFORTS[effort][0].replace("auto", "tiny"),
        EFFORTS[effort][1],
    )


def test_effort_of_a_server_holds_for_requests_without_one() -> None:
    device = Device("auto", "cpu", "balanced")
    given: list[dict[str, Any]] = [{}, {"effort": "fast"}, {"refine": 3}]
    chosen = [device.info(PrecodeRequest("", channels(), **fields)) for fields in given]
    assert [(info["model"], info["refine"]) for info in chosen] == [EFFORTS["balanced"], EFFORTS["fast"], ("nano", 3)]
    request = PrecodeRequest("", channels(), want=("sum_rate",))
    (answer,) = device.compute([Job([b"0"], request, 0.0)])
    assert isinstance(answer.outcome, dict)
    expected = precode(channels(), noise_power=0.01, effort="balanced").sum_rate
    np.testing.assert_allclose(answer.outcome["sum_rate"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--effort", "fast", "--model", "tiny"], "effort 'fast' chooses model and refinement"),
        (["--effort", "slow"], "'slow' is not one of"),
        (["--busy-poll", "1000001"], "--busy-poll"),
        (["--busy-poll", "-1"], "--busy-poll"),
    ],
)
def test_options_of_the_server_out_of_range_are_usage_errors(options: list[str], match: str) -> None:
    answer = CliRunner().invoke(main, ["serve", *options])
    assert answer.exit_code == 2
    assert match in " ".join(answer.output.split())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"scheme": "zf", "refine": 2}, "refine 2 applies to scheme 'nflae' only; leave it out with scheme 'zf'"),
        ({"objective": "max-min", "refine": 1}, "refine 1 has no effect on the objective max-min"),
        ({"objective": "max-min", "effort": "fast"}, "effort 'fast' has no effect on the objective max-min"),
    ],
    ids=str,
)
def test_fields_of_the_network_without_effect_are_refused(
    server: LiveServer, client: Client, given: Any, match: str
) -> None:
    with pytest.raises(BadRequest, match=match):
        client.precode(channels(), noise_power=0.01, **given)
    header, _ = Peer(server.address, zmq.DEALER).ask(channels().T, **given)
    assert (header["error"]["code"], match in header["error"]["message"]) == ("bad_request", True)


def test_effort_excludes_refinement_and_other_schemes(server: LiveServer, client: Client) -> None:
    for given, match in (({"refine": 1}, "leave out refine 1"), ({"scheme": "zf"}, "leave out scheme 'zf'")):
        with pytest.raises(BadRequest, match=match):
            client.precode(channels(), effort="fast", **given)
        header, _ = Peer(server.address, zmq.DEALER).ask(channels().T, effort="fast", **given)
        assert match in header["error"]["message"]
    with pytest.raises(BadRequest, match="unknown effort 'slow': expected fast, balanced, best"):
        client.precode(channels(), effort="slow")  # type: ignore[arg-type]
    header, _ = Peer(server.address, zmq.DEALER).ask(channels().T, effort="slow")
    assert header["error"]["message"].endswith("allowed: fast, balanced, best")


def test_requests_of_different_effort_are_not_computed_together() -> None:
    keys = {batch_key(PrecodeRequest("", channels(), effort=effort)) for effort in (None, "fast", "best")}  # type: ignore[arg-type]
    assert len(keys) == 3


def test_wanted_names_and_effort_on_the_wire() -> None:
    request, _ = make_request(channels(), None, {"noise_power": 0.01}, SchemeChoice(effort="balanced"))
    sent = decode_request([bytes(frame) for frame in encode_request(with_wanted(request, ["uplink_power"], False))])
    assert isinstance(sent, PrecodeRequest)
    assert (sent.want, sent.effort) == (("lambda",), "balanced")


# Stages


def test_stages_of_an_answer_sum_up_to_its_time(server: LiveServer) -> None:
    peer = Peer(server.address, zmq.DEALER)
    for size in (1, 200):
        times = peer.ask(channels(size).T)[0]["timing_us"]
        assert list(times) == ["decode", "queue", "check", "compute", "encode", "total"]
        assert min(times.values()) >= 0
        assert times["check"] < times["compute"]
        stages = sum(times[name] for name in ("decode", "queue", "compute", "encode"))
        assert abs(stages - times["total"]) <= 4  # each is rounded


def test_partial_results_of_many_drops_are_formed_in_parts() -> None:
    H = channels(150)
    request, _ = make_request(H, None, {"noise_power": 0.01}, SchemeChoice())
    duals = np.full((150, 4), 0.25)
    part = PartialResult({"lambda": duals}, request)
    np.testing.assert_array_equal(part.precoder[149], form_precoder(H[149:], duals[149:] / 0.01)[0])
