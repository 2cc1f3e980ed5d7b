"""Compute the near-field boundary: Rayleigh distances, the effective near-field region and near-field labels.

A user is near-field if a far-field beam at the user's angle loses at least the fraction ``loss`` (Delta, 0.1 by
default) of the amplitude: 1 - |b^H a| >= Delta. With the wavefront curvature
beta = sqrt(N^2 d^2 cos^2(theta) / (2 lambda r)) this is equivalent to beta >= beta_Delta, |G(beta_Delta)| = 1 - Delta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.geometry.arrays import UniformLinearArray

DEFAULT_LOSS = 0.1
_TINY = torch.finfo(torch.float32).tiny


def beam_gain(beta: float | np.ndarray) -> float | np.ndarray:
    """Compute |G(beta)|, the amplitude gain of a far-field beam at a user with wavefront curvature beta.

    G(beta) = (1 / beta) int_0^beta exp(-j pi t^2 / 2) dt.

    Parameters
    ----------
    beta
        Wavefront curvature, dimensionless, of any shape.

    Returns
    -------
    float or ndarray
        |G|, 1 at beta = 0, of the shape of ``beta``.
    """
    from scipy.special import fresnel

    beta = np.asarray(beta, dtype=float)
    sine, cosine = fresnel(beta)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(beta > 0, np.hypot(sine, cosine) / beta, 1.0)
    return gain if gain.ndim else float(gain)


@cache
def beta_threshold(loss: float = DEFAULT_LOSS) -> float:
    """Compute beta_Delta, the smallest beta at which |G(beta)| = 1 - Delta.

    Parameters
    ----------
    loss
        Delta, in (0, 0.8).

    Returns
    -------
    float
        beta_Delta, dimensionless; 0.98641 for Delta = 0.1.

    Raises
    ------
    ValueError
        Unless 0 < loss < 0.8.
    """
    if not 0 < loss < 0.8:
        raise ValueError(f"loss must lie in (0, 0.8), got {loss}")
    grid = np.linspace(0, 6, 6001)  # |G| is not monotone beyond 1.9: bracket the first crossing
    first = int(np.argmax(beam_gain(grid) <= 1 - loss))
    return _root(lambda beta: float(beam_gain(beta)) - (1 - loss), grid[first - 1], grid[first])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function changes its sign, by bisection: scipy.optimize alone takes longer to import."""
    positive = function(low) > 0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (function(middle) > 0) == positive else (low, middle)
    return (low + high) / 2


def wavefront_curvature(array: UniformLinearArray, angle: Tensor, distance: Tensor) -> Tensor:
    """Compute the wavefront curvature beta = sqrt(N^2 d^2 cos^2(theta) / (2 lambda r)).

    Parameters
    ----------
    array
        Array.
    angle, distance
        theta, rad, and r, m, of a common shape.

    Returns
    -------
    Tensor
        beta, dimensionless, float64, of the same shape.
    """
    aperture = array.aperture * torch.cos(angle.double())
    return torch.sqrt(aperture**2 / (2 * array.wavelength * distance.double()))


def is_near_field(array: UniformLinearArray, angle: Tensor, distance: Tensor, loss: float = DEFAULT_LOSS) -> Tensor:
    """Label users near-field where beta >= beta_Delta, equivalently 1 - |b^H a| >= Delta.

    Parameters
    ----------
    array
        Array.
    angle, distance
        theta, rad, and r, m, of a common shape.
    loss
        Delta.

    Returns
    -------
    Tensor
        bool, of the same shape; true for near-field users.
    """
    return wavefront_curvature(array, angle, distance) >= beta_threshold(loss)


def rayleigh_distance(array: UniformLinearArray) -> float:
    """Compute the classical Rayleigh distance 2 D^2 / lambda.

    Parameters
    ----------
    array
        Array of aperture D = N d.

    Returns
    -------
    float
        Distance, m.
    """
    return 2 * array.aperture**2 / array.wavelength


