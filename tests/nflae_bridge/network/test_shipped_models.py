"""The checkpoints in the package do what docs/explanation/models.md says, on fewer drops and with room for chance."""

from __future__ import annotations

import pytest
import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.card import task_of_card
from nflae_bridge.network.shipped import load_model, model_folder, shipped_models
from simulator.channels.scenario import scenario
from simulator.csi.impairments import noisy_csi
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import check_constraints
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.schemes.wmmse import wmmse

CPU = torch.device("cpu")
DROPS = 120


@pytest.fixture(params=["tiny", "small"], scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(load_model(request.param, CPU))


def draw(users: int, antennas: int = 256, drops: int = DROPS, seed: int = 424_242) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + users + antennas)
    return scenario("paper", users, antennas).draw(drops, generator).channels


def test_all_are_shipped_and_auto_takes_the_one_for_the_device() -> None:
    precoders = {entry.name for entry in shipped_models() if task_of_card(entry.card) == "precode"}
    assert precoders == {"nano", "tiny", "small"}
    assert model_folder("auto", "cpu").name == "tiny"
    assert model_folder("auto", "cuda").name == "small"


@pytest.mark.parametrize(("users", "antennas"), [(5, 256), (8, 64), (10, 256), (10, 512), (16, 256)])
def test_sum_rate_is_that_of_converged_wmmse(engine: Engine, users: int, antennas: int) -> None:
    batch, budget = ChannelBatch(draw(users, antennas)), LinkBudget()
    answer = engine(batch, budget)
    ours = rates(achieved_sinr(batch.channels, answer.precoder, answer.power, budget.noise_power)).sum()
    assert float(ours / wmmse(batch, budget).sum_rate.sum()) > 0.995


@pytest.mark.slow
def test_sum_rate_under_constraints_is_near_the_optimisers(engine: Engine) -> None:
    budget = LinkBudget(alpha_c=0.4, min_rate=0.6)
    channels = draw(8, drops=60)
    answer = engine(ChannelBatch(channels), budget)
    best = optimise(ChannelBatch(channels, answer.near_field), budget, steps=150)
    both = answer.feasible & best.feasible
    assert float(both.double().mean()) > 0.9
    assert float(answer.sum_rate[both].sum() / best.sum_rate[both].sum()) > 0.99
    violated = check_constraints(channels, answer.precoder, answer.power, answer.near_field, budget)
    assert float(violated.near_share.max()) < 1e-5
    assert float(violated.min_rate[answer.feasible].max()) < 1e-5


def test_permuting_users_permutes_the_answer_and_phases_change_no_rate(engine: Engine) -> None:
    """Quarter turns: exact in complex64, so that what is left is ours. Users side by side are among the drops."""
    channels, order = draw(10, drops=400), torch.randperm(10, generator=torch.Generator().manual_seed(3))
    quarter = torch.tensor([1, 1j, -1, -1j])[torch.arange(10) % 4, None]
    engine(ChannelBatch(channels[:1]), LinkBudget())  # the first call may use another backend than the following
    answer = engine(ChannelBatch(channels), LinkBudget())
    permuted = engine(ChannelBatch(channels[:, order]), LinkBudget())
    turned = engine(ChannelBatch(channels * quarter), LinkBudget())
    torch.testing.assert_close(permuted.power, answer.power[:, order], rtol=0, atol=5e-5)
    torch.testing.assert_close(permuted.precoder, answer.precoder[:, order], rtol=0, atol=5e-5)
    torch.testing.assert_close(turned.rate, answer.rate, rtol=0, atol=2e-5)


@pytest.mark.parametrize("conjugated", [False, True], ids=["as simulated", "conjugated"])
def test_near_and_far_are_told_apart_from_noisy_csi(engine: Engine, conjugated: bool) -> None:
    """A spherical wave of either phase convention: files of rows h_k^H arrive conjugated."""
    generator = torch.Generator().manual_seed(99)
    drawn = scenario("paper", 10).draw(DROPS, generator)
    for snr_db, least in ((0.0, 0.945), (10.0, 0.975), (20.0, 0.985)):
        csi = noisy_csi(drawn.channels, snr_db, generator)
        labels = engine.near_field(csi.conj().resolve_conj() if conjugated else csi)
        assert float((labels == drawn.near_field).double().mean()) > least
