"""The GPU's three kernels against the engine's own computing: on a GPU, or without one in Triton's interpreter."""

# ruff: noqa: E402 - what is imported depends on the interpreter being asked for first

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

HERE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")

from nflae_bridge.engine.comparison import NEGLIGIBLE
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.triton_kernels import USERS, TritonKernels
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import load_model
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding
from tests.simulator.definitions import draw_channels

# The interpreter multiplies in single precision where a GPU's matrix units take TF32.
CLOSE = {"rtol": 1e-5, "atol": 1e-5} if HERE == "cpu" else {"rtol": 2e-2, "atol": 2e-2}


def kernels_answer(
    engine: Engine, channels: torch.Tensor, snr_db: float, refinements: int = 0
) -> tuple[torch.Tensor, ...]:
    kernels = TritonKernels.of(engine.network.to(HERE))
    assert kernels is not None
    drops, users, _ = channels.shape
    amplitude_scale = torch.full((drops,), 10 ** (snr_db / 20), dtype=torch.float64, device=HERE)
    precoder, table = kernels(channels.to(HERE), amplitude_scale, refinements, NEGLIGIBLE)
    return precoder.cpu(), *torch.split(table.cpu(), [users, users, users, 1, 1], -1)


def engine_answer(engine: Engine, channels: torch.Tensor, snr_db: float, refinements: int = 0) -> Precoding:
    """As computed in PyTorch."""
    engine.network.cpu()
    return engine.refined(refinements)(ChannelBatch(channels), LinkBudget(1.0, 10 ** (-snr_db / 10)))


def assert_alike(engine: Engine, channels: torch.Tensor, snr_db: float, refinements: int = 0) -> None:
    expected = engine_answer(engine, channels, snr_db, refinements)
    precoder, power_fractions, uplink, sinr, stands, fallback = kernels_answer(engine, channels, snr_db, refinements)
    torch.testing.assert_close(torch.log2(1 + sinr).sum(-1), expected.sum_rate, **CLOSE)
    torch.testing.assert_close(torch.linalg.vector_norm(precoder, dim=-1), torch.ones(precoder.shape[:2]))
    assert stands.all()
    if HERE == "cpu":
        torch.testing.assert_close(fallback[:, 0] > 0, expected.fallback)
        torch.testing.assert_close(power_fractions, expected.power, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(uplink, expected.uplink_power, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(precoder, expected.precoder, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module", params=["tiny", "small"])
def shipped(request: pytest.FixtureRequest) -> Engine:
    return Engine(load_model(request.param, torch.device("cpu")), backend="torch")


@pytest.mark.slow
@pytest.mark.parametrize(("users", "antennas"), [(1, 16), (3, 40), (10, 256), (USERS, 64)])
def test_the_kernels_give_the_engines_answer(shipped: Engine, users: int, antennas: int) -> None:
    drops = scenario("paper", users=users, antennas=antennas).draw(6, torch.Generator().manual_seed(users))
    assert_alike(shipped, drops.channels, 20.0)


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 40.0])
def test_at_every_snr(snr_db: float) -> None:
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    assert_alike(engine, draw_channels(4, users=5, antennas=24, drops=3, spread_db=20), snr_db)


@pytest.mark.parametrize("refinements", [1, 3])
def test_with_refinements(refinements: int) -> None:
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    assert_alike(engine, draw_channels(5, users=4, antennas=24, drops=3), 20.0, refinements)


def test_of_users_with_one_channel_one_is_served() -> None:
    channels = draw_channels(6, users=4, antennas=24, drops=2)
    channels[:, 1] = 1j * channels[:, 0]
    channels[1, 3] = channels[1, 2]
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    assert_alike(engine, channels, 20.0)
    _, power_fractions, *_ = kernels_answer(engine, channels, 20.0)
    assert power_fractions[1, :2].amin() < 1e-6
    assert power_fractions[1, 2:].amin() < 1e-6


def test_a_null_channel_and_an_untrained_network_do_no_harm() -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=32, layers=2, heads=2, attention="coherence")
    network = PrecodingNetwork(NetworkConfig(EncoderConfig(blocks=0, edge_width=16), backbone)).eval()
    engine = Engine(Checkpoint("untrained", network, {}), backend="torch")
    channels = draw_channels(7, users=3, antennas=24, drops=2)
    channels[0, 2] = 0
    precoder, power_fractions, _, sinr, *_ = kernels_answer(engine, channels, 10.0)
    assert precoder.isfinite().all()
    assert sinr.isfinite().all()
    torch.testing.assert_close(power_fractions.sum(-1), torch.ones(2, dtype=torch.float64))


def test_the_answer_without_redundant_users_is_taken_only_if_it_is_not_worse_by_more_than_rounding() -> None:
    """Users of equal gain a little apart: with two beams and with one, within the margin and beyond it."""
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="torch")
    channels = draw_channels(8, users=3, antennas=24, kind="near-parallel", drops=4)
    for snr_db in (-10.0, 10.0, 30.0):
        assert_alike(engine, channels, snr_db)


def test_networks_of_other_kinds_are_left_to_the_engine(make_network: Callable[..., PrecodingNetwork]) -> None:
    assert TritonKernels.of(make_network(kind="raw", antennas=12)) is None
    assert TritonKernels.of(make_network(head_width=8)) is None
