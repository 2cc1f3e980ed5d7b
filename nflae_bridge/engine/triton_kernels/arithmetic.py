"""State the arithmetic that the kernels share: the mathematics of `simulator.downlink` on one drop, in Triton.

K: users of the drop; P: users that a program has room for. Complex matrices are pairs of real ones.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

_PI = tl.constexpr(math.pi)
_ROOT_HALF = tl.constexpr(0.5**0.5)
_PER_DECADE = tl.constexpr(1 / math.log(10))
_ROUNDING = tl.constexpr(8 * torch.finfo(torch.float64).eps)
_TINY = tl.constexpr(torch.finfo(torch.float64).tiny)


@triton.jit
def antennas_at(channels, drop, start, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Load the channels at some antennas.

    Parameters
    ----------
    channels
        float32 (drops, K, antennas, 2).
    drop, start
        Index of the drop, and of the first antenna.
    antennas, K, P, BLOCK
        Antennas, users, and both padded.

    Returns
    -------
    tuple
        Real and imaginary parts, float64 (P, BLOCK), 0 beyond the ends.
    """
    index, place = tl.arange(0, P), start + tl.arange(0, BLOCK)
    at = channels + ((drop * K + index[:, None]) * antennas + place[None, :]) * 2
    inside = (index[:, None] < K) & (place[None, :] < antennas)
    return (
        tl.load(at, mask=inside, other=0.0).to(tl.float64),
        tl.load(at + 1, mask=inside, other=0.0).to(tl.float64),
    )


