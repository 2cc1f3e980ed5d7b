"""Predict with the poles of the Doppler spectrum, found by multi-antenna ESPRIT, and least-squares amplitudes.

Windows of m snapshots of all antennas have the covariance C = sum_s [R]_{s..s+m-1, s..s+m-1}, averaged with its
reversed conjugate. Its n eigenvectors above the noise span the vectors [1 z_k ... z_k^{m-1}]; the shift by one snapshot
maps this space onto itself with the eigenvalues z_k, moved onto the unit circle where they are outside. With
V_tk = z_k^t,

    h_hat_{P-1+l} = [z_k^{P-1+l}]^T (V^H V + r I)^-1 V^H [x_0 ... x_{P-1}]^T.

References
----------
R. Roy, T. Kailath, "ESPRIT: estimation of signal parameters via rotational invariance techniques", IEEE Transactions on
Acoustics, Speech, and Signal Processing, 1989.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOISE_FACTOR = 2.0  # eigenvalues above so many times the noise are signal
LEAST_SHARE = 1e-12  # relative to the largest eigenvalue: below it, they are rounding
RIDGE = 1e-2  # against poles close to each other, times the share of noise


def window_length(history: int) -> int:
    """Return the length m of the windows, (P + 2) / 2 rounded down.

    Parameters
    ----------
    history
        P.

    Returns
    -------
    int
        m.
    """
    return history // 2 + 1


def poles_by_number(gram: Tensor, noise: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Find the poles of each row, grouped by their number.

    Parameters
    ----------
    gram
        R, complex128 (rows, history, history), of two snapshots at least.
    noise
        Noise in the diagonal of R, float64 (rows,).

    Returns
    -------
    list of (Tensor, Tensor)
        Indices of rows, int64 (group,), and their poles z, complex128 (group, poles), |z| <= 1; every row is in one
        group.
    """
    history = gram.shape[-1]
    length = window_length(history)
    windows = history - length + 1
    blocks = gram.unfold(1, length, 1).unfold(2, length, 1).diagonal(dim1=1, dim2=2)  # (rows, m, m, windows)
    forward = blocks.sum(-1)
    both = forward + forward.flip(1, 2).conj()
    values, vectors = torch.linalg.eigh(both.conj())
    floor = torch.maximum(NOISE_FACTOR * 2 * windows * noise, LEAST_SHARE * values[:, -1])
    count = (values > floor.unsqueeze(-1)).sum(-1).clamp(1, length - 1)
    groups = []
    for number in count.unique().tolist():
        rows = (count == number).nonzero().squeeze(1)
        space = vectors[rows, :, length - number :]
        shift = torch.linalg.lstsq(space[:, :-1], space[:, 1:]).solution
        poles = torch.linalg.eigvals(shift)
        groups.append((rows, poles / poles.abs().clamp(min=1)))
    return groups


def amplitude_weights(poles: Tensor, noise: Tensor, history: int) -> Tensor:
    """Compute the weights with which the snapshots give the amplitudes of poles at the first snapshot.

    Parameters
    ----------
    poles
        z, complex128 (rows, poles).
    noise
        Noise in the diagonal of R, relative to the mean diagonal, float64 (rows,).
    history
        P.

    Returns
    -------
    Tensor
        (V^H V + r I)^-1 V^H, complex128 (rows, poles, history).
    """
    time = torch.arange(history, dtype=torch.float64, device=poles.device)
    waves = poles.unsqueeze(1) ** time.unsqueeze(-1)
    normal = waves.mH @ waves
    ridge = RIDGE * noise.clamp(max=1) + LEAST_SHARE
    normal = normal + torch.diag_embed(ridge.unsqueeze(-1).expand(-1, poles.shape[1])).to(normal.dtype)
    weights: Tensor = torch.linalg.solve(normal, waves.mH)
    return weights


def esprit(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
    """Compute prediction coefficients from poles and least-squares amplitudes.

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
    coefficients = torch.zeros(*gram.shape[:2], ahead, dtype=gram.dtype, device=gram.device)
    later = torch.arange(history, history + ahead, dtype=torch.float64, device=gram.device)
    for rows, poles in poles_by_number(gram, noise):
        weights = amplitude_weights(poles, (noise / level)[rows], history)
        coefficients[rows] = weights.mT @ (poles.unsqueeze(-1) ** later)
    return coefficients
