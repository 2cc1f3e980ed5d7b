"""Turn a drop's logits into precoder and powers, in Triton: `nflae_bridge.engine.comparison` without constraints."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from nflae_bridge.engine.triton_kernels.arithmetic import antennas_at, diagonal, normalise, solve_wmmse

_COHERENCE = tl.constexpr(COHERENCE)
_SAME_GAIN, _SAME_POWER = tl.constexpr(SAME_GAIN), tl.constexpr(SAME_POWER)
_SAME_PHASE_STEP = tl.constexpr(SAME_PHASE_STEP)
_PI = tl.constexpr(math.pi)
_TINY = tl.constexpr(torch.finfo(torch.float64).tiny)
_TINY_BEAM = tl.constexpr(torch.finfo(torch.float32).tiny)


@triton.jit(do_not_specialize=["K", "steps"])
def serve(
    channels, gram, inverse, rzf, logits, precoder, table, antennas, less, K, steps,
    P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the best of the answers with and without redundant users and regularised zero forcing, as beams.

    Parameters
    ----------
    channels, gram, inverse, rzf, logits
        Inputs, as the kernels before write them.
    precoder, table
        Outputs.
    less
        1 - the relative gain in sum rate that counts as rounding.
    steps
        WMMSE steps.
    antennas, K, P, BLOCK
        Sizes: of the drop, padded users, antennas read at a time.
    """
    drop = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    there = index < K
    square = index[:, None] * P + index[None, :]
    real = tl.load(gram + drop * 2 * P * P + square)
    imag = tl.load(gram + (drop * 2 + 1) * P * P + square)
    own = diagonal(real, P)
    target_dual = _power_fractions(tl.load(logits + drop * 2 * P + index), there)
    target = _power_fractions(tl.load(logits + (drop * 2 + 1) * P + index), there)
    redundant = _redundant(real, imag, own, target, channels, drop, antennas, K, P, BLOCK)

    rate = tl.sum(tl.zeros([P], tl.float64), 0) - 1
    dual, power_fractions = tl.zeros([P], tl.float64), tl.zeros([P], tl.float64)
    ratio = tl.zeros([P], tl.float64)
    re, im = tl.zeros([P, P], tl.float64), tl.zeros([P, P], tl.float64)
    attempts = tl.where(tl.sum(redundant.to(tl.int32), 0) > 0, 2, 1)
    for attempt in tl.range(attempts):
        left_out = redundant & (attempt > 0)
        dual2 = normalise(tl.where(left_out, 0.0, target_dual))
        power2 = normalise(tl.where(left_out, 0.0, target))
        dual2, power2, re2, im2, ratio2 = solve_wmmse(real, imag, own, dual2, power2, K, steps, P)
        rate2 = tl.sum(tl.log2(1 + ratio2), 0)
        better = (attempt == 0) | _wins(rate2, rate, less)
        dual, power_fractions = tl.where(better, dual2, dual), tl.where(better, power2, power_fractions)
        ratio = tl.where(better, ratio2, ratio)
        re, im, rate = tl.where(better, re2, re), tl.where(better, im2, im), tl.where(better, rate2, rate)

    ratio2 = tl.load(rzf + drop * P + index)
    fallback = _wins(tl.sum(tl.log2(1 + ratio2), 0), rate, 1 + 1e-9)
    equal = tl.where(there, 1 / K.to(tl.float64), 0.0)
    re = tl.where(fallback, tl.load(inverse + drop * 2 * P * P + square), re)
    im = tl.where(fallback, tl.load(inverse + (drop * 2 + 1) * P * P + square), im)
    line = table + drop * (3 * K + 2)
    tl.store(line + index, tl.where(fallback, equal, power_fractions), mask=there)
    tl.store(line + K + index, tl.where(fallback, equal, dual), mask=there)
    tl.store(line + 2 * K + index, tl.where(fallback, ratio2, ratio), mask=there)
    tl.store(line + 3 * K, 1.0)
    tl.store(line + 3 * K + 1, fallback.to(tl.float64))
    _store_beams(re, im, channels, precoder, drop, antennas, K, P, BLOCK)


