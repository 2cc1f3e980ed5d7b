"""Precode for users with several receive antennas without interference between users.

User k's beams lie in the null space of all other users' channels; within it they are the strongest right singular
vectors of the user's own channel, and water-filling over all streams of all users gives their powers.

References
----------
* Q. H. Spencer, A. L. Swindlehurst, M. Haardt, "Zero-forcing methods for downlink spatial multiplexing in multiuser
  MIMO channels", IEEE Transactions on Signal Processing, 2004.
"""

from __future__ import annotations

import numpy as np
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.powers import water_filling
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.algebra import Complex, Real
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
    users, receive = arrays.basis.shape[1:3]
    antennas = arrays.channels.shape[-1]
    needed = (users - 1) * receive + arrays.streams
    if antennas < needed:
        raise ProblemError(
            f"scheme bd needs at least {needed} antennas, {receive} for each other user and {arrays.streams} for the"
            f" streams, got {antennas}"
        )
    channels = arrays.channels.reshape(-1, users, receive, antennas)
    found = [_null_space_beams(channels, user, arrays.streams) for user in range(users)]
    directions = np.concatenate([beams for beams, _ in found], 1)
    fractions = water_filling(torch.from_numpy(np.concatenate([gains for _, gains in found], 1))).numpy()
    return arrays.beams_solution(directions * np.sqrt(fractions)[..., None])


def _null_space_beams(channels: Complex, user: int, streams: int) -> tuple[Complex, Real]:
    """Return a user's unit-norm beams, (drops, streams, antennas), and their SNRs at full power, (drops, streams)."""
    own = channels[:, user]
    others = np.delete(channels, user, 1).reshape(len(channels), -1, channels.shape[-1])
    projected = own
    if others.shape[1]:
        # Rows of V^H span the others' channels; those without gain are no part of their space.
        _, values, span = np.linalg.svd(others, full_matrices=False)
        span = span * (values > 1e-12 * values[:, :1])[..., None]
        projected = own - (own @ span.conj().transpose(0, 2, 1)) @ span
    _, values, beams = np.linalg.svd(projected, full_matrices=False)
    # Amplitudes are h^H w with h in rows: the beams are the rows of V^H, not their conjugates.
    return beams[:, :streams], values[:, :streams] ** 2
