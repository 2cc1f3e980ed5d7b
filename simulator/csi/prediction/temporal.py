"""Compute the temporal Gram matrix, on which all linear predictors act, and the sums over its windows.

A predictor that commutes with unitary maps of the antennas combines snapshots, with coefficients that depend on
R = X^H X only, X = [x_0 ... x_{P-1}]:

    h_hat_{P-1+l} = sum_t a_{t,l} x_t,   A = A(X^H X),   R_ts = x_t^H x_s.

It is therefore indifferent to N, to the arrangement of the antennas and, with R normalised, to scale.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad


class CoefficientRule(Protocol):
    """Compute prediction coefficients from temporal Gram matrices."""

    def __call__(self, gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
        """Compute coefficients.

        Parameters
        ----------
        gram
            R, complex128 (rows, history, history), Hermitian.
        noise
            Mean of the noise in the diagonal of R, N sigma^2 for N antennas, float64 (rows,).
        ahead
            Number A of snapshots to predict.

        Returns
        -------
        Tensor
            A, complex128 (rows, history, ahead).
        """


def temporal_gram(snapshots: Tensor) -> Tensor:
    """Compute R_ts = x_t^H x_s in double precision.

    Parameters
    ----------
    snapshots
        Complex (..., history, antennas).

    Returns
    -------
    Tensor
        complex128 (..., history, history).
    """
    exact = snapshots.to(torch.complex128)
    return exact.conj() @ exact.mT


def forward_backward(gram: Tensor) -> Tensor:
    """Average Gram matrices with those of the time-reversed, conjugated snapshots.

    Undamped exponentials satisfy the same prediction equations in both directions, so that a fit has twice as many
    windows; the noise in the diagonals is unchanged.

    Parameters
    ----------
    gram
        R, complex (..., history, history).

    Returns
    -------
    Tensor
        (R + J R^* J) / 2, J the reversal.

    References
    ----------
    S. L. Marple, "A New Autoregressive Spectrum Analysis Algorithm", IEEE Trans. Acoustics, Speech, and Signal
    Processing 28(4), 1980.
    """
    return (gram + gram.flip(-2, -1).conj()) / 2


def mean_doppler(gram: Tensor) -> Tensor:
    """Compute the mean phase advance per snapshot, arg sum_t x_t^H x_{t+1}.

    Parameters
    ----------
    gram
        Complex (..., history, history).

    Returns
    -------
    Tensor
        Real (...), rad; 0 for a single snapshot.
    """
    return torch.angle(gram.diagonal(1, -2, -1).sum(-1))


def doppler_phases(advance: Tensor, history: int, ahead: int) -> Tensor:
    """Compute exp(j w t) from the first snapshot to the last predicted one, 1 at the last known one.

    Parameters
    ----------
    advance
        w, real (...), rad per snapshot.
    history, ahead
        Number of snapshots known and predicted.

    Returns
    -------
    Tensor
        Complex (..., history + ahead).
    """
    time = torch.arange(1 - history, ahead + 1, device=advance.device, dtype=advance.dtype)
    phase = advance.unsqueeze(-1) * time
    return torch.polar(torch.ones_like(phase), phase)


def window_sums(gram: Tensor, order: int, ahead: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum Gram matrices and cross-correlations over all windows that have a known target, per horizon.

    For the horizon l: M_l = sum_s [R]_{s..s+p-1, s..s+p-1} and b_l = sum_s [R]_{s..s+p-1, s+p-1+l}, s = 0 ... P-p-l.
    The M_l are running sums of the same blocks.

    Parameters
    ----------
    gram
        R, complex (rows, history, history).
    order
        Length p of the windows.
    ahead
        Largest horizon, at most P - p.
    weights
        Factor per window s = 0 ... P - p - 1, real (rows, P - p), or None.

    Returns
    -------
    normal : Tensor
        M_l, complex (rows, ahead, order, order).
    cross : Tensor
        b_l, complex (rows, ahead, order).
    """
    windows = gram.shape[-1] - order
    padded = torch.view_as_real(pad(gram.resolve_conj(), (0, ahead)))
    total, normal = torch.zeros_like(padded[:, :order, : order + ahead]), []
    for start in range(windows):
        block = padded[:, start : start + order, start : start + order + ahead]  # the window, and its targets
        total = total + block if weights is None else total.addcmul(block, weights[:, start, None, None, None])
        if start >= windows - ahead:
            normal.append(torch.view_as_complex(total)[:, :, :order])
    return torch.stack(normal[::-1], 1), torch.view_as_complex(total)[:, :, order:].mT


def toeplitz(correlation: Tensor, history: int) -> tuple[Tensor, Tensor]:
    """Form the normal equations of a Wiener predictor from an autocorrelation.

    Parameters
    ----------
    correlation
        r_k = E[x_t^* x_{t+k}], complex (rows, history + ahead), k = 0, 1, ...
    history
        P.

    Returns
    -------
    matrix : Tensor
        T_ts = r_{t-s}, complex (rows, history, history), of snapshots t and s before the last: newest first.
    target : Tensor
        r_{l+t}, complex (rows, history, ahead), l = 1, 2, ...
    """
    lags = torch.cat([correlation[:, :history].flip(1), correlation[:, 1:history].conj()], 1)
    matrix = lags.unfold(1, history, 1).flip(1)
    return matrix, correlation[:, 1:].unfold(1, correlation.shape[1] - history, 1)


def iterate_coefficients(coefficients: Tensor, ahead: int) -> Tensor:
    """Extend coefficients to more distant horizons: predictions take the place of snapshots.

    Parameters
    ----------
    coefficients
        Complex (rows, history, direct), with horizons 1 to ``direct``.
    ahead
        Number of horizons to return.

    Returns
    -------
    Tensor
        Complex (rows, history, ahead).
    """
    rows, history, direct = coefficients.shape
    if ahead <= direct:
        return coefficients[:, :, :ahead]
    basis = torch.eye(history, dtype=coefficients.dtype, device=coefficients.device).expand(rows, -1, -1)
    known = torch.cat([basis, coefficients], -1)  # column t: snapshot t as a combination of known ones
    longest = coefficients[:, :, -1:]
    for _ in range(ahead - direct):
        end = known.shape[-1] - direct + 1
        known = torch.cat([known, known[:, :, end - history : end] @ longest], -1)
    return known[:, :, history:]