@triton.jit
def _redundant(real, imag, own, target, channels, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Return `near_parallel.redundant_users` of a drop in which no user counts under C3, bool (P,)."""
    index = tl.arange(0, P)
    gain = tl.maximum(own, 1e-30)
    parallel = (real * real + imag * imag) > gain[:, None] * gain[None, :] * _COHERENCE
    parallel = parallel & (index[:, None] != index[None, :])
    level = tl.log(tl.maximum(target, 1e-30))
    gap = level[:, None] - level[None, :]
    first = parallel & (gap > _SAME_POWER)
    tied = parallel & (tl.abs(gap) <= _SAME_POWER)
    level = tl.log(gain)
    gap = level[:, None] - level[None, :]
    first = first | (tied & (gap > _SAME_GAIN))
    tied = tied & (tl.abs(gap) <= _SAME_GAIN)
    if tl.sum(tl.sum(tied.to(tl.int32), 1), 0) > 0:
        step = _mean_phase_step(channels, drop, antennas, K, P, BLOCK)
        gap = step[:, None] - step[None, :]
        earlier = (tl.abs(gap) <= _SAME_PHASE_STEP) & (index[:, None] < index[None, :])
        first = first | (tied & ((gap > _SAME_PHASE_STEP) | earlier))
    return tl.sum(first.to(tl.int32), 0) > 0


@triton.jit
def _mean_phase_step(channels, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Return `wavefront.mean_phase_step` of the users, rad, float64 (P,)."""
    re = tl.zeros([P], tl.float64)
    im = tl.zeros([P], tl.float64)
    for start in range(0, antennas - 1, BLOCK):
        last_re, last_im = antennas_at(channels, drop, start, antennas, K, P, BLOCK)
        next_re, next_im = antennas_at(channels, drop, start + 1, antennas, K, P, BLOCK)
        re += tl.sum(next_re * last_re + next_im * last_im, 1)
        im += tl.sum(next_im * last_re - next_re * last_im, 1)
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


@triton.jit
def _store_beams(re, im, channels, precoder, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Write W = H C with unit-norm columns; re, im: of C."""
    index = tl.arange(0, P)
    largest = tl.maximum(tl.sqrt(tl.max(re * re + im * im, 0)), _TINY_BEAM)
    re, im = tl.trans(re / largest[None, :]), tl.trans(im / largest[None, :])
    energy = tl.zeros([P], tl.float64)
    for start in range(0, antennas, BLOCK):
        beam_re, beam_im = _beams_at(re, im, channels, drop, start, antennas, K, P, BLOCK)
        energy += tl.sum(beam_re * beam_re + beam_im * beam_im, 1)
    scale = (1 / tl.maximum(tl.sqrt(energy), _TINY_BEAM))[:, None]
    for start in range(0, antennas, BLOCK):
        beam_re, beam_im = _beams_at(re, im, channels, drop, start, antennas, K, P, BLOCK)
        place = start + tl.arange(0, BLOCK)
        at = precoder + ((drop * K + index[:, None]) * antennas + place[None, :]) * 2
        inside = (index[:, None] < K) & (place[None, :] < antennas)
        tl.store(at, (beam_re * scale).to(tl.float32), mask=inside)
        tl.store(at + 1, (beam_im * scale).to(tl.float32), mask=inside)


@triton.jit
def _beams_at(re, im, channels, drop, start, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Return C^T times the channels at ``BLOCK`` antennas from ``start``; re, im: of C^T."""
    h_re, h_im = antennas_at(channels, drop, start, antennas, K, P, BLOCK)
    beam_re = tl.dot(re, h_re, out_dtype=tl.float64) - tl.dot(im, h_im, out_dtype=tl.float64)
    beam_im = tl.dot(re, h_im, out_dtype=tl.float64) + tl.dot(im, h_re, out_dtype=tl.float64)
    return beam_re, beam_im


@triton.jit
def _wins(other, own, margin):
    """Return whether the other sum rate wins by `candidates.Candidate.better_of`, both being feasible."""
    bound = 1.7e308
    finite, own_finite = tl.abs(other) < bound, tl.abs(own) < bound  # false for NaN
    return ((other > own * margin) & finite) | (own_finite == 0)


@triton.jit
def _power_fractions(logit, there):
    """Return `nflae_bridge.network.model.power_fractions_of`, in double precision."""
    logs = tl.minimum(logit, 0.0) - tl.log(1 + tl.exp(-tl.abs(logit)))
    logs = tl.where(there, logs, -1e30)
    values = tl.exp(logs - tl.max(logs, 0))
    return (values / tl.sum(values, 0)).to(tl.float64)
