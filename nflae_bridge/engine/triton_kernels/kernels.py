"""The three kernels of `fused.Fused`, in Triton; a program computes for a drop.

K: its users, P: as many as a program has room for; W: the trunk's width, E: the encoder's width of edges.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from nflae_bridge.engine.near_parallel import ALIKE, ALIKE_POWER, ALIKE_STEPS, COHERENCE
from nflae_bridge.network.encoders.gram import PAIR_FEATURES, USER_FEATURES
from nflae_bridge.network.trunk import LARGEST_SCORE

_COHERENCE = tl.constexpr(COHERENCE)
_ALIKE, _ALIKE_POWER, _ALIKE_STEPS = tl.constexpr(ALIKE), tl.constexpr(ALIKE_POWER), tl.constexpr(ALIKE_STEPS)
_PI = tl.constexpr(math.pi)
_BOUND = tl.constexpr(LARGEST_SCORE)
_USER_FEATURES, _PAIR_FEATURES = tl.constexpr(USER_FEATURES), tl.constexpr(PAIR_FEATURES)
_ROOT_EIGHTH = tl.constexpr(8.0**-0.5)
_ROOT_HALF = tl.constexpr(0.5**0.5)
_TENTH_OF_DECIBEL = tl.constexpr(1 / math.log(10))
_ROUNDING = tl.constexpr(8 * torch.finfo(torch.float64).eps)
_TINY = tl.constexpr(torch.finfo(torch.float64).tiny)
_TINY_BEAM = tl.constexpr(torch.finfo(torch.float32).tiny)


@triton.jit(do_not_specialize=["K"])
def encode(
    channels, amplitude_scale, weights, position, gram, inverse, rzf, tokens, bias, antennas, K,
    P: tl.constexpr, W: tl.constexpr, E: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`link.normalised_gram`, regularised zero forcing, and `gram_encoder.GramEncoder` of a drop."""
    drop = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    there = index < K
    row, column = index[:, None], index[None, :]
    real = tl.zeros([P, P], tl.float64)
    imag = tl.zeros([P, P], tl.float64)
    for start in range(0, antennas, BLOCK):
        re, im = _antennas(channels, drop, start, antennas, K, P, BLOCK)
        real += tl.dot(re, tl.trans(re), out_dtype=tl.float64) + tl.dot(im, tl.trans(im), out_dtype=tl.float64)
        imag += tl.dot(re, tl.trans(im), out_dtype=tl.float64) - tl.dot(im, tl.trans(re), out_dtype=tl.float64)
    unit = tl.load(amplitude_scale + drop)
    real, imag = real * (unit * unit), imag * (unit * unit)
    square = row * P + column
    tl.store(gram + drop * 2 * P * P + square, real)
    tl.store(gram + (drop * 2 + 1) * P * P + square, imag)

    own = _diagonal(real, P)
    equal = tl.where(there, 1 / K.to(tl.float64), 0.0)
    re, im, effective_gains, _ = _beams(real, imag, own, equal, K, P)
    ratio = _sinr(effective_gains, equal, P)
    tl.store(inverse + drop * 2 * P * P + square, re)
    tl.store(inverse + (drop * 2 + 1) * P * P + square, im)
    tl.store(rzf + drop * P + index, ratio)

    own = tl.maximum(own, 1e-30)
    coherence = tl.minimum((real * real + imag * imag) / (own[:, None] * own[None, :]), 1.0)
    incoherence = (1 - coherence).to(tl.float32)
    coherence = coherence.to(tl.float32)
    alone = tl.maximum(_diagonal(re, P), 1e-12)
    spread = ((re * re + im * im) / (alone[:, None] * alone[None, :])).to(tl.float32)
    rate = tl.log2(1 + ratio).to(tl.float32)
    heard = (effective_gains / K).to(tl.float32)
    others = tl.where(row == column, 0.0, 1.0)
    level = _decades(own.to(tl.float32))
    crowd = coherence * others
    louder = tl.log(1 + heard) * 0.5
    both = there[:, None] & there[None, :]
    disturbed = tl.sum(tl.where(both, heard * others, 0.0), 1)

    at = weights
    rows = tl.load(position + tl.arange(0, W))[None, :] + tl.zeros([P, W], tl.float32)
    rows = _with_feature(rows, at, level * 0.5, 0, W)
    rows = _with_feature(rows, at, level - tl.max(tl.where(there, level, -1e30), 0), 1, W)
    rows = _with_feature(rows, at, level - tl.sum(tl.where(there, level, 0.0), 0) / K, 2, W)
    rows = _with_feature(rows, at, rate * 0.25, 3, W)
    rows = _with_feature(rows, at, rate - tl.sum(tl.where(there, rate, 0.0), 0) / K, 4, W)
    rows = _with_feature(rows, at, _decades(alone.to(tl.float32)), 5, W)
    rows = _with_feature(rows, at, tl.max(crowd, 1), 6, W)
    rows = _with_feature(rows, at, tl.sum(crowd, 1) * 0.5, 7, W)
    rows = _with_feature(rows, at, _decades(1 + tl.sum(crowd * own.to(tl.float32)[None, :], 1)) * 0.5, 8, W)
    rows = _with_feature(rows, at, tl.log(1 + disturbed) * 0.5, 9, W)
    # Nobody counts as near (10, 11) or is promised a rate (13, 14); alpha_c is 1.
    rows = _with_feature(rows, at, tl.full([P], 1.0, tl.float32), 12, W)
    rows = _with_feature(rows, at, tl.full([P], 0.5, tl.float32) * tl.log2(K * 1.0), 15, W)
    at += W * _USER_FEATURES
    rows += tl.load(at + tl.arange(0, W))[None, :]
    at += W

    edge = tl.arange(0, E)
    pairs = tl.load(at + E * _PAIR_FEATURES + edge)[None, None, :] + tl.zeros([P, P, E], tl.float32)
    gap = tl.minimum(tl.maximum(level[:, None] - level[None, :], -4.0), 4.0)
    pairs = _with_pair_feature(pairs, at, coherence, 0, E)
    pairs = _with_pair_feature(pairs, at, tl.sqrt(coherence), 1, E)
    pairs = _with_pair_feature(pairs, at, _decades(coherence + 1e-4) * 0.5, 2, E)
    pairs = _with_pair_feature(pairs, at, _decades(incoherence + 1e-4) * -0.5, 3, E)
    pairs = _with_pair_feature(pairs, at, gap, 4, E)
    pairs = _with_pair_feature(pairs, at, _decades(spread + 1e-4) * 0.5, 5, E)
    pairs = _with_pair_feature(pairs, at, louder, 6, E)
    pairs = _with_pair_feature(pairs, at, tl.trans(louder), 7, E)
    pairs = _with_pair_feature(pairs, at, others * 0 + 1, 8, E)
    pairs = _with_pair_feature(pairs, at, 1 - others, 9, E)
    pairs = _gelu(pairs)
    at += E * _PAIR_FEATURES + E

    seen = there[None, :, None]
    total = tl.sum(tl.where(seen, pairs, 0.0), 1) * _ROOT_EIGHTH
    most = tl.max(tl.where(seen, pairs, -1e30), 1)
    wide = tl.arange(0, W)
    turned = at + wide[None, :] * (2 * E) + edge[:, None]
    rows = tl.dot(total, tl.load(turned), rows, input_precision="tf32")
    rows = tl.dot(most, tl.load(turned + E), rows, input_precision="tf32")
    at += 2 * E * W
    rows += tl.load(at + wide)[None, :]
    at += W
    tl.store(tokens + (drop * P + index[:, None]) * W + wide[None, :], rows)
    for head in range(HEADS):
        weight = tl.load(at + head * E + edge)
        value = tl.sum(pairs * weight[None, None, :], 2) + tl.load(at + HEADS * E + head)
        tl.store(bias + (drop * HEADS + head) * P * P + square, value)


