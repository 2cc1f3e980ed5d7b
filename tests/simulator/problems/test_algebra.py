"""The optimal structure in NumPy against PyTorch's, on drops of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.shipped import SHIPPED
from simulator.downlink import structure
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import sinr
from simulator.problems import algebra, wmmse
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.problems.structured import inner_allocation
from simulator.problems.user_gram import UserGram
from simulator.schemes import scheme
from tests.simulator.definitions import KINDS, draw_channels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [1, 3])
def test_weighted_steps_are_pytorchs(kind: str, together: int) -> None:
    channels = draw_channels(1, users=4, antennas=16, kind=kind, spread_db=10, drops=6)
    gram = normalised_gram(channels, LinkBudget(2.0, 0.05))
    rng = np.random.default_rng(2)
    dual, power, weights = rng.dirichlet(np.ones(4), (3, 6))
    found = wmmse.wmmse_steps(gram.numpy(), dual / together, power / together, 3, weights, together)
    beams = structure.structured_beams(gram, torch.from_numpy(dual / together))
    step = torch.from_numpy(dual / together), beams, torch.from_numpy(power / together)
    for _ in range(3):
        step = structure.wmmse_step(gram, step[1], step[2], torch.from_numpy(weights), together)
    assert np.allclose(found[0], step[0], rtol=1e-6, atol=1e-9)
    assert np.allclose(found[2], step[2], rtol=1e-6, atol=1e-9)
    reached = algebra.sinr(found[1].effective_gains, found[2])
    assert np.allclose(reached, sinr(step[1].effective_gains, step[2]), rtol=1e-5, atol=1e-9)


def test_allocations_of_inner_products_are_those_of_channels() -> None:
    channels = draw_channels(3, users=5, antennas=32, spread_db=10, drops=70)
    budget = LinkBudget(2.0, 0.05)
    users = UserGram.of(channels.numpy(), 40.0)
    checkpoint = load_checkpoint(SHIPPED / "tiny")
    for inner in (scheme("wmmse:iterations=5"), Engine(checkpoint), Engine(checkpoint, backend="torch")):
        expected = inner(ChannelBatch(channels), budget)
        found = inner_allocation(inner, users.gram)
        assert np.allclose(2.0 * found.dual, expected.uplink_power, rtol=1e-3, atol=1e-4)
        assert np.allclose(2.0 * found.power, expected.power, rtol=1e-3, atol=1e-4)
    mrt = inner_allocation(scheme("mrt"), users.gram)
    assert np.array_equal(mrt.dual, mrt.power)


def test_users_are_selected_from_inner_products_in_overloaded_cells() -> None:
    """Six users at four antennas: the sum rate is that of the channels themselves, and a problem keeps the gain."""
    batch, budget = ChannelBatch(draw_channels(4, users=6, antennas=4, drops=40)), LinkBudget(1.0, 0.01)
    engine, gram = Engine(load_checkpoint(SHIPPED / "tiny")), UserGram.exact(batch.channels.numpy(), 100.0).gram

    def reached(antennas: int | None) -> float:
        found = inner_allocation(engine, gram, antennas)
        gains = algebra.structured_beams(gram, found.dual).effective_gains
        return float(np.log2(1 + algebra.sinr(gains, found.power)).sum(1).mean())

    assert reached(4) == pytest.approx(float(engine(batch, budget).sum_rate.mean()), rel=1e-3)
    assert reached(4) > 1.005 * reached(None)
    limited = PrecodingProblem(antenna_power=np.array([0.25]), total_power=False)
    selected = solve(batch, budget, limited, engine).objective
    unselected = solve(batch, budget, limited, lambda some, under: engine(some, under)).objective
    assert selected.mean() > 1.01 * unselected.mean()


@pytest.mark.parametrize("users", [1, 3, 8])
def test_beams_in_range_are_those_of_the_definition(users: int) -> None:
    gram = normalised_gram(draw_channels(4, users, 24, drops=5, spread_db=20), LinkBudget(1.0, 0.01)).numpy()
    dual = np.random.default_rng(4).random((5, users))
    dual[0, 0] = 0  # a user without lambda has the beam of its channel less the others' directions
    found = algebra.beams_in_range(gram, dual)
    for drop in range(5):
        coefficients = np.linalg.inv(np.eye(users) + np.diag(dual[drop]) @ gram[drop])
        received = gram[drop] @ coefficients
        energy = np.diag(coefficients.conj().T @ received).real
        np.testing.assert_allclose(found.coefficients[drop], coefficients, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.energy[drop], energy, rtol=1e-8)
        np.testing.assert_allclose(found.effective_gains[drop], np.abs(received) ** 2 / energy, rtol=1e-7, atol=1e-9)
