"""Compute precoder and powers of each drop from its logits in Triton, as `nflae_bridge.engine.comparison` does."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from nflae_bridge.engine.triton_kernels.arithmetic import (
    angle_of,
    antennas_at,
    diagonal,
    effective_gains_of,
    normalise,
    sinr,
    solve_wmmse,
)
from nflae_bridge.engine.triton_kernels.limits import project_powers

_COHERENCE = tl.constexpr(COHERENCE)
_SAME_GAIN, _SAME_POWER = tl.constexpr(SAME_GAIN), tl.constexpr(SAME_POWER)
_SAME_PHASE_STEP = tl.constexpr(SAME_PHASE_STEP)
_HUGE = tl.constexpr(1.7e308)
_TINY_BEAM = tl.constexpr(torch.finfo(torch.float32).tiny)


@triton.jit(do_not_specialize=["K", "steps", "columns"])
def serve(
    channels, near_field, alpha_c, min_rate, gram, inverse, rzf, logits, precoder, table, columns,
    antennas, less, K, steps, LIMITED: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the best of the answers with and without redundant users and regularised zero forcing, as beams.

    Parameters
    ----------
    channels, near_field, alpha_c, min_rate, gram, inverse, rzf, logits
        Inputs, as the kernels before write them.
    precoder, table, columns
        Outputs, and the columns of the table.
    less
        1 - the relative gain in sum rate that counts as rounding.
    steps
        WMMSE steps.
    LIMITED
        Whether C3 or C4 can bind.
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
    near = tl.load(near_field + drop * K + index, mask=there, other=0) > 0
    share, least = tl.load(alpha_c + drop), tl.load(min_rate + drop)
    target_dual = _power_fractions(tl.load(logits + drop * 2 * P + index), there)
    target = _power_fractions(tl.load(logits + (drop * 2 + 1) * P + index), there)
    redundant = _redundant(real, imag, own, target, near, channels, drop, antennas, K, P, BLOCK)
    dual, power_fractions, ratio, feasible, re, im, rate, met = _better_of_network(
        real, imag, own, target_dual, target, redundant, near, share, least, there, less, K, steps, LIMITED, P
    )
    re2 = tl.load(inverse + drop * 2 * P * P + square)
    im2 = tl.load(inverse + (drop * 2 + 1) * P * P + square)
    equal = tl.where(there, 1 / K.to(tl.float64), 0.0)
    power2, feasible2, ratio2 = equal, feasible * 0 + 1, tl.load(rzf + drop * P + index)
    if LIMITED:
        gains, _ = effective_gains_of(real, imag, own, re2, im2)
        power2, feasible2 = project_powers(gains, equal, near, share, least, there, K, P)
        ratio2 = sinr(gains, power2, P)
    fallback = _wins(tl.sum(tl.log2(1 + ratio2), 0), feasible2, rate, feasible, 1 + 1e-9)
    re, im = tl.where(fallback, re2, re), tl.where(fallback, im2, im)
    ratio = tl.where(fallback, ratio2, ratio)
    line = table + drop * columns
    tl.store(line + index, tl.where(fallback, power2, power_fractions), mask=there)
    tl.store(line + K + index, tl.where(fallback, equal, dual), mask=there)
    met = tl.maximum(met, feasible2)
    store_rates(line, ratio, tl.where(fallback, feasible2, feasible), fallback, met, own, there, K, P)
    store_beams(re, im, channels, precoder, drop, antennas, K, P, BLOCK)


@triton.jit
def _better_of_network(
    real, imag, own, target_dual, target, redundant, near, share, least, there, less, K, steps,
    LIMITED: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Return the best of the network's answers with and without redundant users, and with steps or, under limits, none.

    Its dual and primal power fractions, SINRs, whether it is feasible, C in two parts, its sum rate, and whether an
    answer without steps is feasible.
    """
    rate = tl.sum(tl.zeros([P], tl.float64), 0) - 1
    feasible = tl.sum(tl.zeros([P], tl.int32), 0)
    dual, power_fractions = tl.zeros([P], tl.float64), tl.zeros([P], tl.float64)
    ratio = tl.zeros([P], tl.float64)
    re, im = tl.zeros([P, P], tl.float64), tl.zeros([P, P], tl.float64)
    attempts = tl.where(tl.sum(redundant.to(tl.int32), 0) > 0, 2, 1)
    plain = attempts * 0  # attempts without steps, before those with steps
    if LIMITED:
        plain = tl.where(steps > 0, attempts, 0)
    floor, met = rate, feasible  # of the best one without steps
    for attempt in tl.range(plain + attempts):
        left_out = redundant & (attempt % attempts > 0)
        taken = tl.where(attempt < plain, 0, steps)
        dual2 = normalise(tl.where(left_out, 0.0, target_dual))
        power2 = normalise(tl.where(left_out, 0.0, target))
        dual2, power2, re2, im2, gains = solve_wmmse(real, imag, own, dual2, power2, K, taken, P)
        feasible2 = feasible * 0 + 1
        if LIMITED:
            power2, feasible2 = project_powers(gains, power2, near, share, least, there, K, P)
        ratio2 = sinr(gains, power2, P)
        rate2 = tl.sum(tl.log2(1 + ratio2), 0)
        better = _wins(rate2, feasible2, rate, feasible, less) & _wins(rate2, feasible2, floor, met, 1 + 1e-9)
        better = better | (attempt == 0)
        dual, power_fractions = tl.where(better, dual2, dual), tl.where(better, power2, power_fractions)
        ratio, feasible = tl.where(better, ratio2, ratio), tl.where(better, feasible2, feasible)
        re, im, rate = tl.where(better, re2, re), tl.where(better, im2, im), tl.where(better, rate2, rate)
        last = attempt == plain - 1
        floor, met = tl.where(last, rate, floor), tl.where(last, feasible, met)
    return dual, power_fractions, ratio, feasible, re, im, rate, tl.where(plain > 0, met, feasible)


