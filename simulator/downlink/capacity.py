"""Compute the dirty-paper capacity, the bound of all precoders, linear or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.powers import water_filling
from simulator.downlink.structure import mmse_filter_gains, structured_coefficients


def dirty_paper_capacity(channels: Tensor, budget: LinkBudget, iterations: int = 300) -> Tensor:
    """Compute the sum capacity of the broadcast channel, max over q >= 0, sum q = 1, of log2 det(I + Gamma diag(q)).

    Solved in the dual multiple-access channel by sum-power iterative water-filling (Jindal et al. 2005): every user
    water-fills against the others' interference, then moves 1/K of the way there.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex (drops, users, antennas).
    budget : LinkBudget
        Link budget, of which only C1 counts.
    iterations : int
        Number of iterations.

    Returns
    -------
    Tensor
        Capacity, float64 (drops,), bps/Hz.

    References
    ----------
    * N. Jindal, W. Rhee, S. Vishwanath, S. A. Jafar, A. Goldsmith, "Sum power iterative water-filling for
      multi-antenna Gaussian broadcast channels", IEEE Transactions on Information Theory, 2005, algorithm 2.
    """
    gram = normalised_gram(channels, budget)
    users = gram.shape[-1]
    identity = torch.eye(users, dtype=gram.dtype, device=gram.device)
    power_fractions = torch.full_like(gram.real[..., 0], 1 / users)
    for _ in range(iterations):
        with_own = mmse_filter_gains(gram, structured_coefficients(gram, power_fractions))
        gain = with_own / (1 - power_fractions * with_own).clamp(min=1e-12)  # without user k's own part in the sum
        power_fractions = power_fractions + (water_filling(gain) - power_fractions) / users
    determinant: Tensor = torch.linalg.slogdet(identity + gram * power_fractions.unsqueeze(-2))[1]
    return determinant / math.log(2)
