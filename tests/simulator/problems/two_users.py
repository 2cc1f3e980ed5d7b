"""All rate pairs of two users on a grid of (lambda, p), by N x N inverses: independent of the K x K algebra."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def all_rates(h: NDArray[np.complex128], snr: float, points: int = 101) -> NDArray[np.float64]:
    """Return the rates, (points, points, 2), of two users' channels h, (2, antennas), at an SNR of the whole power."""
    grid = np.linspace(0, 1, points)
    fractions = np.stack([grid, 1 - grid], -1)
    inverse = np.linalg.inv(np.eye(h.shape[1]) + snr * np.einsum("gk,kn,km->gnm", fractions, h, h.conj()))
    beams = np.einsum("gnm,km->gkn", inverse, h)
    beams /= np.linalg.norm(beams, axis=-1, keepdims=True)
    gains = snr * np.abs(np.einsum("kn,gjn->gkj", h.conj(), beams)) ** 2
    received = gains[:, None] * fractions[None, :, None]
    own = np.diagonal(received, axis1=-2, axis2=-1)
    rates: NDArray[np.float64] = np.log2(1 + own / (1 + received.sum(-1) - own))
    return rates