@triton.jit
def store_rates(line, ratio, feasible, fallback, exact, own, there, K, P: tl.constexpr):
    """Write SINRs, rates and flags of one drop to its row of a `nflae_bridge.engine.cuda_graphs.packed.PackedAnswer`.

    Parameters
    ----------
    line
        Address of the line.
    ratio, own, there
        SINRs, the diagonal of Gamma, and whether there is a user, (P,).
    feasible, fallback, exact
        0 or 1.
    K, P
        Users, and padded.
    """
    index = tl.arange(0, P)
    rate = tl.log2(1 + ratio)
    tl.store(line + 2 * K + index, ratio, mask=there)
    tl.store(line + 3 * K + index, rate, mask=there)
    usable = tl.where(there, ((own > 0) & (own < _HUGE)).to(tl.int32), 1)
    tl.store(line + 4 * K, feasible.to(tl.float64))
    tl.store(line + 4 * K + 1, fallback.to(tl.float64))
    tl.store(line + 4 * K + 2, tl.sum(tl.where(there, rate, 0.0), 0))
    tl.store(line + 4 * K + 3, tl.min(usable, 0).to(tl.float64))
    tl.store(line + 4 * K + 4, exact.to(tl.float64))


@triton.jit
def _redundant(real, imag, own, target, near, channels, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Return `near_parallel.redundant_users` of a drop, bool (P,)."""
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
    level = tl.where(near, 0, 1)
    first = first | (tied & (level[:, None] > level[None, :]))
    tied = tied & (level[:, None] == level[None, :])
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
    return angle_of(re, im)


@triton.jit
def store_beams(re, im, channels, precoder, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Write W = H C with unit-norm columns.

    Parameters
    ----------
    re, im
        C in two parts, (P, P).
    channels, precoder
        Addresses of the channels and of the beams.
    drop, antennas, K, P, BLOCK
        As in `antennas_at`.
    """
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
def _wins(other, other_feasible, own, feasible, margin):
    """Return whether the other sum rate wins by `candidates.Candidate.better_of`."""
    finite, own_finite = tl.abs(other) < _HUGE, tl.abs(own) < _HUGE  # false for NaN
    larger = (other_feasible > feasible) | ((other_feasible == feasible) & (other > own * margin))
    return (larger & finite) | (own_finite == 0)


@triton.jit
def _power_fractions(logit, there):
    """Return `nflae_bridge.network.model.power_fractions_of`, in double precision."""
    logs = tl.minimum(logit, 0.0) - tl.log(1 + tl.exp(-tl.abs(logit)))
    logs = tl.where(there, logs, -1e30)
    values = tl.exp(logs - tl.max(logs, 0))
    return (values / tl.sum(values, 0)).to(tl.float64)
