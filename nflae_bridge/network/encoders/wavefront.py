"""Classify users as near- or far-field from the curvature of their wavefront, for any number of antennas.

The array is cut into 16 sub-arrays, each short enough for a wave to be plane over it; the phase progression of their
common best beam from one sub-array to the next is the wavefront's curvature, in units of the aperture. A user's label
depends on nothing else (beta in `simulator.geometry.near_field`), so 16 complex numbers per user serve every array.

All arithmetic is real, with real and imaginary parts in separate tensors, so that the classifier exports to ONNX.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

SUBARRAYS = 16
CURVATURES = 14
SLOPES = 32
OVERSAMPLING = 2
LONG_SUBARRAY = 64
"""Antennas per sub-array above which an FFT takes less time on a CPU than a product with the Fourier matrix."""
USERS_PER_PART = 320
"""Users whose intermediate results stay in a processor's cache."""
FEATURES = 3 * SUBARRAYS + 2 * (SUBARRAYS - 2) + 3 + 2 * CURVATURES + 2

QUANTITIES = 3 * SUBARRAYS + 2 * (SUBARRAYS - 2) + 3 + 2 * CURVATURES + 2

_LEAST = 1e-30
_LARGEST_BEND = 3 / SUBARRAYS
_LEAST_NORM = 1e-15

Parts = tuple[Tensor, Tensor]


