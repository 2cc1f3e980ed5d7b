"""Near or far from the shape of the wavefront alone, for any number of antennas.

The array is cut into 16 sub-arrays. Each is short enough to see a plane wave; how the phase of its best beam moves
from one sub-array to the next is the wavefront's curvature, in units of the aperture. A user's label depends on
nothing else (beta in `simulator.geometry.near_field`), so 16 numbers a user serve every array.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

SUBARRAYS = 16
CURVATURES = 14
SLOPES = 32
OVERSAMPLING = 2
LONG_SUBARRAY = 64
_USERS_AT_ONCE = 320


@cache
def chirps(device: torch.device) -> Tensor:
    """Unit-norm reference phase progressions over the sub-arrays, as a real matrix that all inner products come from.

    Over the aperture t in [-1/2, 1/2] a wave of curvature beta has the phase -pi beta^2 (2t)^2 / 2; beta runs over
    0 ... 2.6, on either side of the near field's border at 0.986. Slopes run over all there are, -1 <= slope < 1.

    Returns float32 (2 * 16, 2 * 2 * curvatures * slopes): rows for the outputs' real and imaginary parts; columns for
    the products' real and imaginary parts, the outputs as they are and conjugated.
    """
    t = (torch.arange(SUBARRAYS, dtype=torch.float64) + 0.5) / SUBARRAYS - 0.5
    beta = torch.linspace(0, 2.6, CURVATURES, dtype=torch.float64)
    slope = torch.arange(SLOPES, dtype=torch.float64) * (2 / SLOPES) - 1
    phase = (
        -2 * math.pi * beta.square()[None, :, None] * t.square()[:, None, None]
        + 2 * math.pi * slope[None, None, :] * (t * SUBARRAYS / 2)[:, None, None]
    )
    as_given = _real_matrix(torch.polar(torch.full_like(phase, SUBARRAYS**-0.5), -phase).flatten(1))
    conjugated = torch.cat([as_given[:SUBARRAYS], -as_given[SUBARRAYS:]])
    both = torch.stack([matrix.reshape(2 * SUBARRAYS, 2, -1) for matrix in (as_given, conjugated)], 2)
    return both.flatten(1).to(device)


@cache
def fourier(length: int, device: torch.device) -> Tensor:
    """The Fourier matrix from ``length`` antennas to twice as many beams, over sqrt(length): `_real_matrix`, float32.

    Its rows come in the order of memory: real and imaginary part of the first antenna, then of the second, ...
    """
    turns = torch.outer(torch.arange(length), torch.arange(OVERSAMPLING * length)).double() / (OVERSAMPLING * length)
    matrix = _real_matrix(torch.polar(torch.full_like(turns, length**-0.5), -2 * math.pi * turns))
    return matrix.reshape(2, length, -1).transpose(0, 1).flatten(0, 1).to(device)


def _real_matrix(values: Tensor) -> Tensor:
    """A complex (n, m) matrix as a real one, float32 (2n, 2m): real parts first, of rows and of columns."""
    rows = torch.cat([values.real, values.imag], 1), torch.cat([-values.imag, values.real], 1)
    return torch.cat(rows).float()


def subarray_beams(channels: Tensor) -> tuple[Tensor, Tensor]:
    """The common best beam of 16 sub-arrays: its outputs, and the energy in it and its neighbours on either side.

    channels: complex64 (..., antennas). Returns complex64 (..., 16) of unit norm, and float32 (..., 3).
    """
    antennas = channels.shape[-1]
    length = math.ceil(antennas / SUBARRAYS)
    parts = torch.view_as_real(channels.resolve_conj()).flatten(-2)  # a complex norm takes three times as long
    scale = torch.linalg.vector_norm(parts, dim=-1, keepdim=True).clamp(min=1e-30)
    padded = nn.functional.pad(parts / scale, (0, 2 * (length * SUBARRAYS - antennas)))
    beams = _beams(padded.reshape(*padded.shape[:-1], SUBARRAYS, 2 * length))
    energy = beams.square().sum((-3, -2))  # (..., beams), over the sub-arrays
    best = energy.argmax(-1, keepdim=True)
    count = energy.shape[-1]
    around = [energy.gather(-1, (best + shift) % count) for shift in (0, -OVERSAMPLING, OVERSAMPLING)]
    outputs = beams.gather(-1, best[..., None, None].expand(*beams.shape[:-1], 1)).squeeze(-1)
    outputs = outputs / torch.linalg.vector_norm(outputs, dim=(-2, -1), keepdim=True).clamp(min=1e-30)
    return torch.view_as_complex(outputs), torch.cat(around, -1)


def _beams(subarrays: Tensor) -> Tensor:
    """Spatial spectra, float32 (..., 2, beams), real and imaginary, of antennas, float32 (..., 2 * antennas)."""
    shape, length = subarrays.shape[:-1], subarrays.shape[-1] // 2
    if length <= LONG_SUBARRAY and subarrays.device.type == "cpu":  # there a product is quicker
        return (subarrays @ fourier(length, subarrays.device)).reshape(*shape, 2, -1)
    antennas = torch.view_as_complex(subarrays.reshape(*shape, length, 2))
    spectra = torch.fft.fft(antennas, n=OVERSAMPLING * length, dim=-1) / math.sqrt(length)
    return torch.stack([spectra.real, spectra.imag], -2)


def curvature_features(outputs: Tensor, energies: Tensor) -> tuple[Tensor, Tensor]:
    """How the best beam's phase bends from one sub-array to the next, free of the user's phase and angle.

    The outputs with mean phase and slope removed, the second differences of their phase, their magnitudes, the
    energies around the beam, and how well chirps of 14 curvatures explain the outputs.

    outputs, energies: as `subarray_beams` gives them. Returns two, float32 (..., FEATURES): of the channels as they
    are, and of their conjugates.
    """
    step = (outputs[..., 1:] * outputs[..., :-1].conj()).sum(-1, keepdim=True)
    index = torch.arange(SUBARRAYS, device=outputs.device) - (SUBARRAYS - 1) / 2
    flat = outputs * _unit(-step.angle() * index)
    flat = flat * _unit(-flat.sum(-1, keepdim=True).angle())
    steps = flat[..., 1:] * flat[..., :-1].conj()
    bends = steps[..., 1:] * steps[..., :-1].conj()
    mean_bend = bends.sum(-1, keepdim=True) * SUBARRAYS
    bends = bends / bends.abs().clamp(min=1e-12)
    real, imaginary = flat.real, flat.imag
    products = torch.cat([real, imaginary], -1) @ chirps(flat.device)
    products = products.square().reshape(*flat.shape[:-1], 2, 2, CURVATURES, SLOPES)
    match = torch.add(*products.unbind(-4)).amax(-1).clamp(min=1e-30).sqrt()
    magnitude = flat.abs() * 4

    def reading(sign: int, energies: Tensor, match: Tensor) -> Tensor:
        return torch.cat(
            [
                real * 4,
                imaginary * (4 * sign),
                magnitude,
                bends.real,
                bends.imag * sign,
                energies,
                match,
                match - match[..., :1],
                mean_bend.real.clamp(-3, 3),
                mean_bend.imag.clamp(-3, 3) * sign,
            ],
            -1,
        )

    return reading(1, energies, match[..., 0, :]), reading(
        -1, torch.cat([energies[..., :1], energies[..., 1:].flip(-1)], -1), match[..., 1, :]
    )


def _unit(phase: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(phase), phase)


def mean_phase_step(channels: Tensor) -> Tensor:
    """arg sum_n h_(n+1) h_n^*, the mean phase step from antenna to antenna, rad; free of the user's phase and scale.

    channels: complex (..., antennas). Returns real (...).
    """
    scale = channels.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    unit = channels / scale
    return (unit[..., 1:] * unit[..., :-1].conj()).sum(-1).angle()


FEATURES = 3 * SUBARRAYS + 2 * (SUBARRAYS - 2) + 3 + 2 * CURVATURES + 2


class WavefrontClassifier(nn.Module):
    """A small MLP from `curvature_features` to the near-field logit."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def forward(self, channels: Tensor) -> Tensor:
        """Channels, complex64 (..., antennas), to near-field logits, float32 (...).

        Whether a spherical wave's phase bends up or down depends on whose convention the CSI came in (a wave
        exp(-j 2 pi r / lambda) reaches us conjugated from a file of rows h_k^H), so both readings are tried.
        """
        users = channels.reshape(-1, channels.shape[-1])
        # A processor's cache holds what comes of a few hundred users, so they are worked through in parts.
        parts = torch.split(users, _USERS_AT_ONCE) if channels.device.type == "cpu" else [users]
        return torch.cat([self._logit(part) for part in parts]).reshape(channels.shape[:-1])

    def _logit(self, users: Tensor) -> Tensor:
        features = torch.stack(curvature_features(*subarray_beams(users)))
        logit: Tensor = self.layers(features.to(next(self.parameters()).dtype))
        return logit.squeeze(-1).amax(0)
