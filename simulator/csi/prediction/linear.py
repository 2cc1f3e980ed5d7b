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
POWERS = (0.0, *(10**exponent for exponent in (-1.5, -0.83, -0.17, 0.5, 1.17, 1.83, 2.5)))  # of beams, in sigma^2
PASSES = 3
NEAR = 0.5  # weight of the beams beside it in the probabilities of a beam


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


def prepare_window(window: Window, beams: int = STRONG_BEAMS, mixture: bool = False) -> PreparedWindow:
    """Centre, denoise and remove the mean Doppler of a window, and compute its Gram matrices.

    Parameters
    ----------
    window
        The history.
    beams
        Strong beams with coefficients of their own, where the geometry is known; 0: none.
    mixture
        Denoise by the distribution of beam powers within each series, for learned predictors, instead of by the power
        of each beam and its neighbours.

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
        denoise = _mixture_gains if mixture else _temporal_gains
        soft = denoise(values, variance, window.geometry)
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

    The signal's power is sum_i w_i (|v_i^T x|^2 - sigma^2) / P, w_i the signal's share of the eigenvalues.
    """
    spread, signal, components = _temporal_components(values, variance, geometry)
    share = (signal / spread.clamp(min=torch.finfo(spread.dtype).tiny)).to(components.dtype)
    excess = components - variance.to(components.dtype)[:, None, None]
    power = (share.unsqueeze(1) @ excess).squeeze(1) / values.shape[1]
    return gains_of_power(power, variance, geometry)


def _mixture_gains(values: Tensor, variance: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Compute the mean gain of each beam under the distribution of beam powers found in the series itself.

    Component i of a beam of power s sigma^2 has the variance sigma^2 (1 + s p_i), p_i the signal's shares of the
    eigenvalues, of mean 1. s is one of ``POWERS``; its probabilities are those of all beams of the series, by
    expectation maximisation, and of the beams beside. The gain is the mean of s / (s + 1/2): snapshots are combined
    afterwards, which halves the noise or more. Sparse and dense channels thus have thresholds of their own.
    """
    _, signal, components = _temporal_components(values, variance, geometry)
    total = signal.mean(-1, keepdim=True)
    least = torch.finfo(components.dtype).eps * total.squeeze(-1) / values.shape[-1]  # sigma^2 of rounding
    noise = torch.maximum(variance, least).clamp(min=torch.finfo(components.dtype).tiny).to(components.dtype)
    ratio = components / noise[:, None, None]
    shares = torch.where(total > 0, signal / total, 1.0).to(components.dtype)
    powers = torch.tensor(POWERS, dtype=components.dtype, device=components.device)
    scaled = powers[:, None] * shares.unsqueeze(1)  # (series, powers, history)
    evidence = (scaled / (1 + scaled)) @ ratio - torch.log1p(scaled).sum(-1, keepdim=True)
    posterior = torch.softmax(evidence, 1)
    for _ in range(PASSES):
        prior = (posterior.sum(-1, keepdim=True) + 0.5) / (values.shape[-1] + 0.5 * len(POWERS))
        grid = posterior.view(*posterior.shape[:2], *geometry.grid(values.shape[-1]))
        beside = [grid.roll(step, axis) for axis in range(2, grid.ndim) for step in (-1, 1)]
        near = (sum(beside, torch.zeros_like(grid)) / len(beside)).flatten(2)
        posterior = torch.softmax(evidence + torch.log((1 - NEAR) * prior + NEAR * near + 1e-6), 1)
    strongest = (ratio.mean(1) - 1).clamp(min=POWERS[-1])
    gains = (posterior[:, :-1] * (powers / (powers + 0.5))[:-1, None]).sum(1)
    result: Tensor = gains + posterior[:, -1] * strongest / (strongest + 0.5)
    return result


def _temporal_components(values: Tensor, variance: Tensor, geometry: ArrayGeometry) -> tuple[Tensor, Tensor, Tensor]:
    """Project beams onto the eigenvectors v_i of the temporal Gram matrix of beams with gains of their whole power.

    Returns
    -------
    spread, signal : Tensor
        Eigenvalues, and what exceeds the noise in them, float64 (series, history).
    components : Tensor
        |v_i^T x|^2, real (series, history, antennas).
    """
    first = beam_gains(values, variance, geometry)
    noise = variance * first.double().square().sum(-1)
    spread, vectors = torch.linalg.eigh(temporal_gram(values * first.unsqueeze(1)))
    return spread, (spread - noise.unsqueeze(-1)).clamp(min=0), squared_magnitude(vectors.mT.to(values.dtype) @ values)


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
