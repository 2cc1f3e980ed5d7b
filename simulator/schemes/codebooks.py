"""Analog beams from a codebook, and the digital zero forcing behind them: hybrid precoding without N x N matrices.

A codeword is a plane wave with a parabola of phase on it. Over element positions n = -(N-1)/2 ... (N-1)/2 it is

    c_n = exp(j 2 pi (m n / N - q (n / N)^2)) / sqrt(N),   m = 0 ... N-1,

with direction sin(theta) = 2 m / N (modulo 2) and curvature q. It is the Fresnel form of a spherical wave,
r_n = r - n d sin(theta) + n^2 d^2 cos^2(theta) / (2 r), where q = N^2 d^2 cos^2(theta) / (2 lambda r), the beta^2 of
`near_field.wavefront_curvature`: no carrier is needed. Correlating with all N directions of one curvature is taking
the parabola off and an FFT. Codewords of one curvature are orthogonal.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from simulator.geometry.near_field import beta_threshold

DFT_CURVATURES = (0.0,)
# Singular values of the effective channel below this share of the largest count as none (as in `schemes.zf`).
_RANK_TOLERANCE = 3e-5


@cache
def polar_domain_curvatures(antennas: int, coherence: float) -> tuple[float, ...]:
    """Curvatures from the plane wave to the nearest, such that neighbours' beams of one direction hardly overlap.

    Two codewords of one direction whose curvatures differ by s have the coherence |G(sqrt(s))|, see
    `near_field.beam_gain`. Curvatures are multiples of beta_Delta^2, Delta = 1 - ``coherence``: neighbours' beams then
    share ``coherence`` of their amplitude and others less. These are the distances r_s = Z cos^2(theta) / s of Cui and
    Dai (IEEE TCOM 2022).

    The largest is at most 2 sqrt(N) and N / 4. At q the Fresnel form's phase is off by
    pi q^2 tan(theta) / (N cos(theta)) at the array's ends, in the term of third order: by nothing on boresight, and
    at 2 sqrt(N) by so much 20 degrees off it that the best codeword of this curvature collects
    three quarters of the exact wave's amplitude. For 256 antennas at 30 GHz that is 2.6 m from the array. N / 4 is a
    distance of one aperture. Both signs of curvature are there: a wave exp(-j 2 pi r / lambda) in a file of rows h_k^H
    reaches us conjugated.

    antennas: N. coherence: of amplitudes, in (0.2, 1). Returns beta^2 with sign, 0 first, dimensionless.
    Raises ValueError for a coherence out of range.
    """
    step = beta_threshold(1 - coherence) ** 2
    count = int(min(2 * math.sqrt(antennas), antennas / 4) / step)
    return (0.0, *(sign * index * step for index in range(1, count + 1) for sign in (1, -1)))


def codewords(indices: Tensor, curvatures: tuple[float, ...], antennas: int) -> Tensor:
    """The codewords of these numbers: number s N + m has direction m and the curvature at place s.

    indices: integer (...). Returns complex128 (..., antennas) of unit norm.
    """
    bends = torch.tensor(curvatures, dtype=torch.float64, device=indices.device)[indices // antennas]
    position = _positions(antennas, indices.device)
    cycles = (indices % antennas).unsqueeze(-1) * position - bends.unsqueeze(-1) * position.square()
    phase = 2 * math.pi * (cycles - cycles.round())
    return torch.polar(torch.full_like(phase, 1 / math.sqrt(antennas)), phase)


def distinct_codewords(channels: Tensor, curvatures: tuple[float, ...]) -> Tensor:
    """Each user's codeword of largest |c^H h_k|, no codeword twice: given out one by one, the strongest pair first.

    With more users than codewords all of them are given out, then all again.

    channels: complex (drops, users, antennas); curvatures: beta^2, see `polar_domain_curvatures`. Returns int64 (drops, users),
    numbers as `codewords` takes them. O(S N log N) a user for S curvatures.
    """
    drops, users, antennas = channels.shape
    size = len(curvatures) * antennas
    value, index = _best_codewords(channels, curvatures, min(users, size))
    chosen = torch.zeros(drops, users, dtype=torch.int64, device=channels.device)
    served = torch.zeros_like(chosen, dtype=torch.bool)
    taken = torch.zeros_like(index, dtype=torch.bool)
    for step in range(users):
        if step % size == 0:
            taken = torch.zeros_like(taken)
        free = value.masked_fill(taken | served.unsqueeze(-1), -1)
        best = free.flatten(1).argmax(-1, keepdim=True)
        user, word = best // value.shape[-1], index.flatten(1).gather(1, best)
        chosen = chosen.scatter(1, user, word)
        served = served.scatter(1, user, True)
        taken = taken | (index == word.unsqueeze(-1))
    return chosen


def _best_codewords(channels: Tensor, curvatures: tuple[float, ...], count: int) -> tuple[Tensor, Tensor]:
    """|c^H h_k| up to a factor a drop, and numbers, of each user's ``count`` best codewords; (drops, users, count).

    A user has to look no further: fewer than ``count`` others take codewords before it.
    """
    antennas = channels.shape[-1]
    peak = channels.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    unit = (channels / peak).to(torch.complex64)
    squared = _positions(antennas, channels.device).square()
    value = torch.empty(*channels.shape[:-1], 0, dtype=torch.float32, device=channels.device)
    index = torch.empty_like(value, dtype=torch.int64)
    for place, curvature in enumerate(curvatures):
        flattening = torch.polar(torch.ones_like(squared), 2 * math.pi * curvature * squared).to(unit.dtype)
        strength, direction = torch.fft.fft(unit * flattening).abs().topk(min(count, antennas), dim=-1)
        value, index = torch.cat([value, strength], -1), torch.cat([index, direction + place * antennas], -1)
        value, order = value.topk(min(count, value.shape[-1]), dim=-1)
        index = index.gather(-1, order)
    return value, index


def hybrid_zero_forcing(channels: Tensor, curvatures: tuple[float, ...]) -> Tensor:
    """Zero forcing on the effective channel: W = F (H^H F)^+, K codewords F and a K x K digital precoder.

    F's columns are `distinct_codewords`. The pseudo-inverse serves singular effective channels. Every user's best
    codeword is some user's, so none is left without a beam.

    channels: complex (drops, users, antennas); curvatures: beta^2, see `polar_domain_curvatures`. Returns complex128 (drops,
    users, antennas), W's columns, of any length but zero.
    """
    analog = codewords(distinct_codewords(channels, curvatures), curvatures, channels.shape[-1])
    # Users' gains may differ by 100 dB; the rank is that of the directions.
    wide = channels.to(analog.dtype)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    effective = (wide / norm).conj() @ analog.transpose(-1, -2)
    digital = torch.linalg.pinv(effective, rtol=_RANK_TOLERANCE)
    beams: Tensor = digital.transpose(-1, -2) @ analog
    return beams


def _positions(antennas: int, device: torch.device) -> Tensor:
    """N / N; float64 (antennas,)."""
    return (torch.arange(antennas, dtype=torch.float64, device=device) - (antennas - 1) / 2) / antennas
