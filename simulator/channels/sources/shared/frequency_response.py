"""From paths to a frequency response, for every source that gives coefficients and delays."""

from __future__ import annotations

import torch
from torch import Tensor


def subcarrier_offsets(subcarriers: int | None, bandwidth: float | None) -> Tensor:
    """Where F subcarriers lie relative to the carrier: f_i = (i - (F - 1) / 2) B / F, i = 0 ... F - 1.

    bandwidth: B, Hz; None with one subcarrier, which lies at the carrier. Returns float64 (subcarriers,), Hz.
    """
    count = subcarriers or 1
    return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * ((bandwidth or 0.0) / count)


def frequency_response(coefficients: Tensor, delays: Tensor, offsets: Tensor) -> Tensor:
    """H(f) = sum_l a_l exp(-j 2 pi f tau_l), f counted from the frequency at which the a_l are the coefficients.

    coefficients: complex (..., paths); delays: real, broadcast to the same shape, s; offsets: (frequencies,), Hz.
    Returns complex (..., frequencies), of the coefficients' precision.
    """
    cycles = delays.double()
    responses = []
    for offset in offsets.tolist():  # one at a time: memory stays that of the coefficients
        phase = -2 * torch.pi * torch.remainder(offset * cycles, 1.0)  # of 1e4 cycles and more, hence float64
        turn = torch.polar(torch.ones_like(phase), phase).to(coefficients.dtype)
        responses.append((coefficients * turn).sum(-1))
    return torch.stack(responses, -1)
