"""Apply coefficient rules to windows: in antennas, or in denoised beams with a rule per strong beam.

Without geometry one rule of the whole window's Gram matrix serves all antennas. With a line or panel the window is
centred (`simulator.csi.beams`), denoised per beam, and each of the strongest beams has coefficients of its own, from

    R_b = sum of the Gram matrices of beam b and its neighbours + g R,

R of all beams with the weight g = 0.2. All other beams use the coefficients of R.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.csi.beams import (
    ArrayGeometry,
    beam_gains,
    canonical_phases,
    gains_of_power,
    to_antennas,
    to_beams,
)
from simulator.csi.prediction.temporal import doppler_phases, mean_doppler, temporal_gram
from simulator.csi.prediction.window import Window
from simulator.downlink.gram import squared_magnitude

STRONG_BEAMS = 16
COMMON_WEIGHT = 0.2


@dataclass(frozen=True)
class PreparedWindow:
    """Hold a window in beams, without its mean Doppler shift, with the Gram matrices of its parts.

    Parameters
    ----------
    values
        Beams, or antennas without geometry, without mean Doppler, complex64 (series, history, antennas).
    phases
        Canonical factors of the antennas, complex64 (series, antennas), or None.
    advance
        Mean Doppler, float64 (series,), rad per snapshot.
    strong
        Numbers of the strong beams, int64 (series, beams); none without geometry.
    gram
        Gram matrices of the whole window and of each strong beam, complex128 (series, 1 + beams, history, history),
        each with a mean diagonal of 1.
    noise
        Noise in their diagonals, float64 (series, 1 + beams).
    geometry
        Arrangement of the antennas.
    """

    values: Tensor
    phases: Tensor | None
    advance: Tensor
    strong: Tensor
    gram: Tensor
    noise: Tensor
    geometry: ArrayGeometry

    def apply(self, coefficients: Tensor) -> Tensor:
        """Combine the snapshots and return to antennas.

        Parameters
        ----------
        coefficients
            Complex (series, 1 + beams, history, ahead), in the order of ``gram``.

        Returns
        -------
        Tensor
            complex64 (series, ahead, antennas).
        """
        history, ahead = coefficients.shape[-2:]
        used = coefficients.to(self.values.dtype)
        result = used[:, 0].mT @ self.values
        if self.strong.shape[1]:
            series = self.values.mT.gather(1, self.strong.unsqueeze(-1).expand(-1, -1, history))
            own = torch.einsum("smt,smta->sam", series, used[:, 1:])
            result = result.scatter(2, self.strong.unsqueeze(1).expand(-1, ahead, -1), own)
        rotation = doppler_phases(self.advance, history, ahead)[:, history:].unsqueeze(-1)
        result = to_antennas(result * rotation.to(result.dtype), self.geometry)
        return result if self.phases is None else result * self.phases.conj().unsqueeze(1)


def prepare_window(window: Window, beams: int = STRONG_BEAMS) -> PreparedWindow:
    """Centre, denoise and remove the mean Doppler of a window, and compute its Gram matrices.

    Parameters
    ----------
    window
        The history.
    beams
        Strong beams with coefficients of their own, where the geometry is known; 0: none.

    Returns
    -------
    PreparedWindow
        The window's parts.
    """
    values, variance = window.snapshots, window.noise_variance.double()
    phases, energy = None, variance * values.shape[-1]
    gains = torch.ones(values.shape[0], values.shape[-1], dtype=torch.float64, device=values.device)
    if window.geometry.kind != "none":
        phases = canonical_phases(values, window.geometry)
        values = to_beams(values * phases.unsqueeze(1), window.geometry)
        soft = _temporal_gains(values, variance, window.geometry)
        values, gains = values * soft.unsqueeze(1), soft.double()
        energy = variance * gains.square().sum(-1)
    common = temporal_gram(values)
    advance = mean_doppler(common)
    turned = doppler_phases(advance, values.shape[1], 0)
    values = values * turned.conj().to(values.dtype).unsqueeze(-1)
    common = common * turned.unsqueeze(-1) * turned.conj().unsqueeze(1)
    count = min(beams, values.shape[-1]) if window.geometry.kind != "none" else 0
    strong = squared_magnitude(values).sum(1).topk(count, 1).indices
    gram, noise = common.unsqueeze(1), energy.unsqueeze(1)
    if count:
        own, own_noise = _local(values, gains.square() * variance.unsqueeze(-1), strong, window.geometry)
        gram = torch.cat([gram, own + COMMON_WEIGHT * gram], 1)
        noise = torch.cat([noise, own_noise + COMMON_WEIGHT * noise], 1)
    level = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1).clamp(min=torch.finfo(torch.float64).tiny)
    return PreparedWindow(
        values, phases, advance, strong, gram / level[..., None, None], noise / level, window.geometry
    )


def _temporal_gains(values: Tensor, variance: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Compute gains from the power of each beam within the temporal signal space, which holds less noise.

    The space is that of the Gram matrix of beams with the gains of their whole power: its eigenvectors v_i, weighted by
    the signal's share w_i of their eigenvalues. The signal's power is sum_i w_i (|v_i^T x|^2 - sigma^2) / P.
    """
    first = beam_gains(values, variance, geometry)
    noise = variance * first.double().square().sum(-1)
    spread, vectors = torch.linalg.eigh(temporal_gram(values * first.unsqueeze(1)))
    tiny = torch.finfo(spread.dtype).tiny
    share = ((spread - noise.unsqueeze(-1)).clamp(min=0) / spread.clamp(min=tiny)).to(first.dtype)
    components = squared_magnitude(vectors.mT.to(values.dtype) @ values) - variance.to(first.dtype)[:, None, None]
    signal = (share.unsqueeze(1) @ components).squeeze(1) / values.shape[1]
    return gains_of_power(signal, variance, geometry)


def _local(values: Tensor, noise: Tensor, strong: Tensor, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
    """Sum Gram matrices and noise over each strong beam and its neighbours, cyclically."""
    sizes = geometry.grid(values.shape[-1])
    near = _neighbours(strong, sizes)  # (series, beams, neighbours)
    index = near.flatten(1)
    series = values.mT.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[1]))
    series = series.view(*near.shape, values.shape[1])
    return temporal_gram(series.mT), noise.gather(1, index).view(near.shape).sum(-1)


def _neighbours(beams: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return each beam and the two beside it on every axis of the grid, int64 (..., neighbours)."""
    found, stride = [beams], 1
    for size in reversed(sizes):
        place = beams // stride % size
        found += [beams + ((place + step) % size - place) * stride for step in (-1, 1) if size > abs(step)]
        stride *= size
    return torch.stack(found, -1)
