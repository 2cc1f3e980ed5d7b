"""Max-min rates against a search over all precoders of two users, and against the least power for the same SINRs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels
from tests.simulator.problems.two_users import all_rates

PROBLEM = PrecodingProblem(objective="max-min")
INNER = scheme("rzf")


@pytest.mark.parametrize("spread_db", [0, 20])
def test_two_users_reach_the_best_of_a_search(spread_db: float) -> None:
    channels = draw_channels(4, users=2, antennas=4, spread_db=spread_db, drops=4)
    for snr in (1.0, 100.0):
        found = solve(ChannelBatch(channels), LinkBudget(4.0, 4.0 / snr), PROBLEM, INNER)
        best = np.array([all_rates(h, snr, 201).min(-1).max() for h in channels.numpy().astype(complex)])
        assert (found.objective.numpy() >= best * (1 - 1e-6)).all()  # the grid misses the optimum, never exceeds it
        assert (found.objective.numpy() <= best * 1.06).all()
        torch.testing.assert_close(found.rate.amax(-1), found.rate.amin(-1), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
def test_never_below_balanced_rzf(kind: str) -> None:
    batch = ChannelBatch(draw_channels(5, users=4, antennas=8, kind=kind, spread_db=15, drops=12))
    for noise in (1.0, 1e-3):
        budget = LinkBudget(3.0, noise)
        found, textbook = (solve(batch, budget, PROBLEM, INNER, spec) for spec in ("nflae", "rzf"))
        assert (found.objective >= textbook.objective * (1 - 1e-9)).all()
        assert (found.power.sum(-1) <= 3.0 * (1 + 1e-6)).all()
        plain = INNER(batch, budget)
        assert (textbook.objective >= plain.rate.amin(-1) * (1 - 1e-6)).all()


def test_users_of_orthogonal_channels_get_powers_that_invert_their_gains() -> None:
    channels = torch.eye(3, 5, dtype=torch.complex64).unsqueeze(0) * torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1)
    found = solve(ChannelBatch(channels), LinkBudget(21.0, 1.0), PROBLEM, INNER)
    torch.testing.assert_close(found.power, torch.tensor([[16.0, 4.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(found.sinr, torch.full((1, 3), 16.0, dtype=torch.float64))
