"""Compute frequency responses from the coefficients and delays of propagation paths."""

from __future__ import annotations

import torch
from torch import Tensor


def subcarrier_offsets(subcarriers: int | None, bandwidth: float | None) -> Tensor:
    """Return the subcarrier frequencies relative to the carrier, f_i = (i - (F - 1) / 2) B / F, i = 0 ... F - 1.

    Parameters
    ----------
    subcarriers
        F; None for one subcarrier.
    bandwidth
        B, Hz; None with one subcarrier, which is at the carrier.

    Returns
    -------
    Tensor
        float64 (subcarriers,), Hz.
    """
    count = subcarriers or 1
    return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * ((bandwidth or 0.0) / count)


def frequency_response(coefficients: Tensor, delays: Tensor, offsets: Tensor) -> Tensor:
    """Compute H(f) = sum_l a_l exp(-j 2 pi f tau_l).

    Parameters
    ----------
    coefficients
        a_l, complex (..., paths).
    delays
        tau_l, real, of a shape that broadcasts to that of ``coefficients``, s.
    offsets
        f relative to the frequency at which the coefficients hold, (frequencies,), Hz.

    Returns
    -------
    Tensor
        complex (..., frequencies), of the precision of ``coefficients``.
    """
    # One frequency at a time limits memory to that of the coefficients; float64 resolves 10^4 cycles and more.
    seconds = delays.double()
    responses = []
    for offset in offsets.tolist():
        phase = -2 * torch.pi * torch.remainder(offset * seconds, 1.0)
        rotation = torch.polar(torch.ones_like(phase), phase).to(coefficients.dtype)
        responses.append((coefficients * rotation).sum(-1))
    return torch.stack(responses, -1)
