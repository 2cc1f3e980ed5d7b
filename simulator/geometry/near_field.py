"""Where the near field begins: Rayleigh distances, the effective near-field region and the labels they give.

A user is near-field when a far-field beam, aimed as well as it can be at the user's angle, still loses at least
the share ``loss`` (Delta, 0.1 by default) of the amplitude: 1 - |b^H a| >= Delta.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.geometry.arrays import UniformLinearArray

DEFAULT_LOSS = 0.1
_TINY = torch.finfo(torch.float32).tiny


def beam_gain(beta: float | np.ndarray) -> float | np.ndarray:
    """|G(beta)|, G(beta) = (1/beta) int_0^beta exp(-j pi t^2 / 2) dt: the far-field beam's gain on a near user."""
    from scipy.special import fresnel

    beta = np.asarray(beta, dtype=float)
    sine, cosine = fresnel(beta)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(beta > 0, np.hypot(sine, cosine) / beta, 1.0)
    return gain if gain.ndim else float(gain)


@cache
def beta_threshold(loss: float = DEFAULT_LOSS) -> float:
    """beta_Delta: the smallest beta at which |G(beta)| = 1 - Delta (0.98641 for Delta = 0.1).

    Raises ValueError unless 0 < loss < 0.8.
    """
    from scipy.optimize import brentq  # 0.2 s to import; precoders, which need no theory of regions, start without

    if not 0 < loss < 0.8:
        raise ValueError(f"loss must lie in (0, 0.8), got {loss}")
    grid = np.linspace(0, 6, 6001)  # |G| isn't monotone beyond 1.9: bracket the first crossing
    first = int(np.argmax(beam_gain(grid) <= 1 - loss))
    return float(brentq(lambda beta: beam_gain(beta) - (1 - loss), grid[first - 1], grid[first], xtol=1e-13))


def wavefront_curvature(array: UniformLinearArray, angle: Tensor, distance: Tensor) -> Tensor:
    """Beta = sqrt(N^2 d^2 cos^2(theta) / (2 lambda r)), dimensionless; float64, the shape of ``angle``."""
    aperture = array.aperture * torch.cos(angle.double())
    return torch.sqrt(aperture**2 / (2 * array.wavelength * distance.double()))


def is_near_field(array: UniformLinearArray, angle: Tensor, distance: Tensor, loss: float = DEFAULT_LOSS) -> Tensor:
    """True where beta >= beta_Delta, which is where 1 - |b^H a| >= Delta; bool, the shape of ``angle``."""
    return wavefront_curvature(array, angle, distance) >= beta_threshold(loss)


def rayleigh_distance(array: UniformLinearArray) -> float:
    """The classical 2 D^2 / lambda, m."""
    return 2 * array.aperture**2 / array.wavelength


def effective_rayleigh_distance(array: UniformLinearArray, angle: Tensor, loss: float = DEFAULT_LOSS) -> Tensor:
    """Distance at which beta = beta_Delta in direction ``angle``: N^2 d^2 cos^2(theta) / (2 lambda beta_Delta^2), m."""
    aperture = array.aperture * torch.cos(angle.double())
    return aperture**2 / (2 * array.wavelength * beta_threshold(loss) ** 2)


def ground_near_field_region(array: UniformLinearArray, loss: float = DEFAULT_LOSS) -> tuple[float, float] | None:
    """The effective near-field region (ENFR) on the ground, [h_B / tan(theta-), h_B / tan(theta+)] in m from the mast.

    theta-+ are the two depression angles in (0, pi/2) that solve
    sin(theta) cos^2(theta - theta_tit) = 2 h_B beta_Delta^2 lambda / (N^2 d^2), theta+ < theta-.
    None where the right side exceeds the left everywhere: no ground user is near-field.
    """
    from scipy.optimize import brentq

    level = 2 * array.height * beta_threshold(loss) ** 2 * array.wavelength / array.aperture**2

    def excess(theta: float) -> float:
        return math.sin(theta) * math.cos(theta - array.tilt) ** 2 - level

    grid = np.linspace(1e-9, math.pi / 2, 4001)
    values = np.sin(grid) * np.cos(grid - array.tilt) ** 2 - level
    peak = int(values.argmax())
    if values[peak] <= 0:
        return None
    far = brentq(excess, grid[0], grid[peak], xtol=1e-14)
    near = brentq(excess, grid[peak], grid[-1], xtol=1e-14) if values[-1] < 0 else math.pi / 2
    return array.height / math.tan(near), array.height / math.tan(far)


def focusing_gain(precoder: Tensor, steering: Tensor) -> Tensor:
    """|b^H w|^2: the share of a unit-norm beam's power that a unit-norm response ``steering`` collects.

    precoder: complex (..., antennas); steering: complex (points, antennas). Returns float (..., points).
    """
    return torch.abs(precoder @ steering.conj().T) ** 2


def far_field_test(channels: Tensor, loss: float = DEFAULT_LOSS, zero_padding: int = 8) -> Tensor:
    """Near-field labels from the channels alone, without a network: how well does one plane wave explain each?

    Near where the best far-field beam's amplitude, max_theta |a(theta)^H h| on a grid of ``zero_padding`` x N
    angles by FFT, is at most 1 - Delta of ||h||. Noise makes a far user look near, so its power is taken off both:
    the median of the Hann-windowed spectrum, in which a user fills only a few bins, tells how much there is.

    channels: complex (..., antennas), non-zero. Returns bool (...).
    """
    antennas = channels.shape[-1]
    parts = torch.view_as_real(channels.resolve_conj())
    unit = torch.view_as_complex(parts / parts.abs().amax((-2, -1), keepdim=True).clamp(min=_TINY))
    window = torch.hann_window(antennas, device=channels.device)
    spectrum = squared_magnitude(torch.fft.fft(unit * window, dim=-1)) / window.square().sum().clamp(min=1)
    noise = spectrum.median(-1).values / math.log(2)  # the median of an exponential is log 2 of its mean
    peak = squared_magnitude(torch.fft.fft(unit, n=zero_padding * antennas, dim=-1)).amax(-1) / antennas
    energy = squared_magnitude(unit).sum(-1)
    if antennas < 4:  # too few bins to tell noise from signal
        noise = torch.zeros_like(noise)
    share = (peak - noise).clamp(min=0) / (energy - antennas * noise).clamp(min=_TINY)
    near: Tensor = share <= (1 - loss) ** 2
    return near
