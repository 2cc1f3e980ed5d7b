"""Choose analog beams from a codebook, and zero-force digitally behind them: hybrid precoding without N x N matrices.

A codeword is a plane wave times a parabolic phase. Over element positions n = -(N-1)/2 ... (N-1)/2 it is

    c_n = exp(j 2 pi (m n / N - q (n / N)^2)) / sqrt(N),   m = 0 ... N-1,

with direction sin(theta) = 2 m / N (modulo 2) and curvature q. It is the Fresnel form of a spherical wave,
r_n = r - n d sin(theta) + n^2 d^2 cos^2(theta) / (2 r), where q = N^2 d^2 cos^2(theta) / (2 lambda r), the beta^2 of
`near_field.wavefront_curvature`: no carrier frequency is needed. Correlation with all N directions of one curvature is
removal of the parabolic phase and an FFT. Codewords of one curvature are orthogonal.

A panel has codewords that are products of one per axis, C x R directions and one curvature for both: that of a side of
n of N_max antennas is q (n / N_max)^2, as for a source on boresight; elsewhere they differ by cos^2 and are coupled.
"""

from __future__ import annotations

import math
import re
from functools import cache

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.geometry.near_field import beta_threshold
from simulator.interruption import check_interrupt

DFT_CURVATURES = (0.0,)
# Singular values of the effective channel below this fraction of the largest count as zero (as in `schemes.zf`).
_RANK_TOLERANCE = 3e-5

Grid = int | tuple[int, int]
"""Antennas N of a line, or (columns, rows) of a panel whose antenna r + rows c is in row r and column c."""


@cache
def polar_domain_curvatures(antennas: int, coherence: float) -> tuple[float, ...]:
    """Compute curvatures from the plane wave to the nearest distance, spaced by the coherence of neighbouring beams.

    Two codewords of one direction whose curvatures differ by s have the coherence |G(sqrt(s))|, see
    `near_field.beam_gain`. Curvatures are multiples of beta_Delta^2 with Delta = 1 - `coherence`: neighbouring beams
    then have this coherence and others less. These are the distances r_s = Z cos^2(theta) / s of Cui and Dai (2022).

    The largest curvature is at most 2 sqrt(N) and N / 4. At q the phase error of the Fresnel form is, in the term of
    third order, pi q^2 tan(theta) / (N cos(theta)) at the array's ends: zero on boresight, and at 2 sqrt(N) so large
    20 degrees off it that the best codeword of this curvature collects three quarters of the exact wave's amplitude.
    For 256 antennas at 30 GHz that is 2.6 m from the array. N / 4 corresponds to a distance of one aperture. Both signs
    of curvature occur: a wave exp(-j 2 pi r / lambda) in a file of rows h_k^H arrives conjugated.

    Parameters
    ----------
    antennas : int
        N.
    coherence : float
        Coherence of amplitudes, in (0.2, 1).

    Returns
    -------
    tuple of float
        beta^2 with sign, dimensionless, 0 first.

    Raises
    ------
    ValueError
        If the coherence is out of range.

    References
    ----------
    * M. Cui, L. Dai, "Channel estimation for extremely large-scale MIMO: far-field or near-field?", IEEE Transactions
      on Communications, 2022.
    """
    step = beta_threshold(1 - coherence) ** 2
    count = int(min(2 * math.sqrt(antennas), antennas / 4) / step)
    return (0.0, *(sign * index * step for index in range(1, count + 1) for sign in (1, -1)))


def panel_grid(text: str, antennas: int) -> Grid:
    """Parse the size of a panel, and check it against the channels.

    Parameters
    ----------
    text : str
        ``ROWSxCOLUMNS``; empty for a line.
    antennas : int
        N.

    Returns
    -------
    int or tuple of int
        The grid.

    Raises
    ------
    NflaeError
        If the text is none of these, or the panel has another number of antennas.
    """
    if not text:
        return antennas
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if found is None:
        raise NflaeError(f"panel={text[:40]} is no size: give ROWSxCOLUMNS, as in panel=16x16")
    rows, columns = int(found[1]), int(found[2])
    if rows * columns != antennas:
        raise NflaeError(f"panel={text} has {rows * columns} antennas, the channels have {antennas}")
    return columns, rows


