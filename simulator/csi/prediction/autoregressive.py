"""Predict with a vector autoregression (Prony) common to all antennas, fitted for every horizon directly.

The coefficients of horizon l minimise, over all windows of p snapshots with a known target,

    sum_e || x_{e+l} - sum_i a_i x_{e-p+1+i} ||^2 + N sigma^2 ||a||^2,

a = (M_l + N sigma^2 I)^-1 b_l with the sums of `simulator.csi.prediction.temporal.window_sums`, over the windows in
both directions of time (modified covariance method). Sums of up to p undamped exponentials without noise are predicted
exactly.

References
----------
S. L. Marple, "Digital Spectral Analysis with Applications", Prentice-Hall, 1987.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.csi.prediction.temporal import forward_backward, iterate_coefficients, window_sums

LEAST_RIDGE = 1e-13  # relative to the trace: below it, sums in double precision are rounding


def autoregressive(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
    """Compute the coefficients of a vector autoregression of half the history's length.

    Horizons beyond the fitted ones, P - p, use predictions in the place of snapshots.

    Parameters
    ----------
    gram, noise, ahead
        See `simulator.csi.prediction.temporal.CoefficientRule`; a history of two snapshots at least.

    Returns
    -------
    Tensor
        complex128 (rows, history, ahead).
    """
    rows, history, _ = gram.shape
    order = max(1, history // 2)
    direct = min(ahead, history - order)
    normal, cross = window_sums(forward_backward(gram), order, direct)
    trace = gram.diagonal(dim1=1, dim2=2).real.sum(-1)
    ridge = torch.maximum(noise, LEAST_RIDGE * trace).clamp(min=torch.finfo(trace.dtype).tiny)
    normal = normal + ridge[:, None, None, None] * torch.eye(order, dtype=gram.dtype, device=gram.device)
    taps = torch.linalg.solve(normal, cross.unsqueeze(-1)).squeeze(-1)
    early = torch.zeros(rows, history - order, direct, dtype=gram.dtype, device=gram.device)
    return iterate_coefficients(torch.cat([early, taps.transpose(1, 2)], 1), ahead)
