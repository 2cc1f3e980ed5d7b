"""Transform antennas to beams: unitary DFT of a line or panel, canonical direction and curvature, gain per beam.

The beams of N antennas are their unitary DFT; a panel of R x C antennas has R x C beams. A channel is sparse in beams
if its paths arrive on the DFT's grid as plane waves. The canonical step multiplies the antennas of each user by

    c_n = exp(j 2 pi q (n / N)^2 - j 2 pi k n / N),   n = -(N-1)/2 ... (N-1)/2,

which flattens the curvature q of the strongest wave and moves its direction onto the grid (fractional k; per dimension
for a panel, without curvature). DFT and canonical step are unitary: Gram matrices over antennas are kept, white noise
remains white.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.downlink.gram import squared_magnitude
from simulator.schemes.codebooks import polar_domain_curvatures

_COHERENCE = 0.8  # of neighbouring curvatures
ZERO_PADDING = 8  # of the search for directions between the beams
LEAKAGE = 0.2  # of the neighbours' power, expected in a beam
FLAT_BONUS = 1.05  # factor by which a curvature has to concentrate better than a plane wave


@dataclass(frozen=True)
class ArrayGeometry:
    """Describe how the antennas are arranged, as far as beams need it.

    Parameters
    ----------
    kind
        ``none``: unknown, no beams; ``line``: uniform line; ``panel``: uniform rectangle.
    rows, columns
        Size of the panel; antenna r + ``rows`` c is in row r and column c, the order of MATLAB's ``A(:)``.
    """

    kind: Literal["none", "line", "panel"] = "none"
    rows: int = 1
    columns: int = 1

    def check(self, antennas: int) -> None:
        """Check that a number of antennas fits the panel.

        Parameters
        ----------
        antennas
            N.

        Raises
        ------
        NflaeError
            If the panel has another number of antennas.
        """
        if self.kind == "panel" and self.rows * self.columns != antennas:
            raise NflaeError(f"geometry {self} has {self.rows * self.columns} antennas, the channels have {antennas}")

    def grid(self, antennas: int) -> tuple[int, ...]:
        """Return the sizes of the antenna axes, slowest first: (antennas,) or (columns, rows).

        Parameters
        ----------
        antennas
            N.

        Returns
        -------
        tuple of int
            Sizes with the product N.

        Raises
        ------
        NflaeError
            If the panel has another number of antennas.
        """
        self.check(antennas)
        return (self.columns, self.rows) if self.kind == "panel" else (antennas,)

    def __str__(self) -> str:
        return f"panel:{self.rows}x{self.columns}" if self.kind == "panel" else self.kind


def parse_geometry(text: str) -> ArrayGeometry:
    """Parse the value of ``--geometry``.

    Parameters
    ----------
    text
        ``none``, ``line`` or ``panel:ROWSxCOLUMNS``.

    Returns
    -------
    ArrayGeometry
        The geometry.

    Raises
    ------
    NflaeError
        For anything else; the message lists the valid forms.
    """
    if text == "none":
        return ArrayGeometry()
    if text == "line":
        return ArrayGeometry("line")
    panel = re.fullmatch(r"panel:([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if panel is None:
        raise NflaeError(f"no geometry {text[:60]!r}: there are none, line and panel:ROWSxCOLUMNS, e.g. panel:4x16")
    return ArrayGeometry("panel", int(panel[1]), int(panel[2]))


def to_beams(antennas: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Apply the unitary DFT over the antennas; the identity without geometry.

    Parameters
    ----------
    antennas
        Complex (..., antennas).
    geometry
        Arrangement of the antennas.

    Returns
    -------
    Tensor
        Beams, complex (..., antennas).
    """
    return _transform(antennas, geometry, inverse=False)


