"""Estimate by a soft gain per beam, its threshold chosen per series by Stein's unbiased risk estimate.

With the mean power e_m of beam m over T snapshots, beam b_mt becomes max(0, 1 - c sigma^2 / e_m) b_mt, the positive
part of a James-Stein estimate. Its divergence is exact: T (1 - c sigma^2 / e_m) + c sigma^2 / e_m per kept beam.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.csi.estimation.sure import risk

FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.5)
"""Choices of c."""


@dataclass(frozen=True)
class SoftGainEstimate:
    """Hold an estimate by a soft gain per beam.

    Attributes
    ----------
    beams : Tensor
        complex64 (series, snapshots, beams).
    risk : Tensor
        Estimated squared error, float32 (series,).
    factor : Tensor
        c, float32 (series,).
    """

    beams: Tensor
    risk: Tensor
    factor: Tensor


def soft_gain(beams: Tensor, noise_variance: Tensor, factors: tuple[float, ...] = FACTORS) -> SoftGainEstimate:
    """Remove noise by a soft gain per beam.

    Parameters
    ----------
    beams : Tensor
        Received beams, complex64 (series, snapshots, beams).
    noise_variance : Tensor
        sigma^2, float32 (series,).
    factors : tuple of float
        Choices of c; the one of least estimated risk is taken.

    Returns
    -------
    SoftGainEstimate
        Beams, with their estimated risk.
    """
    snapshots = beams.shape[1]
    power = beams.abs().square().mean(1)
    share = noise_variance.unsqueeze(-1) / power.clamp(min=torch.finfo(power.dtype).tiny)
    best = torch.full_like(noise_variance, torch.inf)
    chosen, gain = torch.zeros_like(best), torch.zeros_like(power)
    for factor in factors:
        candidate = (1 - factor * share).clamp(min=0)
        kept = (candidate > 0).to(power.dtype)
        divergence = (kept * (snapshots * candidate + factor * share)).sum(-1)
        value = risk(beams, beams * candidate.unsqueeze(1), divergence, noise_variance)
        better = value < best
        best, chosen = torch.where(better, value, best), torch.where(better, factor, chosen)
        gain = torch.where(better.unsqueeze(-1), candidate, gain)
    return SoftGainEstimate(beams * gain.unsqueeze(1), best, chosen)
