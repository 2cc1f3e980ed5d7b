"""Predict that the channel stays: h_hat_{P-1+l} = x_{P-1}."""

from __future__ import annotations

from torch import Tensor

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
