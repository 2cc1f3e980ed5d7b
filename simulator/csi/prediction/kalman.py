"""Predict with a Kalman filter whose states are the amplitudes of the poles of the Doppler spectrum.

Per antenna: c_{t+1} = diag(z) c_t + w_t, x_t = sum_k c_k + n_t, with the poles z of `simulator.csi.prediction.esprit`,
the mean power p_k of each over the antennas and process noise of variance p_k (1 - |z_k|^2) + q: damped poles are
renewed, and q stands for errors of the poles, which grow with the noise. All antennas have the same gains, so that the
prediction sum_k z_k^l c_k is a combination of the snapshots.

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
    """Compute prediction coefficients by running the filter on unit snapshots.

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
    steps = torch.arange(1, ahead + 1, dtype=torch.float64, device=gram.device)
    for rows, poles in poles_by_number(gram, noise):
        weights = amplitude_weights(poles, noise[rows], history)
        power = ((weights.conj() @ gram[rows]) * weights).sum(-1).real
        disturbance = noise[rows].unsqueeze(-1) * weights.abs().square().sum(-1)
        states = _filter(poles, (power - disturbance).clamp(min=1e-3 * power), noise[rows], history)
        coefficients[rows] = states.mT @ (poles.unsqueeze(-1) ** steps)
    return coefficients


def _filter(poles: Tensor, power: Tensor, noise: Tensor, history: int) -> Tensor:
    """Return the filtered states after the last snapshot as combinations of snapshots, (rows, poles, history)."""
    covariance = torch.diag_embed(power).to(poles.dtype)
    process = power * (1 - poles.abs().square()).clamp(min=0) + (POLE_ERROR * noise).unsqueeze(-1)
    renewal = torch.diag_embed(process).to(poles.dtype)
    spread = poles.unsqueeze(2) * poles.conj().unsqueeze(1)
    states = torch.zeros(*poles.shape, history, dtype=poles.dtype, device=poles.device)
    for time in range(history):
        check_interrupt()
        if time:
            states = poles.unsqueeze(-1) * states
            covariance = spread * covariance + renewal
        seen = covariance.sum(-1)  # covariance of the states and the snapshot
        variance = seen.sum(-1).real + noise + LEAST_NOISE
        gain = seen / variance.unsqueeze(-1)
        error = -states.sum(1, keepdim=True)
        error[:, :, time] += 1
        states = states + gain.unsqueeze(-1) * error
        covariance = covariance - gain.unsqueeze(-1) * seen.conj().unsqueeze(1)
    return states
