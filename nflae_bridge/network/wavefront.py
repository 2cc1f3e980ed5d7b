"""Near or far from the shape of the wavefront alone, for any number of antennas.

The array is cut into 16 sub-arrays. Each is short enough to see a plane wave; how the phase of its best beam moves
from one sub-array to the next is the wavefront's curvature, in units of the aperture. A user's label depends on
nothing else (beta in `simulator.near_field`), so 16 numbers a user serve every array.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

SUBARRAYS = 16
_CURVATURES = 14
_SLOPES = 33
_OVERSAMPLING = 2


@cache
def _chirps(device: torch.device) -> Tensor:
    """Reference phase progressions over the sub-arrays: complex64 (16, curvatures * slopes), unit-norm columns.

    Over the aperture t in [-1/2, 1/2] a wave of curvature beta has the phase -pi beta^2 (2t)^2 / 2; beta runs over
    0 ... 2.6, on either side of the near field's border at 0.986.
    """
    t = (torch.arange(SUBARRAYS, dtype=torch.float64) + 0.5) / SUBARRAYS - 0.5
    beta = torch.linspace(0, 2.6, _CURVATURES, dtype=torch.float64)
    slope = torch.linspace(-1.0, 1.0, _SLOPES, dtype=torch.float64)
    phase = (
        -2 * math.pi * beta.square()[None, :, None] * t.square()[:, None, None]
        + 2 * math.pi * slope[None, None, :] * (t * SUBARRAYS / 2)[:, None, None]
    )
    chirps = torch.polar(torch.full_like(phase, SUBARRAYS**-0.5), phase).reshape(SUBARRAYS, -1)
    return chirps.to(device, torch.complex64)


def subarray_beams(channels: Tensor) -> tuple[Tensor, Tensor]:
    """The common best beam of 16 sub-arrays: its outputs, and the energy in it and its neighbours on either side.

    channels: complex64 (..., antennas). Returns complex64 (..., 16) of unit norm, and float32 (..., 3).
    """
    antennas = channels.shape[-1]
    length = math.ceil(antennas / SUBARRAYS)
    scale = torch.linalg.vector_norm(channels, dim=-1, keepdim=True).clamp(min=1e-30)
    padded = nn.functional.pad(channels / scale, (0, length * SUBARRAYS - antennas))
    parts = padded.reshape(*padded.shape[:-1], SUBARRAYS, length)
    beams = torch.fft.fft(parts, n=_OVERSAMPLING * length, dim=-1) / math.sqrt(length)
    energy = beams.abs().square().sum(-2)  # (..., beams), over the sub-arrays
    best = energy.argmax(-1, keepdim=True)
    count = energy.shape[-1]
    around = [energy.gather(-1, (best + shift) % count) for shift in (0, -_OVERSAMPLING, _OVERSAMPLING)]
    outputs = beams.gather(-1, best.unsqueeze(-2).expand(*beams.shape[:-1], 1)).squeeze(-1)
    outputs = outputs / torch.linalg.vector_norm(outputs, dim=-1, keepdim=True).clamp(min=1e-30)
    return outputs, torch.cat(around, -1)


def curvature_features(outputs: Tensor, energies: Tensor) -> Tensor:
    """How the best beam's phase bends from one sub-array to the next, free of the user's phase and angle.

    The outputs with mean phase and slope removed, the second differences of their phase, their magnitudes, the
    energies around the beam, and how well chirps of 14 curvatures explain the outputs.

    outputs, energies: as `subarray_beams` gives them. Returns float32 (..., FEATURES).
    """
    step = (outputs[..., 1:] * outputs[..., :-1].conj()).sum(-1, keepdim=True)
    index = torch.arange(SUBARRAYS, device=outputs.device) - (SUBARRAYS - 1) / 2
    flat = outputs * torch.polar(torch.ones_like(step.abs()), -step.angle() * index)
    flat = flat * torch.polar(torch.ones_like(step.abs()), -flat.sum(-1, keepdim=True).angle())
    steps = flat[..., 1:] * flat[..., :-1].conj()
    bends = steps[..., 1:] * steps[..., :-1].conj()
    mean_bend = bends.sum(-1, keepdim=True) * SUBARRAYS
    bends = bends / bends.abs().clamp(min=1e-12)
    match = (flat @ _chirps(outputs.device).conj()).abs()
    match = match.reshape(*match.shape[:-1], _CURVATURES, _SLOPES).amax(-1)
    return torch.cat(
        [
            flat.real * 4,
            flat.imag * 4,
            flat.abs() * 4,
            bends.real,
            bends.imag,
            energies,
            match,
            match - match[..., :1],
            mean_bend.real.clamp(-3, 3),
            mean_bend.imag.clamp(-3, 3),
        ],
        -1,
    )


def mean_phase_step(channels: Tensor) -> Tensor:
    """arg sum_n h_(n+1) h_n^*, the mean phase step from antenna to antenna, rad; free of the user's phase and scale.

    channels: complex (..., antennas). Returns real (...).
    """
    scale = channels.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    unit = channels / scale
    return (unit[..., 1:] * unit[..., :-1].conj()).sum(-1).angle()


FEATURES = 3 * SUBARRAYS + 2 * (SUBARRAYS - 2) + 3 + 2 * _CURVATURES + 2


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
        outputs, energies = subarray_beams(channels)
        as_given = self._logit(outputs, energies)
        return torch.maximum(as_given, self._logit(outputs.conj(), energies[..., [0, 2, 1]]))

    def _logit(self, outputs: Tensor, energies: Tensor) -> Tensor:
        features = curvature_features(outputs, energies)
        logit: Tensor = self.layers(features.to(next(self.parameters()).dtype))
        return logit.squeeze(-1)
