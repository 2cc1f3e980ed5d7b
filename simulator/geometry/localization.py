"""Near or far by maximum likelihood: the label of the spherical wave that explains a user's CSI best.

The classical bound beside which a network's labels are read: it knows the array, tries every angle and distance, and
takes its time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import is_near_field
from simulator.geometry.steering import near_field_steering

_BLOCK = 500  # users at once: 100 MB at N = 256
_CURVATURE_STEP = 0.125  # of beta^2; over half the aperture the phase is pi beta^2 / 2
_ZERO_PADDING = 4  # of the angles' FFT
_OPEN = (0.2, 3.0)  # coarse beta^2 outside of which no refinement changes the label (0.973 is the border)
_ZOOMS = 6


def most_likely_labels(array: UniformLinearArray, channels: Tensor) -> Tensor:
    """Labels of the (angle, distance) whose spherical wave has the largest |b^H y|: maximum likelihood in white noise.

    Coarse: over a grid of curvatures beta^2 the parabola is taken off and an FFT tries all angles (Fresnel). Fine:
    exact steering vectors around the winner, for users whose curvature leaves the label open.

    channels: complex64 (..., antennas), of any scale and phase. Returns bool (...), on the same device.
    Raises ValueError where the channels aren't those of ``array``.
    """
    if channels.shape[-1] != array.antennas:
        raise ValueError(f"the array has {array.antennas} antennas, the channels {channels.shape[-1]}")
    users = channels.reshape(-1, array.antennas)
    near = torch.cat([_most_likely(array, part) for part in torch.split(users, _BLOCK)])
    return near.reshape(channels.shape[:-1])


def _most_likely(array: UniformLinearArray, users: Tensor) -> Tensor:
    """bool (users,) of channels complex64 (users, antennas)."""
    curvature, sine = _coarse(array, users)
    open_case = (curvature > _OPEN[0]) & (curvature < _OPEN[1])
    curvature[open_case], sine[open_case] = _refined(array, users[open_case], curvature[open_case], sine[open_case])
    return is_near_field(array, *_whereabouts(array, curvature, sine))


def _coarse(array: UniformLinearArray, users: Tensor) -> tuple[Tensor, Tensor]:
    """The best (beta^2, sin theta) of a grid, float64 (users,) each."""
    grid = torch.cat([torch.arange(0, 4, _CURVATURE_STEP, dtype=torch.float64), torch.logspace(0.6, 2.1, 60).double()])
    place = (array.element_offsets() / array.aperture).to(users.device)
    padded = _ZERO_PADDING * array.antennas
    best = torch.full((len(users),), -1.0, device=users.device)
    curvature = torch.zeros(len(users), dtype=torch.float64, device=users.device)
    sine = torch.zeros_like(curvature)
    for square in grid.tolist():
        phase = (2 * math.pi * square * place**2).float()
        spectrum = torch.fft.fft(users * torch.polar(torch.ones_like(phase), phase), n=padded).abs()
        value, at = spectrum.max(-1)
        better = value > best
        best = torch.where(better, value, best)
        curvature = torch.where(better, square, curvature)
        sine = torch.where(better, 2 * ((at / padded + 0.5) % 1 - 0.5).double(), sine)
    return curvature, sine


def _refined(array: UniformLinearArray, users: Tensor, curvature: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """The best of 5 x 5 exact spherical waves around each user's (beta^2, sin theta), zooming in six times."""
    shift = torch.linspace(-1, 1, 5, dtype=torch.float64, device=users.device)
    sine_step = 2 / (_ZERO_PADDING * array.antennas)
    for zoom in range(_ZOOMS):
        curvatures = curvature.reshape(-1, 1, 1) + shift.reshape(1, -1, 1) * _CURVATURE_STEP / 2**zoom
        sines = sine.reshape(-1, 1, 1) + shift.reshape(1, 1, -1) * sine_step / 2**zoom
        curvatures, sines = (grid.expand(-1, 5, 5).flatten(1) for grid in (curvatures, sines))
        waves = near_field_steering(array, *_whereabouts(array, curvatures, sines))
        winner = (waves.conj() @ users.unsqueeze(-1)).squeeze(-1).abs().argmax(-1, keepdim=True)
        curvature = curvatures.gather(1, winner).squeeze(1)
        sine = sines.gather(1, winner).squeeze(1)
    return curvature, sine


def _whereabouts(array: UniformLinearArray, curvature: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """(theta, r) of beta^2 = (N d cos theta)^2 / (2 lambda r) and sin theta."""
    angle = torch.asin(sine.clamp(-1, 1))
    reach = (array.aperture * torch.cos(angle)) ** 2 / (2 * array.wavelength)
    return angle, (reach / curvature.clamp(min=1e-6)).clamp(min=1e-3)
