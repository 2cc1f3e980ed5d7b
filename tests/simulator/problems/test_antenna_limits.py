"""Power limits of antennas: closed forms for one user, an independent convex solver, limits held, textbook kept."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr
from simulator.problems.algorithms.power_limits import PowerLimits
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels


@pytest.fixture(scope="module")
def inner() -> Scheme:
    return scheme("wmmse:iterations=20")


def powers_of_antennas(found: ProblemSolution) -> np.ndarray:
    """Power of each antenna by the definition, (drops, antennas), W."""
    entries = np.abs(found.precoder.numpy().astype(complex)) ** 2
    return np.einsum("dk,dkn->dn", found.power.numpy(), entries)


@pytest.mark.parametrize("spec", ["nflae", "wmmse"])
def test_one_user_gets_every_antenna_at_its_limit_in_phase(inner: Scheme, spec: str) -> None:
    channels = draw_channels(1, users=1, antennas=8, drops=5)
    limits = np.geomspace(0.05, 2.0, 8)
    problem = PrecodingProblem(antenna_power=limits, total_power=False)
    found = solve(ChannelBatch(channels), LinkBudget(1.0, 0.1), problem, inner, spec)
    gain = (np.abs(channels[:, 0].numpy()) * np.sqrt(limits)).sum(-1) ** 2
    assert np.allclose(found.objective.numpy(), np.log2(1 + gain / 0.1), rtol=1e-6)


def test_one_user_with_limits_and_total_matches_a_convex_solver(inner: Scheme) -> None:
    channels = draw_channels(2, users=1, antennas=6, drops=4)
    limits = np.array([0.1, 0.2, 0.3, 0.1, 0.4, 0.5])
    found = solve(
        ChannelBatch(channels), LinkBudget(0.9, 0.1), PrecodingProblem(antenna_power=limits), inner, "nflae:rounds=60"
    )
    for drop, h in enumerate(channels[:, 0].numpy().astype(complex)):
        w = cp.Variable(6, complex=True)
        best = cp.Problem(cp.Maximize(cp.real(h.conj() @ w)), [cp.abs(w) <= np.sqrt(limits), cp.norm(w) <= 0.9**0.5])
        rate = np.log2(1 + best.solve(solver="CLARABEL") ** 2 / 0.1)
        assert rate * 0.9999 < float(found.objective[drop]) < rate * 1.00001


def least_limit(h: np.ndarray, sinr: np.ndarray, noise: float, limits: np.ndarray, size: int) -> float:
    """Smallest t for which some precoder has these SINRs with t times the limits of groups of antennas."""
    users, antennas = h.shape
    w, t = cp.Variable((antennas, users), complex=True), cp.Variable()
    received = h.conj() @ w
    constraints = [cp.sum_squares(w[g * size : (g + 1) * size]) <= t * c for g, c in enumerate(limits)]
    for k in range(users):
        others = [received[k, j] for j in range(users) if j != k]
        stacked = cp.hstack([*others, noise**0.5])
        constraints += [cp.norm(stacked) <= cp.real(received[k, k]) / sinr[k] ** 0.5]
    return float(cp.Problem(cp.Minimize(t), constraints).solve(solver="CLARABEL"))


@pytest.mark.parametrize("size", [1, 2])
def test_no_precoder_has_the_same_sinr_within_smaller_limits(inner: Scheme, size: int) -> None:
    channels = draw_channels(3, users=3, antennas=6, drops=3)
    problem = PrecodingProblem(antenna_power=np.array([0.2]), antenna_groups=size, total_power=False)
    budget = LinkBudget(1.0, 0.05)
    limits = np.full(6 // size, 0.2 * size)
    least = {}
    for spec in ("nflae", "wmmse:iterations=200", "rzf"):
        found = solve(ChannelBatch(channels), budget, problem, inner, spec)
        least[spec] = [
            least_limit(h, found.sinr[drop].numpy(), 0.05, limits, size)
            for drop, h in enumerate(channels.numpy().astype(complex))
        ]
    assert max(max(each) for each in least.values()) < 1.0001
    assert min(least["wmmse:iterations=200"]) > 0.99
    assert min(least["nflae"]) > 0.94
    assert min(least["rzf"]) < 0.9


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("total", [False, True])
def test_limits_hold_and_the_textbook_is_kept(inner: Scheme, kind: str, size: int, total: bool) -> None:
    channels = draw_channels(4, users=4, antennas=8, kind=kind, spread_db=15, drops=6) * 1e-6
    limits = np.geomspace(0.1, 1.0, 8)
    power = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0, 9.0], dtype=torch.float64)
    problem = PrecodingProblem(antenna_power=limits, antenna_groups=size, total_power=total)
    budget = LinkBudget(power, 1e-13)
    for spec in ("nflae", "wmmse", "rzf"):
        found = solve(ChannelBatch(channels), budget, problem, inner, spec)
        used = powers_of_antennas(found)
        groups = used.reshape(6, -1, size).sum(-1)
        assert (groups <= limits.reshape(-1, size).sum(-1) * (1 + 1e-9)).all()
        if total:
            assert (used.sum(-1) <= power.numpy() * (1 + 1e-9)).all()
        measured = achieved_sinr(channels, found.precoder, found.power, 1e-13)
        assert torch.allclose(found.sinr, measured, rtol=1e-9)
        if spec == "nflae":
            ours = found.objective
        if spec == "rzf":
            assert (ours >= found.objective * (1 - 1e-9)).all()


def test_a_poor_inner_scheme_falls_back() -> None:
    batch = ChannelBatch(draw_channels(6, users=4, antennas=8, drops=6))
    problem, budget = PrecodingProblem(antenna_power=np.array([0.125])), LinkBudget(1.0, 1e-3)
    mrt = scheme("mrt")
    found = solve(batch, budget, problem, lambda b, g: mrt(b, g), "nflae:rounds=0")
    textbook = solve(batch, budget, problem, mrt, "rzf")
    assert found.fallback.any()
    assert torch.equal(found.objective[found.fallback], textbook.objective[found.fallback])


def test_filled_power_is_the_total_with_each_group_within_its_limit() -> None:
    rng = np.random.default_rng(7)
    beams = rng.normal(size=(5, 3, 6)) + 1j * rng.normal(size=(5, 3, 6))
    limits = PowerLimits(np.ones((1, 1)), np.array([[1.0, 0.01, 2.0]]), np.full((1, 1), 1.5), 2)
    ones = np.ones((1, 1, 1))
    powers = limits.group_powers(beams, ones)
    assert np.allclose(powers, (np.abs(beams) ** 2).sum(1).reshape(5, 3, 2).sum(-1))
    assert np.allclose(limits.group_powers(beams, 2 * ones), 4 * powers)
    filled = powers * limits.filling_gain(powers)
    assert np.allclose(filled.sum(-1), 1.5)
    # Groups below their limit share one factor.
    factor = (filled / powers).max(-1, keepdims=True)
    assert np.allclose(filled, np.minimum(factor * powers, limits.groups))
    clipped = np.minimum(powers, limits.groups)
    clipped *= np.minimum(1, 1.5 / clipped.sum(-1, keepdims=True))
    assert np.allclose(powers * limits.clipping_gain(powers), clipped)


def test_a_total_above_the_sum_of_limits_changes_nothing(inner: Scheme) -> None:
    batch = ChannelBatch(draw_channels(8, users=3, antennas=6, drops=4))
    alone = PrecodingProblem(antenna_power=np.array([0.1]), total_power=False)
    beside = PrecodingProblem(antenna_power=np.array([0.1]))
    budget = LinkBudget(1.0, 0.01)
    first, second = (solve(batch, budget, problem, inner) for problem in (alone, beside))
    assert torch.allclose(first.objective, second.objective, rtol=1e-12)


def test_an_antenna_without_use_does_not_end_the_prices(inner: Scheme) -> None:
    channels = draw_channels(9, users=3, antennas=6, drops=3)
    channels[..., 2] = 0
    problem = PrecodingProblem(antenna_power=np.array([0.2]), total_power=False)
    found = solve(ChannelBatch(channels), LinkBudget(1.0, 0.01), problem, inner, "wmmse:iterations=300")
    without = channels[..., [0, 1, 3, 4, 5]]
    same = solve(ChannelBatch(without), LinkBudget(1.0, 0.01), problem, inner, "wmmse:iterations=300")
    assert torch.allclose(found.objective, same.objective, rtol=1e-3)


def ascended(channels: torch.Tensor, found: ProblemSolution, noise: float, limit: float, total: float) -> torch.Tensor:
    """Sum rates after gradient ascent from a solution, each antenna and the total scaled down to their limits."""
    h = channels.to(torch.complex128)
    start = found.precoder.to(torch.complex128) * found.power.sqrt().unsqueeze(-1)
    point = torch.view_as_real(start).clone().requires_grad_()

    def sum_rate() -> torch.Tensor:
        beams = torch.view_as_complex(point)
        beams = beams / (beams.abs().square().sum(1, keepdim=True) / limit).clamp(min=1).sqrt()
        beams = beams / (beams.abs().square().sum((1, 2), keepdim=True) / total).clamp(min=1).sqrt()
        gains = (h.conj() @ beams.transpose(-1, -2)).abs().square()
        own = gains.diagonal(dim1=-2, dim2=-1)
        return torch.log2(1 + own / (noise + gains.sum(-1) - own)).sum(-1)

    optimiser = torch.optim.LBFGS([point], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -sum_rate().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return sum_rate().detach()


@pytest.mark.parametrize("total", [0.6, 10.0])
def test_gradient_ascent_finds_little_more(inner: Scheme, total: float) -> None:
    channels = draw_channels(10, users=4, antennas=8, spread_db=10, drops=6)
    problem, budget = PrecodingProblem(antenna_power=np.array([0.125])), LinkBudget(total, 0.05)
    shares = {}
    for spec in ("wmmse:iterations=100", "nflae", "rzf"):
        found = solve(ChannelBatch(channels), budget, problem, inner, spec)
        best = ascended(channels, found, 0.05, 0.125, total)
        assert (best >= found.objective * (1 - 1e-6)).all()
        shares[spec] = float((found.objective / best).mean())
    assert shares["wmmse:iterations=100"] > 0.998
    assert shares["nflae"] > 0.99
    assert shares["rzf"] < 0.98
