"""Predict that the channel stays: h_hat_{P-1+l} = x_{P-1}."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.csi.prediction.temporal import temporal_gram
from simulator.csi.prediction.window import Window


def hold(window: Window, ahead: int) -> Tensor:
    """Return the last snapshot for every horizon.

    Parameters
    ----------
    window
        The history.
    ahead
        Number of snapshots to predict.

    Returns
    -------
    Tensor
        complex64 (series, ahead, antennas).
    """
    return window.snapshots[:, -1:].expand(-1, ahead, -1)


def hold_error_db(window: Window, ahead: int) -> Tensor:
    """Estimate the error of `hold`, noise included, from pairs of known snapshots.

    Parameters
    ----------
    window
        The history.
    ahead
        Number of horizons; those longer than the history have the error of its ends.

    Returns
    -------
    Tensor
        10 log10(||e||^2 / ||h||^2), float64 (series, ahead), dB; NaN for a single snapshot.
    """
    series, history, antennas = window.snapshots.shape
    if history < 2:
        return torch.full((series, ahead), torch.nan, dtype=torch.float64)
    noise = antennas * window.noise_variance.double()
    gram = temporal_gram(window.snapshots)
    energy = gram.diagonal(dim1=1, dim2=2).real
    power = (energy.mean(1) - noise).clamp(min=torch.finfo(torch.float64).tiny)
    errors = []
    for step in range(1, ahead + 1):
        lag = min(step, history - 1)
        product = gram.diagonal(lag, 1, 2).real
        change = (energy[:, lag:] + energy[:, :-lag] - 2 * product).mean(1)
        errors.append((change - noise).clamp(min=1e-9 * power) / power)
    return 10 * torch.log10(torch.stack(errors, 1))
