"""Precode for users with several receive antennas without interference between users.

User k's beams lie in the null space of all other users' channels; within it they are the strongest right singular
vectors of the user's own channel, and water-filling over all streams of all users gives their powers.

References
----------
* Q. H. Spencer, A. L. Swindlehurst, M. Haardt, "Zero-forcing methods for downlink spatial multiplexing in multiuser
  MIMO channels", IEEE Transactions on Signal Processing, 2004.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.powers import water_filling
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.algorithms.receive_antennas.arrays import ReceiveArrays
from simulator.problems.problem import PrecodingProblem, ProblemError
from simulator.problems.solution import ProblemSolution


def block_diagonalisation(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Serve each user in the null space of the others' channels, with powers by water-filling.

    Parameters
    ----------
    batch : ChannelBatch
        Channels, complex64 (drops, users, receive antennas, antennas).
    budget, problem
        Link budget, and problem with joint receivers.

    Returns
    -------
    ProblemSolution
        Solution of every drop.

    Raises
    ------
    ProblemError
        If the other users' receive antennas leave too few dimensions for a user's streams.
    """
    arrays = ReceiveArrays.of(batch, budget, problem)
    users, receive, antennas = arrays.channels.shape[1:]
    needed = (users - 1) * receive + arrays.streams
    if antennas < needed:
        raise ProblemError(
            f"scheme bd needs at least {needed} antennas, {receive} for each other user and {arrays.streams} for the"
            f" streams, got {antennas}"
        )
    found = [_null_space_beams(arrays, user) for user in range(users)]
    directions = torch.cat([beams for beams, _ in found], -2)
    fractions = water_filling(torch.cat([gains for _, gains in found], -1))
    return arrays.solution(directions * fractions.sqrt().unsqueeze(-1))


def _null_space_beams(arrays: ReceiveArrays, user: int) -> tuple[Tensor, Tensor]:
    """Return a user's unit-norm beams, (drops, streams, antennas), and their SNRs at full power, (drops, streams)."""
    users = arrays.channels.shape[1]
    own = arrays.channels[:, user] * arrays.scale
    if users == 1:
        projected = own
    else:
        others = arrays.channels[:, [k for k in range(users) if k != user]].flatten(1, 2) * arrays.scale
        # Rows of V^H span the others' channels; those without gain are no part of their space.
        _, values, span = torch.linalg.svd(others, full_matrices=False)
        span = span * (values > 1e-12 * values[:, :1]).unsqueeze(-1)
        projected = own - (own @ span.mH) @ span
    _, values, beams = torch.linalg.svd(projected, full_matrices=False)
    # Amplitudes are h^H w with h in rows: the beams are the rows of V^H, not their conjugates.
    return beams[:, : arrays.streams], values[:, : arrays.streams].square()