def effective_rayleigh_distance(array: UniformLinearArray, angle: Tensor, loss: float = DEFAULT_LOSS) -> Tensor:
    """Compute the effective Rayleigh distance N^2 d^2 cos^2(theta) / (2 lambda beta_Delta^2), where beta = beta_Delta.

    Parameters
    ----------
    array
        Array.
    angle
        theta, rad.
    loss
        Delta.

    Returns
    -------
    Tensor
        Distance, m, float64, of the shape of ``angle``.
    """
    aperture = array.aperture * torch.cos(angle.double())
    return aperture**2 / (2 * array.wavelength * beta_threshold(loss) ** 2)


def ground_near_field_region(array: UniformLinearArray, loss: float = DEFAULT_LOSS) -> tuple[float, float] | None:
    """Compute the effective near-field region (ENFR) on the ground, [h_B / tan(theta-), h_B / tan(theta+)].

    theta- and theta+, theta+ < theta-, are the two depression angles in (0, pi/2) that solve
    sin(theta) cos^2(theta - theta_tit) = 2 h_B beta_Delta^2 lambda / (N^2 d^2).

    Parameters
    ----------
    array
        Array.
    loss
        Delta.

    Returns
    -------
    tuple of float, or None
        Nearest and farthest distance from the mast, m; None if the right side exceeds the left at every angle, so that
        no ground user is near-field.
    """
    level = 2 * array.height * beta_threshold(loss) ** 2 * array.wavelength / array.aperture**2

    def excess(theta: float) -> float:
        return math.sin(theta) * math.cos(theta - array.tilt) ** 2 - level

    grid = np.linspace(1e-9, math.pi / 2, 4001)
    values = np.sin(grid) * np.cos(grid - array.tilt) ** 2 - level
    peak = int(values.argmax())
    if values[peak] <= 0:
        return None
    far = _root(excess, grid[0], grid[peak])
    near = _root(excess, grid[peak], grid[-1]) if values[-1] < 0 else math.pi / 2
    return array.height / math.tan(near), array.height / math.tan(far)


def focusing_gain(precoder: Tensor, steering: Tensor) -> Tensor:
    """Compute |b^H w|^2, the fraction of a unit-norm beam's power received at points with unit-norm responses b.

    Parameters
    ----------
    precoder
        Beams w, complex (..., antennas).
    steering
        Array responses b, complex (points, antennas).

    Returns
    -------
    Tensor
        real (..., points), in [0, 1].
    """
    return torch.abs(precoder @ steering.conj().T) ** 2


def far_field_test(channels: Tensor, loss: float = DEFAULT_LOSS, zero_padding: int = 8) -> Tensor:
    """Label users near-field from their channels alone, by the gain of the best far-field beam.

    A user is near-field if max_theta |a(theta)^H h|, evaluated by FFT, is at most (1 - Delta) ||h||. The noise power,
    which would bias the test towards the near field, is subtracted from both sides; it is estimated by the median of
    the Hann-windowed spectrum, in which a user occupies only a few bins.

    Parameters
    ----------
    channels
        complex (..., antennas), non-zero.
    loss
        Delta.
    zero_padding
        Number of angles of the grid, in multiples of N.

    Returns
    -------
    Tensor
        bool (...); true for near-field users.
    """
    antennas = channels.shape[-1]
    parts = torch.view_as_real(channels.resolve_conj())
    unit = torch.view_as_complex(parts / parts.abs().amax((-2, -1), keepdim=True).clamp(min=_TINY))
    window = torch.hann_window(antennas, device=channels.device)
    spectrum = squared_magnitude(torch.fft.fft(unit * window, dim=-1)) / window.square().sum().clamp(min=1)
    noise = spectrum.median(-1).values / math.log(2)  # the median of an exponential is log 2 of its mean
    peak = squared_magnitude(torch.fft.fft(unit, n=zero_padding * antennas, dim=-1)).amax(-1) / antennas
    energy = squared_magnitude(unit).sum(-1)
    if antennas < 4:  # too few bins to separate noise from signal
        noise = torch.zeros_like(noise)
    fraction = (peak - noise).clamp(min=0) / (energy - antennas * noise).clamp(min=_TINY)
    near: Tensor = fraction <= (1 - loss) ** 2
    return near