def codewords(indices: Tensor, curvatures: tuple[float, ...], grid: Grid) -> Tensor:
    """Form codewords by number: s N + m has direction m and curvature s; m = m_c R + m_r on a panel.

    Parameters
    ----------
    indices : Tensor
        Numbers, integer (...).
    curvatures : tuple of float
        beta^2 with sign, see `polar_domain_curvatures`.
    grid : int or tuple of int
        Antennas of the line, or columns and rows of the panel.

    Returns
    -------
    Tensor
        Unit-norm codewords, complex128 (..., antennas).
    """
    sizes = _sizes(grid)
    antennas, device = math.prod(sizes), indices.device
    curvature = torch.tensor(curvatures, dtype=torch.float64, device=device)[indices // antennas]
    directions = torch.unravel_index(indices % antennas, sizes)
    axes = zip(directions, _positions(grid, device), strict=True)
    slopes = torch.stack([direction.unsqueeze(-1) * position for direction, position in axes]).sum(0)
    cycles = slopes - curvature.unsqueeze(-1) * _squares(grid, device)
    phase = 2 * math.pi * (cycles - cycles.round())
    return torch.polar(torch.full_like(phase, 1 / math.sqrt(antennas)), phase)


def distinct_codewords(channels: Tensor, curvatures: tuple[float, ...], grid: Grid | None = None) -> Tensor:
    """Assign to each user the codeword of largest |c^H h_k|, no codeword twice, the strongest pair first.

    With more users than codewords all of them are assigned, then all again. The cost is O(S N log N) per user for S
    curvatures.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex (drops, users, antennas).
    curvatures : tuple of float
        beta^2 with sign, see `polar_domain_curvatures`.
    grid : int or tuple of int, optional
        Antennas of the line, or columns and rows of the panel; a line by default.

    Returns
    -------
    Tensor
        Numbers for `codewords`, int64 (drops, users).
    """
    drops, users, antennas = channels.shape
    size = len(curvatures) * antennas
    value, index = _best_codewords(channels, curvatures, min(users, size), grid or antennas)
    chosen = torch.zeros(drops, users, dtype=torch.int64, device=channels.device)
    served = torch.zeros_like(chosen, dtype=torch.bool)
    taken = torch.zeros_like(index, dtype=torch.bool)
    for step in range(users):
        check_interrupt()
        if step % size == 0:
            taken = torch.zeros_like(taken)
        free = value.masked_fill(taken | served.unsqueeze(-1), -1)
        best = free.flatten(1).argmax(-1, keepdim=True)
        user, word = best // value.shape[-1], index.flatten(1).gather(1, best)
        chosen = chosen.scatter(1, user, word)
        served = served.scatter(1, user, True)
        taken = taken | (index == word.unsqueeze(-1))
    return chosen


def _best_codewords(channels: Tensor, curvatures: tuple[float, ...], count: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Find each user's `count` best codewords.

    More are not needed: fewer than `count` other users take codewords before it.

    Returns
    -------
    value : Tensor
        |c^H h_k| up to a factor per drop, float32 (drops, users, count).
    index : Tensor
        Numbers for `codewords`, int64 (drops, users, count).
    """
    antennas = channels.shape[-1]
    peak = channels.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    unit = (channels / peak).to(torch.complex64)
    squared, sizes = _squares(grid, channels.device), _sizes(grid)
    axes = tuple(range(-len(sizes), 0))
    value = torch.empty(*channels.shape[:-1], 0, dtype=torch.float32, device=channels.device)
    index = torch.empty_like(value, dtype=torch.int64)
    for number, curvature in enumerate(curvatures):
        check_interrupt()
        flattening = torch.polar(torch.ones_like(squared), 2 * math.pi * curvature * squared).to(unit.dtype)
        spectrum = torch.fft.fftn((unit * flattening).reshape(*unit.shape[:-1], *sizes), dim=axes).flatten(-len(sizes))
        strength, direction = spectrum.abs().topk(min(count, antennas), dim=-1)
        value, index = torch.cat([value, strength], -1), torch.cat([index, direction + number * antennas], -1)
        value, order = value.topk(min(count, value.shape[-1]), dim=-1)
        index = index.gather(-1, order)
    return value, index


def hybrid_zero_forcing(channels: Tensor, curvatures: tuple[float, ...], grid: Grid | None = None) -> Tensor:
    """Zero-force on the effective channel: W = F (H^H F)^+, K codewords F and a K x K digital precoder.

    The columns of F are `distinct_codewords`. The pseudo-inverse covers singular effective channels. Every user's best
    codeword is assigned to some user, so none is left without a beam.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex (drops, users, antennas).
    curvatures : tuple of float
        beta^2 with sign, see `polar_domain_curvatures`.
    grid : int or tuple of int, optional
        Antennas of the line, or columns and rows of the panel; a line by default.

    Returns
    -------
    Tensor
        Columns of W, of any length but zero, complex128 (drops, users, antennas).
    """
    analog = codewords(distinct_codewords(channels, curvatures, grid), curvatures, grid or channels.shape[-1])
    # Users' gains may differ by 100 dB; the rank is that of the directions.
    wide = channels.to(analog.dtype)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    effective = (wide / norm).conj() @ analog.transpose(-1, -2)
    digital = torch.linalg.pinv(effective, rtol=_RANK_TOLERANCE)
    beams: Tensor = digital.transpose(-1, -2) @ analog
    return beams


def _sizes(grid: Grid) -> tuple[int, ...]:
    return (grid,) if isinstance(grid, int) else grid


def _positions(grid: Grid, device: torch.device) -> list[Tensor]:
    """Compute n / N of every antenna along each axis, float64 (antennas,) each."""
    sizes = _sizes(grid)
    axes = [(torch.arange(size, dtype=torch.float64, device=device) - (size - 1) / 2) / size for size in sizes]
    return [axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")]


def _squares(grid: Grid, device: torch.device) -> Tensor:
    """Compute the parabolic phase of curvature 1, (n / N)^2 of a line, float64 (antennas,)."""
    sizes = _sizes(grid)
    parts = zip(_positions(grid, device), sizes, strict=True)
    return torch.stack([(position * (size / max(sizes))).square() for position, size in parts]).sum(0)