@cache
def chirps(device: torch.device) -> Tensor:
    """Tabulate unit-norm reference phase progressions over the sub-arrays as one real matrix of inner products.

    Over the aperture t in [-1/2, 1/2] a wave of curvature beta has the phase -pi beta^2 (2t)^2 / 2; beta runs over
    0 ... 2.6, on either side of the near field's border at 0.986. Slopes run over their whole range, -1 <= slope < 1.

    Parameters
    ----------
    device
        Device of the matrix.

    Returns
    -------
    Tensor
        float32 (2 * 16, 2 * 2 * curvatures * slopes): rows for the outputs' real and imaginary parts; columns for the
        products' real and imaginary parts, of the outputs as they are and conjugated.
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
    """Tabulate the Fourier matrix from the antennas of a sub-array to twice as many beams, over sqrt(length).

    Parameters
    ----------
    length
        Antennas per sub-array.
    device
        Device of the matrix.

    Returns
    -------
    Tensor
        float32 (2 * length, 4 * length). Rows in the order of memory: real and imaginary part of the first antenna,
        then of the second, ...; columns: the beams' real parts, then their imaginary parts.
    """
    turns = torch.outer(torch.arange(length), torch.arange(OVERSAMPLING * length)).double() / (OVERSAMPLING * length)
    matrix = _real_matrix(torch.polar(torch.full_like(turns, length**-0.5), -2 * math.pi * turns))
    return matrix.reshape(2, length, -1).transpose(0, 1).flatten(0, 1).to(device)


def _real_matrix(values: Tensor) -> Tensor:
    """Return a complex (n, m) matrix as a real one, float32 (2n, 2m): real parts first, of rows and of columns."""
    rows = torch.cat([values.real, values.imag], 1), torch.cat([-values.imag, values.real], 1)
    return torch.cat(rows).float()


def subarray_length(antennas: int) -> int:
    """Return the antennas per sub-array, the last sub-array's zero padding included.

    Parameters
    ----------
    antennas
        Antennas of the array, N.

    Returns
    -------
    int
        ceil(N / 16).
    """
    return -(-antennas // SUBARRAYS)


def scaled_to_range(channels: Tensor) -> Tensor:
    """Scale users whose energy is near the ends of the single-precision range by a power of two, to entries of order 1.

    Labels do not depend on scale, but squares of entries below 1e-19 are zero in single precision.

    Parameters
    ----------
    channels
        complex64 (..., antennas).

    Returns
    -------
    Tensor
        complex64 (..., antennas): on a CPU the channels themselves if no user is out of range.
    """
    if channels.device.type == "cpu" and _is_in_range(channels.resolve_conj().contiguous().numpy()):
        return channels
    parts = torch.view_as_real(channels.resolve_conj()).flatten(-2)
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True)
    in_range = (norm > _LEAST_NORM) & (norm < 1 / _LEAST_NORM)
    exponent = torch.frexp(parts.abs().amax(-1, keepdim=True)).exponent.clamp(min=-126)
    one = torch.ones_like(norm)
    return channels * torch.where(in_range, one, torch.ldexp(one, -exponent))


def _is_in_range(channels: npt.NDArray[np.complex64]) -> bool:
    """Return whether the energies of all users are far from the ends of the single-precision range."""
    parts = channels.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.vecdot(parts, parts).reshape(-1)
    least, largest = np.minimum.reduce(energy, initial=1), np.maximum.reduce(energy, initial=1)
    return bool(least > _LEAST_NORM**2 and largest < _LEAST_NORM**-2)


def subarrays_of(channels: Tensor) -> Tensor:
    """Cut channels into 16 sub-arrays, zero-padded at the array's end.

    Parameters
    ----------
    channels
        complex64 (users, antennas).

    Returns
    -------
    Tensor
        float32 (users, 16, 2 * length), real and imaginary part of each antenna in turn.
    """
    users, antennas = channels.shape
    parts = torch.view_as_real(channels.resolve_conj()).flatten(-2)
    length = subarray_length(antennas)
    if length * SUBARRAYS > antennas:
        parts = nn.functional.pad(parts, (0, 2 * (length * SUBARRAYS - antennas)))
    return parts.reshape(users, SUBARRAYS, 2 * length)


def subarray_beams(subarrays: Tensor, matrix: Tensor | None) -> tuple[Parts, Tensor]:
    """Find the sub-arrays' common best beam: its outputs, and the energy in it and its neighbours on either side.

    Parameters
    ----------
    subarrays
        float32 (users, 16, 2 * length), energies in the range of `scaled_to_range`; see `subarrays_of`.
    matrix
        `fourier` of the length; None: an FFT instead of the product with it.

    Returns
    -------
    outputs : Parts
        Real and imaginary parts, float32 (users, 16), together of unit norm per user.
    energies : Tensor
        float32 (users, 3), as shares of the channel's energy.
    """
    beams = _spectra(subarrays, matrix)
    users, count = beams.shape[0], beams.shape[-1]
    energy = beams.square().sum((1, 2))
    best = energy.argmax(-1, keepdim=True)
    rows = torch.arange(users * SUBARRAYS * 2, device=beams.device).reshape(users, SUBARRAYS, 2)
    outputs = beams.reshape(-1)[rows * count + best.unsqueeze(-1)]
    outputs = outputs / torch.linalg.vector_norm(outputs, dim=(1, 2), keepdim=True).clamp(min=_LEAST)
    cyclic = torch.cat([energy[:, -OVERSAMPLING:], energy, energy[:, :OVERSAMPLING]], -1)
    around = cyclic.gather(-1, best + _neighbours(best.device))
    # The beams hold `OVERSAMPLING` times the energy of the channel.
    return (outputs[:, :, 0], outputs[:, :, 1]), around * OVERSAMPLING / energy.sum(-1, keepdim=True).clamp(min=_LEAST)


@cache
def _neighbours(device: torch.device) -> Tensor:
    """Return the places of a beam and its neighbours relative to it, in spectra continued cyclically at either end."""
    return torch.tensor([OVERSAMPLING, 0, 2 * OVERSAMPLING], device=device)


def _spectra(subarrays: Tensor, matrix: Tensor | None) -> Tensor:
    """Return spatial spectra, float32 (users, 16, 2, beams), real and imaginary, of sub-arrays."""
    if matrix is not None:
        beams = subarrays @ matrix
        return beams.reshape(beams.shape[0], SUBARRAYS, 2, -1)
    length = subarrays.shape[-1] // 2
    antennas = torch.view_as_complex(subarrays.reshape(-1, SUBARRAYS, length, 2))
    spectra = torch.fft.fft(antennas, n=OVERSAMPLING * length, dim=-1) / math.sqrt(length)
    return torch.stack([spectra.real, spectra.imag], -2)


def curvature_features(outputs: Parts, energies: Tensor) -> Tensor:
    """Describe the best beam's phase progression over the sub-arrays, free of the user's phase and angle.

    The features: the outputs with mean phase and slope removed, their magnitudes, the second differences of their
    phase, the energies around the beam, how well chirps of 14 curvatures match the outputs, and the mean second
    difference.

    Parameters
    ----------
    outputs, energies
        Results of `subarray_beams`.

    Returns
    -------
    Tensor
        float32 (users, 2, FEATURES): of the channels as they are, and of their conjugates.
    """
    values = wavefront_quantities(outputs, energies)
    return (values @ reading_matrix(values.device)).reshape(-1, 2, FEATURES)


def wavefront_quantities(outputs: Parts, energies: Tensor) -> Tensor:
    """Compute what both readings of `curvature_features` are made of, without repetition.

    Parameters
    ----------
    outputs, energies
        Results of `subarray_beams`.

    Returns
    -------
    Tensor
        float32 (users, QUANTITIES).
    """
    steps = _steps(outputs)
    real, imaginary = _total(steps)
    turns = torch.atan2(imaginary, real + _LEAST) * torch.arange(SUBARRAYS, dtype=real.dtype, device=real.device)
    flat = _product_with_conjugate(outputs, (turns.cos(), turns.sin()))
    real, imaginary = _total(flat)
    flat = _product_with_conjugate(flat, _unit((real + _LEAST, imaginary), _LEAST))
    bends = _steps(steps)  # in which slope and phase cancel
    mean_bend = torch.cat(_total(bends), -1).clamp(-_LARGEST_BEND, _LARGEST_BEND)
    joined = torch.cat(flat, -1)
    products = (joined @ chirps(energies.device)).square()
    match = products.reshape(-1, 2, 2 * CURVATURES * SLOPES).sum(1).reshape(-1, 2 * CURVATURES, SLOPES).amax(-1)
    magnitude = (flat[0].square() + flat[1].square()).sqrt()
    parts = [joined, magnitude, *_unit(bends, 1e-12), energies, match.clamp(min=_LEAST).sqrt(), mean_bend]
    return torch.cat(parts, -1)


@cache
def reading_matrix(device: torch.device) -> Tensor:
    """Tabulate the map from `wavefront_quantities` to `curvature_features`: signs, scales and differences.

    Parameters
    ----------
    device
        Device of the matrix.

    Returns
    -------
    Tensor
        float32 (QUANTITIES, 2 FEATURES).
    """
    sizes = [SUBARRAYS, SUBARRAYS, SUBARRAYS, SUBARRAYS - 2, SUBARRAYS - 2, 3, 2 * CURVATURES, 2]
    readings = []
    with torch.inference_mode(False):  # training differentiates a product with it
        real, imaginary, size, bend, turn, energies, match, mean = torch.split(torch.eye(QUANTITIES), sizes)
        for sign, around, matched in ((1, energies, match[:CURVATURES]), (-1, energies[[0, 2, 1]], match[CURVATURES:])):
            readings += [4 * real, sign * 4 * imaginary, 4 * size, bend, sign * turn, around]
            readings += [matched, matched - matched[:1], SUBARRAYS * mean[:1], sign * SUBARRAYS * mean[1:]]
        return torch.cat(readings).T.contiguous().to(device)


def _product_with_conjugate(left: Parts, right: Parts) -> Parts:
    """Multiply complex numbers with the conjugates of others."""
    return left[0] * right[0] + left[1] * right[1], left[1] * right[0] - left[0] * right[1]


def _steps(values: Parts) -> Parts:
    """Return values[1:] times the conjugates of values[:-1], along the sub-arrays."""
    real, imaginary = values
    return _product_with_conjugate((real[:, 1:], imaginary[:, 1:]), (real[:, :-1], imaginary[:, :-1]))


def _total(values: Parts) -> Parts:
    """Sum over the sub-arrays, (users, 1)."""
    return values[0].sum(-1, keepdim=True), values[1].sum(-1, keepdim=True)


def _unit(values: Parts, least: float) -> Parts:
    """Divide complex numbers by their magnitudes, or by ``least`` where these are smaller."""
    real, imaginary = values
    norm = (real.square() + imaginary.square()).sqrt().clamp(min=least)
    return real / norm, imaginary / norm


def mean_phase_step(channels: Tensor) -> Tensor:
    """Return arg sum_n h_(n+1) h_n^*, the mean phase step from antenna to antenna, free of phase and scale.

    Parameters
    ----------
    channels
        complex (..., antennas).

    Returns
    -------
    Tensor
        real (...), rad.
    """
    scale = channels.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    unit = channels / scale
    return (unit[..., 1:] * unit[..., :-1].conj()).sum(-1).angle()


class WavefrontClassifier(nn.Module):
    """Map channels to near-field logits by a small MLP on `curvature_features`.

    Parameters
    ----------
    width
        Hidden units per layer.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def forward(self, channels: Tensor) -> Tensor:
        """Compute near-field logits.

        Parameters
        ----------
        channels
            complex64 (..., antennas).

        Returns
        -------
        Tensor
            float32 (...).
        """
        users = channels.reshape(-1, channels.shape[-1])
        length, device = subarray_length(channels.shape[-1]), channels.device
        on_cpu = device.type == "cpu"
        matrix = fourier(length, device) if on_cpu and length <= LONG_SUBARRAY else None
        parts = torch.split(users, USERS_PER_PART) if on_cpu else [users]
        return torch.cat([self.logit(subarrays_of(part), matrix) for part in parts]).reshape(channels.shape[:-1])

    def first_layer(self) -> tuple[Tensor, Tensor]:
        """Return the weight from `wavefront_quantities` to the hidden units of both readings, and the bias."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        width, features = first.weight.shape
        readings = reading_matrix(first.weight.device).to(first.weight.dtype).reshape(-1, 2, features)
        return (readings @ first.weight.T).reshape(-1, 2 * width), first.bias.repeat(2)

    def logit(self, subarrays: Tensor, matrix: Tensor | None, first: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Compute near-field logits from sub-arrays.

        The sign of a spherical wave's curvature depends on the convention of the CSI (a wave exp(-j 2 pi r / lambda)
        arrives conjugated from a file of rows h_k^H); the larger logit of both readings counts.

        Parameters
        ----------
        subarrays, matrix
            As in `subarray_beams`.
        first
            Result of `first_layer` where it is known.

        Returns
        -------
        Tensor
            float32 (users,).
        """
        weight, bias = self.first_layer() if first is None else first
        values = wavefront_quantities(*subarray_beams(subarrays, matrix))
        hidden = torch.addmm(bias, values.to(weight.dtype), weight)
        readings: Tensor = self.layers[1:](hidden.reshape(-1, weight.shape[1] // 2))
        return readings.reshape(-1, 2).amax(-1)
