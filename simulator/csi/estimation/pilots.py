"""State the observation model of pilots: y_m = h^H phi_m + n_m, conjugated to y = Phi^H h + n."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_RANK_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Observation:
    """Hold received pilots of several channels, each with a covariance of its own.

    The transmit vector of pilot symbol m is phi_m, column m of Phi. A user receives y_m = h^H phi_m + n_m with
    n_m ~ CN(0, sigma^2); the conjugates are y = Phi^H h + n. Orthogonal pilots of N symbols, correlated with the pilot
    sequence, give one observation per antenna: y = h + n (``pilots`` None).

    Attributes
    ----------
    received : Tensor
        Conjugated received pilots y, complex64 (series, snapshots, symbols). The snapshots of a series have the
        directions in common and gains of their own.
    noise_variance : Tensor
        sigma^2 per symbol, float32 (series,), > 0.
    pilots : Tensor, optional
        Phi, complex64 (antennas, symbols), with linearly independent columns.
    """

    received: Tensor
    noise_variance: Tensor
    pilots: Tensor | None = None

    @property
    def antennas(self) -> int:
        """N."""
        return self.received.shape[-1] if self.pilots is None else self.pilots.shape[0]

    def normalised(self) -> tuple[Observation, Tensor]:
        """Scale every series to unit noise variance.

        Returns
        -------
        observation : Observation
            The scaled observation.
        scale : Tensor
            Noise amplitude of each series, float32 (series, 1, 1); estimates are multiplied by it.
        """
        scale = self.noise_variance.sqrt()[:, None, None]
        return Observation(self.received / scale, torch.ones_like(self.noise_variance), self.pilots), scale

    def back_projected(self, residual: Tensor) -> Tensor:
        """Compute Phi r, the correlation of every antenna's pilot sequence with a residual.

        Parameters
        ----------
        residual : Tensor
            r, complex64 (series, snapshots, symbols).

        Returns
        -------
        Tensor
            complex64 (series, snapshots, antennas).
        """
        return residual if self.pilots is None else residual @ self.pilots.T

    def observed(self, channels: Tensor) -> Tensor:
        """Compute Phi^H h.

        Parameters
        ----------
        channels : Tensor
            h, complex64 (..., antennas).

        Returns
        -------
        Tensor
            complex64 (..., symbols).
        """
        return channels if self.pilots is None else channels @ self.pilots.conj()


def check_pilots(pilots: Tensor, symbols: int) -> None:
    """Check that a pilot matrix fits the received pilots.

    Parameters
    ----------
    pilots : Tensor
        Phi, complex (antennas, symbols).
    symbols : int
        Received symbols per snapshot.

    Raises
    ------
    ValueError
        If the number of symbols differs or exceeds the number of antennas, a value is not finite, or the columns are
        linearly dependent.
    """
    if pilots.ndim != 2 or pilots.shape[1] != symbols:
        size = " x ".join(map(str, pilots.shape))
        turned = "; transpose it" if pilots.ndim == 2 and pilots.shape[0] == symbols else ""
        raise ValueError(f"the pilot matrix is {size}, expected N x {symbols}: one column per received symbol{turned}")
    antennas = pilots.shape[0]
    if symbols > antennas:
        raise ValueError(
            f"the pilot matrix has {symbols} symbols for {antennas} antennas, expected at most as many symbols as"
            " antennas; correlate with the pilot sequences first and leave the pilot matrix out"
        )
    if not bool(torch.view_as_real(pilots.to(torch.complex128).resolve_conj()).isfinite().all()):
        raise ValueError("the pilot matrix holds NaN or Inf")
    values = torch.linalg.svdvals(pilots.to(torch.complex128))
    rank = int((values > _RANK_TOLERANCE * values[0]).sum())
    if rank < symbols:
        raise ValueError(f"the pilot matrix has rank {rank}, expected {symbols}: its columns are linearly dependent")
