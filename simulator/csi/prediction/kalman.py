"""Predict with a Kalman filter whose states are the amplitudes of the poles of the Doppler spectrum.

Per antenna: c_{t+1} = diag(z) c_t + w_t, x_t = sum_k c_k + n_t, with the poles z of `simulator.csi.prediction.esprit`,
the mean power p_k of each over the antennas and process noise of variance p_k (1 - |z_k|^2) + q: damped poles are
renewed, and q stands for errors of the poles, which grow with the noise. All antennas have the same gains, so that the
prediction sum_k z_k^l c_k is a combination of the snapshots. Its coefficients are computed in one step, as those of the
linear MMSE estimate from all snapshots, which the filter computes recursively: with the variances v_k(s) of the states,

    E[x_t x_s^*] = sum_k z_k^{t-s} v_k(s) + sigma^2 delta_ts,   t >= s,
    v_k(s) = p_k + q (1 + |z_k|^2 + ... + |z_k|^{2(s-1)}).

References
----------
B. D. O. Anderson, J. B. Moore, "Optimal Filtering", Prentice-Hall, 1979.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.csi.prediction.esprit import amplitude_weights, poles_by_number
from simulator.interruption import check_interrupt

POLE_ERROR = 3e-3  # q in shares of the noise
LEAST_NOISE = 1e-12  # in shares of the power


def kalman(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
    """Compute the coefficients of the filter's prediction.

    Parameters
    ----------
    gram, noise, ahead
        See `simulator.csi.prediction.temporal.CoefficientRule`; a history of two snapshots at least.

    Returns
    -------
    Tensor
        complex128 (rows, history, ahead).
    """
    history = gram.shape[-1]
    level = gram.diagonal(dim1=1, dim2=2).real.mean(-1).clamp(min=torch.finfo(noise.dtype).tiny)
    gram, noise = gram / level[:, None, None], noise / level
    coefficients = torch.zeros(*gram.shape[:2], ahead, dtype=gram.dtype, device=gram.device)
    for rows, poles in poles_by_number(gram, noise):
        check_interrupt()
        weights = amplitude_weights(poles, noise[rows], history)
        power = ((weights.conj() @ gram[rows]) * weights).sum(-1).real
        disturbance = noise[rows].unsqueeze(-1) * weights.abs().square().sum(-1)
        power = (power - disturbance).clamp(min=1e-3 * power)
        coefficients[rows] = _coefficients(poles, power, noise[rows], history, ahead)
    return coefficients


def _coefficients(poles: Tensor, power: Tensor, noise: Tensor, history: int, ahead: int) -> Tensor:
    """Return the linear MMSE coefficients of the snapshots after the last, (rows, history, ahead)."""
    snapshot = torch.arange(history, device=poles.device).unsqueeze(1)
    lag = torch.arange(history + ahead, device=poles.device) - snapshot
    waves = poles.unsqueeze(1) ** torch.arange(history + ahead, device=poles.device).unsqueeze(-1)
    decay = waves[:, :history].abs().square()
    variances = power.unsqueeze(1) + POLE_ERROR * noise[:, None, None] * (decay.cumsum(1) - decay)
    correlation = variances.to(poles.dtype) @ waves.mT
    ordered = correlation.gather(2, lag.clamp(min=0).expand(len(poles), -1, -1))  # s, t: valid for t >= s
    matrix = ordered[:, :, :history].triu() + ordered[:, :, :history].triu(1).mH
    floor = (noise + LEAST_NOISE).unsqueeze(-1).expand(-1, history)
    found: Tensor = torch.linalg.solve(matrix + torch.diag_embed(floor).to(matrix.dtype), ordered[:, :, history:])
    return found