@triton.jit(do_not_specialize=["K"])
def run_trunk(
    tokens, bias, weights, ends, logits, K,
    P: tl.constexpr, W: tl.constexpr, HEADS: tl.constexpr, LAYERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`trunk.UserTrunk` and the two heads of a drop."""
    drop = tl.program_id(0).to(tl.int64)
    index, wide = tl.arange(0, P), tl.arange(0, W)
    depth: tl.constexpr = W // HEADS
    inner, hidden = tl.arange(0, depth), tl.arange(0, BLOCK)
    square = index[:, None] * P + index[None, :]
    x = tl.load(tokens + (drop * P + index[:, None]) * W + wide[None, :])
    for layer in range(LAYERS):
        at = weights + layer * (12 * W * W + 13 * W)
        rows = _normalised(x, at, W)
        at += 2 * W
        out = at + 3 * W * W + 3 * W
        mixed = x + tl.load(out + W * W + wide)[None, :]
        for head in range(HEADS):
            part = at + wide[:, None] * (3 * W) + head * depth + inner[None, :]
            shift = at + 3 * W * W + head * depth + inner
            query = tl.dot(rows, tl.load(part), input_precision="tf32") + tl.load(shift)[None, :]
            key = tl.dot(rows, tl.load(part + W), input_precision="tf32") + tl.load(shift + W)[None, :]
            value = tl.dot(rows, tl.load(part + 2 * W), input_precision="tf32") + tl.load(shift + 2 * W)[None, :]
            scores = tl.dot(query, tl.trans(key), input_precision="tf32") * (depth**-0.5)
            scores += tl.load(bias + (drop * HEADS + head) * P * P + square)
            attention = tl.exp(tl.minimum(tl.maximum(scores, -_BOUND), _BOUND))
            attention = tl.where(index[None, :] < K, attention, 0.0)
            seen = tl.dot(attention, value, input_precision="tf32") / tl.sum(attention, 1)[:, None]
            back = out + (head * depth + inner[:, None]) * W + wide[None, :]
            mixed = tl.dot(seen, tl.load(back), mixed, input_precision="tf32")
        x = mixed
        at = out + W * W + W
        rows = _normalised(x, at, W)
        at += 2 * W
        down = at + 4 * W * W + 4 * W
        mixed = x + tl.load(down + 4 * W * W + wide)[None, :]
        for start in range(0, 4 * W, BLOCK):
            up = tl.load(at + wide[:, None] * (4 * W) + start + hidden[None, :])
            middle = tl.dot(rows, up, input_precision="tf32") + tl.load(at + 4 * W * W + start + hidden)[None, :]
            back = tl.load(down + (start + hidden[:, None]) * W + wide[None, :])
            mixed = tl.dot(_gelu(middle), back, mixed, input_precision="tf32")
        x = mixed
    x = _normalised(x, ends, W)
    for head in range(2):
        at = ends + 2 * W + head * (W + 1)
        logit = tl.sum(x * tl.load(at + wide)[None, :], 1) + tl.load(at + W)
        tl.store(logits + (drop * 2 + head) * P + index, logit)


@triton.jit(do_not_specialize=["K", "steps"])
def serve(
    channels, gram, inverse, rzf, logits, precoder, table, antennas, less, K, steps,
    P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The best of the network's answer, the same less doubled users, and regularised zero forcing; as beams."""
    drop = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    there = index < K
    square = index[:, None] * P + index[None, :]
    real = tl.load(gram + drop * 2 * P * P + square)
    imag = tl.load(gram + (drop * 2 + 1) * P * P + square)
    own = _diagonal(real, P)
    wanted_uplink = _power_fractions(tl.load(logits + drop * 2 * P + index), there)
    wanted = _power_fractions(tl.load(logits + (drop * 2 + 1) * P + index), there)

    gain = tl.maximum(own, 1e-30)
    parallel = (real * real + imag * imag) > gain[:, None] * gain[None, :] * _COHERENCE
    parallel = parallel & (index[:, None] != index[None, :])
    level = tl.log(tl.maximum(wanted, 1e-30))
    gap = level[:, None] - level[None, :]
    first = parallel & (gap > _ALIKE_POWER)
    open_pairs = parallel & (tl.abs(gap) <= _ALIKE_POWER)
    level = tl.log(gain)
    gap = level[:, None] - level[None, :]
    first = first | (open_pairs & (gap > _ALIKE))
    open_pairs = open_pairs & (tl.abs(gap) <= _ALIKE)
    if tl.sum(tl.sum(open_pairs.to(tl.int32), 1), 0) > 0:
        step = _mean_phase_step(channels, drop, antennas, K, P, BLOCK)
        gap = step[:, None] - step[None, :]
        earlier = (tl.abs(gap) <= _ALIKE_STEPS) & (index[:, None] < index[None, :])
        first = first | (open_pairs & ((gap > _ALIKE_STEPS) | earlier))
    redundant = tl.sum(first.to(tl.int32), 0) > 0

    rate = tl.sum(tl.zeros([P], tl.float64), 0) - 1
    uplink, power_fractions = tl.zeros([P], tl.float64), tl.zeros([P], tl.float64)
    ratio = tl.zeros([P], tl.float64)
    re, im = tl.zeros([P, P], tl.float64), tl.zeros([P, P], tl.float64)
    attempts = tl.where(tl.sum(redundant.to(tl.int32), 0) > 0, 2, 1)
    for attempt in tl.range(attempts):
        left_out = redundant & (attempt > 0)
        uplink2, shares2 = tl.where(left_out, 0.0, wanted_uplink), tl.where(left_out, 0.0, wanted)
        uplink2 = uplink2 / tl.maximum(tl.sum(uplink2, 0), _TINY)
        shares2 = shares2 / tl.maximum(tl.sum(shares2, 0), _TINY)
        uplink2, shares2, re2, im2, ratio2 = _served(real, imag, own, uplink2, shares2, K, steps, P)
        rate2 = tl.sum(tl.log2(1 + ratio2), 0)
        better = (attempt == 0) | _wins(rate2, rate, less)
        uplink, power_fractions = tl.where(better, uplink2, uplink), tl.where(better, shares2, power_fractions)
        ratio = tl.where(better, ratio2, ratio)
        re, im, rate = tl.where(better, re2, re), tl.where(better, im2, im), tl.where(better, rate2, rate)

    ratio2 = tl.load(rzf + drop * P + index)
    fallback = _wins(tl.sum(tl.log2(1 + ratio2), 0), rate, 1 + 1e-9)
    equal = tl.where(there, 1 / K.to(tl.float64), 0.0)
    uplink, power_fractions = tl.where(fallback, equal, uplink), tl.where(fallback, equal, power_fractions)
    ratio = tl.where(fallback, ratio2, ratio)
    re = tl.where(fallback, tl.load(inverse + drop * 2 * P * P + square), re)
    im = tl.where(fallback, tl.load(inverse + (drop * 2 + 1) * P * P + square), im)

    line = table + drop * (3 * K + 2)
    tl.store(line + index, power_fractions, mask=there)
    tl.store(line + K + index, uplink, mask=there)
    tl.store(line + 2 * K + index, ratio, mask=there)
    tl.store(line + 3 * K, 1.0)
    tl.store(line + 3 * K + 1, fallback.to(tl.float64))

    largest = tl.maximum(tl.sqrt(tl.max(re * re + im * im, 0)), _TINY_BEAM)
    re, im = tl.trans(re / largest[None, :]), tl.trans(im / largest[None, :])
    energy = tl.zeros([P], tl.float64)
    for start in range(0, antennas, BLOCK):
        beam_re, beam_im = _combined(re, im, channels, drop, start, antennas, K, P, BLOCK)
        energy += tl.sum(beam_re * beam_re + beam_im * beam_im, 1)
    scale = (1 / tl.maximum(tl.sqrt(energy), _TINY_BEAM))[:, None]
    for start in range(0, antennas, BLOCK):
        beam_re, beam_im = _combined(re, im, channels, drop, start, antennas, K, P, BLOCK)
        place = start + tl.arange(0, BLOCK)
        at = precoder + ((drop * K + index[:, None]) * antennas + place[None, :]) * 2
        inside = there[:, None] & (place[None, :] < antennas)
        tl.store(at, (beam_re * scale).to(tl.float32), mask=inside)
        tl.store(at + 1, (beam_im * scale).to(tl.float32), mask=inside)


@triton.jit
def _antennas(channels, drop, start, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """Channels at ``BLOCK`` antennas from ``start``: real and imaginary part, float64 (P, BLOCK), 0 beyond the ends."""
    index, place = tl.arange(0, P), start + tl.arange(0, BLOCK)
    at = channels + ((drop * K + index[:, None]) * antennas + place[None, :]) * 2
    inside = (index[:, None] < K) & (place[None, :] < antennas)
    return (
        tl.load(at, mask=inside, other=0.0).to(tl.float64),
        tl.load(at + 1, mask=inside, other=0.0).to(tl.float64),
    )


@triton.jit
def _mean_phase_step(channels, drop, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """`wavefront.mean_phase_step` of the users, rad; float64 (P,)."""
    re = tl.zeros([P], tl.float64)
    im = tl.zeros([P], tl.float64)
    for start in range(0, antennas - 1, BLOCK):
        last_re, last_im = _antennas(channels, drop, start, antennas, K, P, BLOCK)
        next_re, next_im = _antennas(channels, drop, start + 1, antennas, K, P, BLOCK)
        re += tl.sum(next_re * last_re + next_im * last_im, 1)
        im += tl.sum(next_im * last_re - next_re * last_im, 1)
    size = tl.maximum(tl.sqrt(re * re + im * im), _TINY)
    across, along = tl.abs(im), tl.abs(re)
    slope = tl.minimum(across, along) / tl.maximum(tl.maximum(across, along), _TINY)
    # Abramowitz and Stegun 4.4.49, within 1e-5, and one of Newton's steps, within rounding.
    square = slope * slope
    angle = (((0.0208351 * square - 0.0851330) * square + 0.1801410) * square - 0.3302995) * square + 0.9998660
    angle = angle * slope
    angle = tl.where(across > along, _PI / 2 - angle, angle)
    angle = tl.where(re < 0, _PI - angle, angle)
    angle = tl.where(im < 0, -angle, angle)
    return angle + (im * tl.cos(angle) - re * tl.sin(angle)) / size


@triton.jit
def _combined(re, im, channels, drop, start, antennas, K, P: tl.constexpr, BLOCK: tl.constexpr):
    """C^T times the channels at some antennas; re, im: of C^T."""
    h_re, h_im = _antennas(channels, drop, start, antennas, K, P, BLOCK)
    beam_re = tl.dot(re, h_re, out_dtype=tl.float64) - tl.dot(im, h_im, out_dtype=tl.float64)
    beam_im = tl.dot(re, h_im, out_dtype=tl.float64) + tl.dot(im, h_re, out_dtype=tl.float64)
    return beam_re, beam_im


@triton.jit
def _beams(real, imag, own, uplink, K, P: tl.constexpr):
    """`structure.structured_beams`: C in two parts, F, and the beams' energies."""
    index = tl.arange(0, P)
    re = uplink[:, None] * real + tl.where(index[:, None] == index[None, :], 1.0, 0.0)
    im = uplink[:, None] * imag
    # Gauss-Jordan in place. No pivoting: the matrix is similar to a Hermitian one with eigenvalues of at least 1.
    for k in tl.range(K):
        of_row, of_column, at = index[:, None] == k, index[None, :] == k, index == k
        row_re, row_im = tl.sum(tl.where(of_row, re, 0.0), 0), tl.sum(tl.where(of_row, im, 0.0), 0)
        column_re, column_im = tl.sum(tl.where(of_column, re, 0.0), 1), tl.sum(tl.where(of_column, im, 0.0), 1)
        pivot_re, pivot_im = tl.sum(tl.where(at, row_re, 0.0), 0), tl.sum(tl.where(at, row_im, 0.0), 0)
        size = pivot_re * pivot_re + pivot_im * pivot_im
        by_re, by_im = pivot_re / size, -pivot_im / size
        line_re = tl.where(at, by_re, row_re * by_re - row_im * by_im)[None, :]
        line_im = tl.where(at, by_im, row_re * by_im + row_im * by_re)[None, :]
        left_re, left_im = tl.where(of_column, 0.0, re), tl.where(of_column, 0.0, im)
        across_re, across_im = column_re[:, None], column_im[:, None]
        re = tl.where(of_row, line_re, left_re - (across_re * line_re - across_im * line_im))
        im = tl.where(of_row, line_im, left_im - (across_re * line_im + across_im * line_re))
    seen_re = tl.dot(real, re, out_dtype=tl.float64) - tl.dot(imag, im, out_dtype=tl.float64)
    seen_im = tl.dot(real, im, out_dtype=tl.float64) + tl.dot(imag, re, out_dtype=tl.float64)
    energy = tl.sum(re * seen_re + im * seen_im, 0)
    rounding = tl.sum((re * re + im * im) * own[:, None], 0) * _ROUNDING
    least = tl.maximum(tl.maximum(energy, rounding), _TINY)
    effective_gains = tl.minimum((seen_re * seen_re + seen_im * seen_im) / least[None, :], own[:, None])
    return re, im, effective_gains, energy


@triton.jit
def _served(real, imag, own, uplink, power_fractions, K, steps, P: tl.constexpr):
    """(uplink, shares) after some of `structure.wmmse_step`, with C in two parts and the SINRs."""
    re, im, effective_gains, energy = _beams(real, imag, own, uplink, K, P)
    for _ in tl.range(steps):
        weight = 1 + _sinr(effective_gains, power_fractions, P)
        received = 1 + tl.sum(effective_gains * power_fractions[None, :], 1)
        receiver = _diagonal(effective_gains, P) * power_fractions / (received * received)
        uplink = weight * receiver
        uplink = uplink / tl.maximum(tl.sum(uplink, 0), _TINY)
        re, im, effective_gains, energy = _beams(real, imag, own, uplink, K, P)
        power_fractions = weight * weight * receiver * energy
        power_fractions = power_fractions / tl.maximum(tl.sum(power_fractions, 0), _TINY)
    total = tl.sum(power_fractions, 0)
    power_fractions = power_fractions / tl.where(total > 0, total, 1.0)
    return uplink, power_fractions, re, im, _sinr(effective_gains, power_fractions, P)


@triton.jit
def _sinr(effective_gains, power_fractions, P: tl.constexpr):
    """`link.sinr`."""
    index = tl.arange(0, P)
    received = effective_gains * power_fractions[None, :]
    interference = tl.sum(tl.where(index[:, None] == index[None, :], 0.0, received), 1)
    return _diagonal(received, P) / (1 + interference)


@triton.jit
def _diagonal(matrix, P: tl.constexpr):
    index = tl.arange(0, P)
    return tl.sum(tl.where(index[:, None] == index[None, :], matrix, 0.0), 1)


@triton.jit
def _wins(other, ours, margin):
    """`precoding.Candidate.better_of` where both are feasible."""
    bound = 1.7e308
    finite, ours_finite = tl.abs(other) < bound, tl.abs(ours) < bound  # false for what is no number
    return ((other > ours * margin) & finite) | (ours_finite == 0)


@triton.jit
def _power_fractions(logit, there):
    """Sigmoids normalised over users, as `model.PrecodingNetwork` gives them, in double precision."""
    logs = tl.minimum(logit, 0.0) - tl.log(1 + tl.exp(-tl.abs(logit)))
    logs = tl.where(there, logs, -1e30)
    values = tl.exp(logs - tl.max(logs, 0))
    return (values / tl.sum(values, 0)).to(tl.float64)


@triton.jit
def _normalised(x, at, W: tl.constexpr):
    """LayerNorm; its weights and biases lie at ``at``."""
    wide = tl.arange(0, W)
    centred = x - tl.sum(x, 1)[:, None] / W
    scale = tl.sqrt(tl.sum(centred * centred, 1) / W + 1e-5)[:, None]
    return centred / scale * tl.load(at + wide)[None, :] + tl.load(at + W + wide)[None, :]


@triton.jit
def _gelu(x):
    return 0.5 * x * (1 + tl.erf(x * _ROOT_HALF))


@triton.jit
def _decades(x):
    return tl.log(tl.maximum(x, 1e-12)) * _TENTH_OF_DECIBEL


@triton.jit
def _with_feature(rows, at, feature, place: tl.constexpr, W: tl.constexpr):
    """A user feature's part of `gram_encoder.GramEncoder.users` added."""
    return rows + feature[:, None] * tl.load(at + tl.arange(0, W) * _USER_FEATURES + place)[None, :]


@triton.jit
def _with_pair_feature(pairs, at, feature, place: tl.constexpr, E: tl.constexpr):
    """A pair feature's part of `gram_encoder.GramEncoder.pairs` added."""
    return pairs + feature[:, :, None] * tl.load(at + tl.arange(0, E) * _PAIR_FEATURES + place)[None, None, :]
