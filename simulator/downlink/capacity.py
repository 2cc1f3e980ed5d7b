"""Dirty-paper capacity: the bound no precoder, linear or not, can pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.powers import water_filling


def dirty_paper_capacity(channels: Tensor, budget: LinkBudget, iterations: int = 300) -> Tensor:
    """Sum capacity of the broadcast channel, max over q >= 0, sum q = 1, of log2 det(I + Gamma diag(q)).

    Solved in the dual multiple-access channel by sum-power iterative water-filling (Jindal et al., IEEE TIT 2005,
    algorithm 2): every user water-fills against the others' interference, then moves 1/K of the way there.

    channels: complex (drops, users, antennas). Returns float64 (drops,), bps/Hz.
    """
    gram = normalised_gram(channels, budget)
    users = gram.shape[-1]
    identity = torch.eye(users, dtype=gram.dtype, device=gram.device)
    power_fractions = torch.full_like(gram.real[..., 0], 1 / users)
    for _ in range(iterations):
        # h_k^H (I + sum_j q_j h_j h_j^H)^-1 h_k = [Gamma (I + Q Gamma)^-1]_kk; then without user k's own part
        seen = torch.linalg.solve(identity + gram * power_fractions.unsqueeze(-2), gram)
        whole = seen.diagonal(dim1=-2, dim2=-1).real
        gain = whole / (1 - power_fractions * whole).clamp(min=1e-12)
        power_fractions = power_fractions + (water_filling(gain) - power_fractions) / users
    determinant: Tensor = torch.linalg.slogdet(identity + gram * power_fractions.unsqueeze(-2))[1]
    return determinant / math.log(2)