def to_antennas(beams: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Invert `to_beams`.

    Parameters
    ----------
    beams
        Complex (..., antennas).
    geometry
        Arrangement of the antennas.

    Returns
    -------
    Tensor
        Antennas, complex (..., antennas).
    """
    return _transform(beams, geometry, inverse=True)


def _transform(values: Tensor, geometry: ArrayGeometry, inverse: bool) -> Tensor:
    if geometry.kind == "none":
        return values
    sizes = geometry.grid(values.shape[-1])
    transform = torch.fft.ifftn if inverse else torch.fft.fftn
    axes = tuple(range(-len(sizes), 0))
    result: Tensor = transform(values.reshape(*values.shape[:-1], *sizes), dim=axes, norm="ortho")
    return result.flatten(-len(sizes))


def canonical_phases(snapshots: Tensor, geometry: ArrayGeometry, noise_variance: Tensor | None = None) -> Tensor:
    """Compute each user's factors c_n that flatten the strongest wave and move it onto the grid of the beams.

    The search runs over the strongest principal component in time, so that one FFT per curvature serves all snapshots.
    The curvature chosen has the largest sum of squared beam powers. Noise adds about log(curvatures) sigma^2 to the
    largest power of all curvatures; where sigma^2 is given, a curvature has to gain more than that.

    Parameters
    ----------
    snapshots
        Complex (series, history, antennas).
    geometry
        Arrangement of the antennas.
    noise_variance
        sigma^2 per antenna and snapshot, real (series,); None if unknown.

    Returns
    -------
    Tensor
        Unit-modulus factors, complex64 (series, antennas); ones without geometry.
    """
    series, _, antennas = snapshots.shape
    if geometry.kind == "none":
        return torch.ones(series, antennas, dtype=torch.complex64, device=snapshots.device)
    main = _principal_component(snapshots)
    if geometry.kind == "line":
        curved = bends(antennas).to(main.device)
        power = squared_magnitude(torch.fft.fft(main.unsqueeze(1) * curved, norm="ortho"))
        focus = power.square().sum(-1)
        focus[:, 0] *= FLAT_BONUS
        if noise_variance is not None:
            energy = squared_magnitude(snapshots).sum((1, 2)).clamp(min=torch.finfo(torch.float32).tiny)
            noise = noise_variance.to(energy.dtype) / energy  # of the principal component, which is scaled
            focus[:, 0] += 2 * power.amax((1, 2)) * noise * (math.log(len(curved)) + 1)
        factors = curved[focus.argmax(-1)]
        return factors * _onto_grid(main * factors, (antennas,))
    return _onto_grid(main, geometry.grid(antennas))


def _principal_component(snapshots: Tensor) -> Tensor:
    """Return the snapshots' sum weighted by the Gram matrix's strongest eigenvector, (series, antennas)."""
    gram = snapshots.conj() @ snapshots.transpose(1, 2)
    scale = gram.diagonal(dim1=1, dim2=2).real.sum(-1).clamp(min=torch.finfo(torch.float32).tiny)
    vector = torch.linalg.eigh(gram / scale[:, None, None]).eigenvectors[:, :, -1]
    main: Tensor = (vector.unsqueeze(1) @ snapshots).squeeze(1) / scale.sqrt().unsqueeze(-1)
    return main


@cache
def bends(antennas: int) -> Tensor:
    """Return the phases of all curvatures, the plane wave's first.

    Parameters
    ----------
    antennas
        N.

    Returns
    -------
    Tensor
        complex64 (curvatures, antennas).
    """
    position = (torch.arange(antennas, dtype=torch.float64) - (antennas - 1) / 2) / antennas
    curvatures = torch.tensor(polar_domain_curvatures(antennas, _COHERENCE), dtype=torch.float64)
    phase = 2 * math.pi * curvatures.unsqueeze(-1) * position.square()
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)


def _onto_grid(waves: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the linear phases that move the strongest direction of each wave onto the nearest beam's centre."""
    axes = tuple(range(-len(sizes), 0))
    padded = tuple(size * ZERO_PADDING for size in sizes)
    spectra = squared_magnitude(torch.fft.fftn(waves.reshape(-1, *sizes), s=padded, dim=axes))
    peak = spectra.flatten(1).argmax(-1)
    factors = torch.ones(len(waves), 1, device=waves.device, dtype=torch.complex64)
    for size, length in zip(reversed(sizes), reversed(padded), strict=True):
        fraction, peak = peak % length % ZERO_PADDING, peak // length
        phase = -2 * math.pi / length * fraction.unsqueeze(-1) * torch.arange(size, device=waves.device)
        ramp = torch.polar(torch.ones_like(phase), phase)
        factors = (ramp.unsqueeze(-1) * factors.unsqueeze(1)).flatten(1)
    return factors


def beam_gains(beams: Tensor, noise_variance: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Compute a Wiener gain per beam that removes noise, from the mean power e of the beam over the history.

    `gains_of_power` of the excess e - sigma^2.

    Parameters
    ----------
    beams
        Complex (series, history, antennas).
    noise_variance
        sigma^2 per beam and snapshot, real (series,).
    geometry
        Arrangement of the antennas; without one, no beam has neighbours.

    Returns
    -------
    Tensor
        Gains from 0 to 1, real (series, antennas).
    """
    power = squared_magnitude(beams).mean(1)
    return gains_of_power(power - noise_variance.to(power.dtype).unsqueeze(-1), noise_variance, geometry)


def gains_of_power(signal: Tensor, noise_variance: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Compute the Wiener gain g = s / (s + sigma^2) of each beam from an unbiased estimate of its signal's power.

    s is the positive part of the estimate plus 0.2 times the mean of the same over the beams beside it: paths leak into
    them.

    Parameters
    ----------
    signal
        Estimated power of the signal, real (series, antennas); may be negative.
    noise_variance
        sigma^2 per beam and snapshot, real (series,).
    geometry
        Arrangement of the antennas; without one, no beam has neighbours.

    Returns
    -------
    Tensor
        Gains from 0 to 1, real (series, antennas).
    """
    signal = signal.clamp(min=0)
    if geometry.kind != "none":
        grid = signal.view(-1, *geometry.grid(signal.shape[-1]))
        shifted = [grid.roll(step, axis) for axis in range(1, grid.ndim) for step in (-1, 1)]
        signal = signal + LEAKAGE * (sum(shifted, torch.zeros_like(grid)) / len(shifted)).flatten(1)
    noise = noise_variance.to(signal.dtype).unsqueeze(-1)
    return signal / (signal + noise).clamp(min=torch.finfo(signal.dtype).tiny)