@triton.jit
def scaled_gram(channels, scale, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Compute `simulator.downlink.gram.scaled_gram`.

    Parameters
    ----------
    channels, drop, antennas, K, P, BLOCK
        As in `antennas_at`.
    scale
        sqrt(P / sigma^2).

    Returns
    -------
    tuple
        Gamma in two parts, (P, P).
    """
    real, imag = tl.zeros([P, P], tl.float64), tl.zeros([P, P], tl.float64)
    for start in range(0, antennas, BLOCK):
        re, im = antennas_at(channels, drop, start, antennas, K, P, BLOCK)
        real += tl.dot(re, tl.trans(re), out_dtype=tl.float64) + tl.dot(im, tl.trans(im), out_dtype=tl.float64)
        imag += tl.dot(re, tl.trans(im), out_dtype=tl.float64) - tl.dot(im, tl.trans(re), out_dtype=tl.float64)
    return real * (scale * scale), imag * (scale * scale)


@triton.jit
def structured_beams(real, imag, own, dual, K, P: tl.constexpr):
    """Compute `simulator.downlink.structure.structured_beams`.

    Parameters
    ----------
    real, imag, own
        Gamma in two parts, (P, P), and its diagonal.
    dual
        lambda / P, (P,).
    K, P
        Users, and padded.

    Returns
    -------
    tuple
        C in two parts, F, and the beams' energies.
    """
    index = tl.arange(0, P)
    re = dual[:, None] * real + tl.where(index[:, None] == index[None, :], 1.0, 0.0)
    # The matrix is similar to a Hermitian one with eigenvalues of at least 1.
    re, im, _ = inverse_of(re, dual[:, None] * imag, K, P)
    effective_gains, energy = effective_gains_of(real, imag, own, re, im)
    return re, im, effective_gains, energy


@triton.jit
def inverse_of(re, im, K, P: tl.constexpr):
    """Invert a matrix of a Hermitian one's pivots, by Gauss-Jordan elimination in place and without exchanges.

    Parameters
    ----------
    re, im
        The matrix in two parts, (P, P); the identity beyond the users.
    K, P
        Users, and padded.

    Returns
    -------
    tuple
        The inverse in two parts, and the least pivot.
    """
    index = tl.arange(0, P)
    least = tl.sum(tl.zeros([P], tl.float64), 0) + 1
    for k in tl.range(K):
        of_row, of_column, at = index[:, None] == k, index[None, :] == k, index == k
        row_re, row_im = tl.sum(tl.where(of_row, re, 0.0), 0), tl.sum(tl.where(of_row, im, 0.0), 0)
        column_re, column_im = tl.sum(tl.where(of_column, re, 0.0), 1), tl.sum(tl.where(of_column, im, 0.0), 1)
        pivot_re, pivot_im = tl.sum(tl.where(at, row_re, 0.0), 0), tl.sum(tl.where(at, row_im, 0.0), 0)
        size = pivot_re * pivot_re + pivot_im * pivot_im
        least = tl.minimum(least, pivot_re)
        by_re, by_im = pivot_re / size, -pivot_im / size
        line_re = tl.where(at, by_re, row_re * by_re - row_im * by_im)[None, :]
        line_im = tl.where(at, by_im, row_re * by_im + row_im * by_re)[None, :]
        left_re, left_im = tl.where(of_column, 0.0, re), tl.where(of_column, 0.0, im)
        across_re, across_im = column_re[:, None], column_im[:, None]
        re = tl.where(of_row, line_re, left_re - (across_re * line_re - across_im * line_im))
        im = tl.where(of_row, line_im, left_im - (across_re * line_im + across_im * line_re))
    return re, im, least


@triton.jit
def effective_gains_of(real, imag, own, re, im):
    """Compute `simulator.downlink.sinr.effective_gains_and_beam_energy`.

    Parameters
    ----------
    real, imag, own
        As in `structured_beams`.
    re, im
        C in two parts, (P, P).

    Returns
    -------
    tuple
        F, and the beams' energies.
    """
    seen_re = tl.dot(real, re, out_dtype=tl.float64) - tl.dot(imag, im, out_dtype=tl.float64)
    seen_im = tl.dot(real, im, out_dtype=tl.float64) + tl.dot(imag, re, out_dtype=tl.float64)
    energy = tl.sum(re * seen_re + im * seen_im, 0)
    rounding = tl.sum((re * re + im * im) * own[:, None], 0) * _ROUNDING
    least = tl.maximum(tl.maximum(energy, rounding), _TINY)
    effective_gains = tl.minimum((seen_re * seen_re + seen_im * seen_im) / least[None, :], own[:, None])
    return effective_gains, tl.maximum(energy, 0.0)


@triton.jit
def solve_wmmse(real, imag, own, dual, power_fractions, K, steps, P: tl.constexpr):
    """Run steps of `simulator.downlink.structure.wmmse_step`.

    Parameters
    ----------
    real, imag, own, dual, K, P
        As in `structured_beams`.
    power_fractions
        P_k / P, (P,).
    steps
        Number of steps.

    Returns
    -------
    tuple
        lambda / P, P_k / P of sum 1, C in two parts, and F.
    """
    re, im, effective_gains, energy = structured_beams(real, imag, own, dual, K, P)
    for _ in tl.range(steps):
        weight = 1 + sinr(effective_gains, power_fractions, P)
        received = 1 + tl.sum(effective_gains * power_fractions[None, :], 1)
        receiver = diagonal(effective_gains, P) * power_fractions / (received * received)
        dual = normalise(weight * receiver)
        re, im, effective_gains, energy = structured_beams(real, imag, own, dual, K, P)
        power_fractions = normalise(weight * weight * receiver * energy)
    total = tl.sum(power_fractions, 0)
    power_fractions = power_fractions / tl.where(total > 0, total, 1.0)
    return dual, power_fractions, re, im, effective_gains


@triton.jit
def normalise(fractions):
    """Scale fractions to a sum of 1.

    Parameters
    ----------
    fractions
        (P,).

    Returns
    -------
    tensor
        (P,).
    """
    return fractions / tl.maximum(tl.sum(fractions, 0), _TINY)


@triton.jit
def sinr(effective_gains, power_fractions, P: tl.constexpr):
    """Compute `simulator.downlink.sinr.sinr`.

    Parameters
    ----------
    effective_gains, power_fractions
        F, (P, P), and P_k / P, (P,).
    P
        Padded users.

    Returns
    -------
    tensor
        (P,).
    """
    index = tl.arange(0, P)
    received = effective_gains * power_fractions[None, :]
    interference = tl.sum(tl.where(index[:, None] == index[None, :], 0.0, received), 1)
    return diagonal(received, P) / (1 + interference)


@triton.jit
def diagonal(matrix, P: tl.constexpr):
    """Extract a diagonal.

    Parameters
    ----------
    matrix
        (P, P).
    P
        Padded users.

    Returns
    -------
    tensor
        (P,).
    """
    index = tl.arange(0, P)
    return tl.sum(tl.where(index[:, None] == index[None, :], matrix, 0.0), 1)


@triton.jit
def layer_norm(x, at, W: tl.constexpr):
    """Apply a layer norm.

    Parameters
    ----------
    x
        (P, W).
    at
        Address of its weights and biases.
    W
        Width.

    Returns
    -------
    tensor
        (P, W).
    """
    wide = tl.arange(0, W)
    centred = x - tl.sum(x, 1)[:, None] / W
    scale = tl.sqrt(tl.sum(centred * centred, 1) / W + 1e-5)[:, None]
    return centred / scale * tl.load(at + wide)[None, :] + tl.load(at + W + wide)[None, :]


@triton.jit
def gelu(x):
    """Apply the exact GELU.

    Parameters
    ----------
    x
        A tensor.

    Returns
    -------
    tensor
        Of the same shape.
    """
    return 0.5 * x * (1 + tl.erf(x * _ROOT_HALF))


@triton.jit
def decades(x):
    """Compute log10, of at least 1e-12.

    Parameters
    ----------
    x
        A tensor.

    Returns
    -------
    tensor
        Of the same shape.
    """
    return tl.log(tl.maximum(x, 1e-12)) * _PER_DECADE


@triton.jit
def angle_of(re, im):
    """Compute the angle of complex numbers, from -pi to pi.

    Parameters
    ----------
    re, im
        Real and imaginary parts, in double precision.

    Returns
    -------
    tensor
        rad, of the same shape.
    """
    size = tl.maximum(tl.sqrt(re * re + im * im), _TINY)
    across, along = tl.abs(im), tl.abs(re)
    slope = tl.minimum(across, along) / tl.maximum(tl.maximum(across, along), _TINY)
    # Abramowitz and Stegun 4.4.49, within 1e-5, and one Newton step, within rounding.
    square = slope * slope
    angle = (((0.0208351 * square - 0.0851330) * square + 0.1801410) * square - 0.3302995) * square + 0.9998660
    angle = angle * slope
    angle = tl.where(across > along, _PI / 2 - angle, angle)
    angle = tl.where(re < 0, _PI - angle, angle)
    angle = tl.where(im < 0, -angle, angle)
    return angle + (im * tl.cos(angle) - re * tl.sin(angle)) / size
