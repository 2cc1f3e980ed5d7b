"""Weights beside limits of antennas, hybrid hardware and one power over subcarriers, against numerical searches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.combinations import solving_schemes
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem, ProblemError
from simulator.problems.violations import is_below, violates_limits
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

NOISE = 0.1
STARTS, STEPS = 12, 300
WEIGHTS = np.array([[4.0, 1, 0.5], [0.2, 2, 1], [1, 1, 6], [3, 0.5, 0.5]])
CASES = {
    "antennas": PrecodingProblem(weights=WEIGHTS, antenna_power=np.array([0.1, 0.3, 0.2, 0.2, 0.1, 0.1])),
    "groups": PrecodingProblem(
        weights=WEIGHTS, antenna_power=np.array([0.1, 0.3, 0.2, 0.2, 0.1, 0.1]), antenna_groups=2, total_power=False
    ),
    "subcarriers": PrecodingProblem(weights=WEIGHTS, power_scope="total", subcarriers=2),
    "hybrid": PrecodingProblem(weights=WEIGHTS, rf_chains=4),
}


@pytest.fixture(scope="module")
def inner() -> Scheme:
    return scheme("wmmse:iterations=30")


def programmed(channels: Tensor, problem: PrecodingProblem, power: float) -> Tensor:
    """Best objective of sequential quadratic programming on the entries of the beams, float64 (drops,)."""
    assert problem.antenna_power is not None
    assert problem.weights is not None
    rng, size = np.random.default_rng(0), problem.antenna_groups or 1
    limits = problem.antenna_power.reshape(-1, size).sum(-1)
    best = torch.full((len(channels),), -torch.inf, dtype=torch.float64)
    for drop, h in enumerate(channels.to(torch.complex128)):
        users, antennas = h.shape
        weights = torch.as_tensor(problem.weights[drop])

        def loss(entries: np.ndarray, h: Tensor = h, weights: Tensor = weights) -> tuple[float, np.ndarray]:
            free = torch.from_numpy(entries).requires_grad_()
            gains = (h.conj() @ torch.view_as_complex(free.reshape(*h.shape, 2)).mT).abs().square()
            own = gains.diagonal()
            value = -(weights * torch.log2(1 + own / (NOISE + gains.sum(-1) - own))).sum()
            value.backward()  # type: ignore[no-untyped-call]
            assert free.grad is not None
            return float(value.detach()), free.grad.numpy()

        def slack(entries: np.ndarray, antennas: int = antennas) -> np.ndarray:
            used = (entries.reshape(-1, antennas, 2) ** 2).sum((0, 2))
            left = limits - used.reshape(-1, size).sum(-1)
            return np.append(left, power - used.sum()) if problem.total_power else left

        for _ in range(STARTS // 3):
            start = 0.2 * rng.normal(size=2 * users * antennas)
            rule = {"type": "ineq", "fun": slack}
            found = minimize(loss, start, jac=True, method="SLSQP", constraints=[rule], options={"maxiter": 100})
            for factor in (1.0, 1 - 1e-6, 1 - 1e-4, 1 - 1e-2):  # the limits are met up to the tolerance of the solver
                if slack(factor * found.x).min() >= -1e-12:
                    best[drop] = max(float(best[drop]), -loss(factor * found.x)[0])
                    break
    return best


def ascended(channels: Tensor, problem: PrecodingProblem, power: float) -> Tensor:
    """Best objective of gradient ascent on the entries of the beams, and on phases, from random starts, (drops,)."""
    drops, users, antennas = channels.shape
    generator = torch.Generator().manual_seed(0)
    together, h = problem.drops_together, channels.to(torch.complex128)
    weights = torch.as_tensor(problem.weights)
    chains = problem.rf_chains or 1
    shape = (STARTS, drops, users, chains if problem.rf_chains else antennas)
    free = (0.1 * torch.randn(*shape, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    phase = (6.3 * torch.rand(STARTS, drops, chains, antennas, generator=generator)).double().requires_grad_()
    optimiser = torch.optim.Adam([free, phase], lr=0.05)
    best = torch.full((drops,), -torch.inf, dtype=torch.float64)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / STEPS) + 1e-3
        beams = torch.view_as_complex(free)
        if problem.rf_chains:
            beams = beams @ torch.polar(torch.ones_like(phase), phase)
        total = beams.abs().square().sum((-2, -1), keepdim=True)
        total = total.unflatten(1, (-1, together)).sum(2).repeat_interleave(together, 1)
        gains = (h.conj() @ (beams * (power / total).sqrt()).mT).abs().square()
        own = gains.diagonal(dim1=-2, dim2=-1)
        value = (weights * torch.log2(1 + own / (NOISE + gains.sum(-1) - own))).sum(-1)
        if problem.drops_together > 1:
            value = (
                value.unflatten(1, (-1, problem.drops_together)).sum(-1).repeat_interleave(problem.drops_together, 1)
            )
        best = torch.maximum(best, value.detach().amax(0))
        optimiser.zero_grad()
        (-value.sum()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return best


@pytest.mark.parametrize("name", CASES)
def test_every_scheme_near_the_optimum_of_a_search(inner: Scheme, name: str) -> None:
    problem, channels = CASES[name], draw_channels(11, users=3, antennas=6, drops=4)
    power = 0.8
    budget, batch = LinkBudget(power if problem.total_power else 1.0, NOISE), ChannelBatch(channels)
    reference = (ascended if problem.antenna_power is None else programmed)(channels, problem, power)
    textbook = solve(batch, budget, problem, inner, "rzf")
    for spec, least in (("nflae", 0.985), ("wmmse", 0.998)):
        found = solve(batch, budget, problem, inner, spec)
        ratio = (found.objective / reference).numpy()
        assert ratio.min() > least
        assert ratio.max() < 1.001
        assert not violates_limits(found, budget, problem).any()
        measured = rates(achieved_sinr(channels, found.precoder, found.power, NOISE))
        value = (torch.from_numpy(WEIGHTS) * measured).sum(-1)
        together = problem.drops_together
        value = value.reshape(-1, together).sum(-1).repeat_interleave(together)
        assert torch.allclose(value, found.objective, rtol=1e-4)
        if spec == "nflae":
            assert not is_below(found, textbook).any()
    assert (textbook.objective < 0.99 * reference).any()


def test_classical_hybrids_take_weights_and_the_rest_is_refused(inner: Scheme) -> None:
    problem, batch = CASES["hybrid"], ChannelBatch(draw_channels(11, users=3, antennas=6, drops=4))
    assert solving_schemes(problem) == ("nflae", "wmmse", "omp", "pe-altmin", "rzf")
    best = solve(batch, LinkBudget(0.8, NOISE), problem, inner, "wmmse").objective
    plain = PrecodingProblem(rf_chains=4)
    for spec in ("omp", "pe-altmin"):
        found = solve(batch, LinkBudget(0.8, NOISE), problem, inner, spec)
        assert (found.objective < best * 1.001).all()
        unweighted = solve(batch, LinkBudget(0.8, NOISE), plain, inner, spec)
        assert found.objective.mean() > (torch.from_numpy(WEIGHTS) * rates(unweighted.sinr)).sum(-1).mean() * 1.05
    joint = PrecodingProblem(weights=WEIGHTS, joint_receivers=True)
    with pytest.raises(ProblemError, match=r"receive antennas \+ weights cannot be solved together"):
        solving_schemes(joint)
