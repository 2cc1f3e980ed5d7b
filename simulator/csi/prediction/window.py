"""Define the history from which channels are predicted, the form of a predictor, and a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from simulator.csi.beams import ArrayGeometry


@dataclass(frozen=True)
class Window:
    """Hold the history of several users, one series each.

    Parameters
    ----------
    snapshots
        Noisy channels, complex64 (series, history, antennas), oldest first, equally spaced in time.
    noise_variance
        sigma^2 per antenna and snapshot, real (series,); 0: none.
    geometry
        Arrangement of the antennas.
    """

    snapshots: Tensor
    noise_variance: Tensor
    geometry: ArrayGeometry = ArrayGeometry()  # noqa: RUF009 - frozen


class Predictor(Protocol):
    """Compute prediction coefficients of windows: a learned `simulator.csi.prediction.temporal.CoefficientRule`."""

    def __call__(self, gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
        """Compute coefficients.

        Parameters
        ----------
        gram
            Gram matrices of each window's parts, the common one first, without mean Doppler and with a mean diagonal of
            1, complex128 (series, rows, history, history).
        noise
            Noise in their diagonals, float64 (series, rows).
        ahead
            Number A of snapshots to predict.

        Returns
        -------
        Tensor
            Coefficients, complex128 (series, rows, history, ahead).
        """


@dataclass(frozen=True)
class Prediction:
    """Hold predicted channels with their expected error and origin.

    Parameters
    ----------
    channels
        complex64 (series, ahead, antennas).
    csi_error_db
        Estimate of 10 log10(||e||^2 / ||h||^2), real (series, ahead), dB.
    method
        Method of each series, by name.
    """

    channels: Tensor
    csi_error_db: Tensor
    method: Sequence[str]
