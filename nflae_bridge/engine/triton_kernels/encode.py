"""Encode a drop in Triton: Gamma, regularised zero forcing, and `nflae_bridge.network.encoders.gram.GramEncoder`."""

from __future__ import annotations

import triton
import triton.language as tl

from nflae_bridge.engine.triton_kernels.arithmetic import (
    decades,
    diagonal,
    gelu,
    scaled_gram,
    sinr,
    structured_beams,
)
from nflae_bridge.network.encoders.gram import PAIR_FEATURES, USER_FEATURES

_USER_FEATURES, _PAIR_FEATURES = tl.constexpr(USER_FEATURES), tl.constexpr(PAIR_FEATURES)
_ROOT_EIGHTH = tl.constexpr(8.0**-0.5)


@triton.jit(do_not_specialize=["K"])
def encode(
    channels, amplitude_scale, near_field, alpha_c, min_rate, weights, position,
    gram, inverse, rzf, tokens, bias, antennas, K,
    P: tl.constexpr, W: tl.constexpr, E: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Encode a drop: write Gamma, C and SINRs of regularised zero forcing, tokens and attention biases.

    Parameters
    ----------
    channels, amplitude_scale, near_field, alpha_c, min_rate, weights, position
        Inputs, as `TritonKernels` lays them out.
    gram, inverse, rzf, tokens, bias
        Outputs.
    antennas, K, P, W, E, HEADS, BLOCK
        Sizes: of the drop, padded users, trunk's width, edges' width, heads, antennas read at a time.
    """
    drop = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    there = index < K
    square = index[:, None] * P + index[None, :]
    real, imag = scaled_gram(channels, tl.load(amplitude_scale + drop), drop, antennas, K, P, BLOCK)
    tl.store(gram + drop * 2 * P * P + square, real)
    tl.store(gram + (drop * 2 + 1) * P * P + square, imag)
    own = diagonal(real, P)
    equal = tl.where(there, 1 / K.to(tl.float64), 0.0)
    re, im, effective_gains, _ = structured_beams(real, imag, own, equal, K, P)
    ratio = sinr(effective_gains, equal, P)
    tl.store(inverse + drop * 2 * P * P + square, re)
    tl.store(inverse + (drop * 2 + 1) * P * P + square, im)
    tl.store(rzf + drop * P + index, ratio)

    own = tl.maximum(own, 1e-30)
    coherence = tl.minimum((real * real + imag * imag) / (own[:, None] * own[None, :]), 1.0)
    alone = tl.maximum(diagonal(re, P), 1e-12)
    spread = ((re * re + im * im) / (alone[:, None] * alone[None, :])).to(tl.float32)
    rate = tl.log2(1 + ratio).to(tl.float32)
    interference = (effective_gains / K).to(tl.float32)
    rows = tl.load(position + tl.arange(0, W))[None, :] + tl.zeros([P, W], tl.float32)
    rows = _users(rows, weights, own.to(tl.float32), coherence.to(tl.float32), alone.to(tl.float32), rate, interference,
                  K, P, W)  # fmt: skip
    near = tl.load(near_field + drop * K + index, mask=there, other=0).to(tl.float32)
    rows = _constraints(rows, weights, near, tl.load(alpha_c + drop), tl.load(min_rate + drop), K, P, W)
    at = weights + W * _USER_FEATURES
    rows += tl.load(at + tl.arange(0, W))[None, :]
    at += W
    pairs = _pairs(at, coherence, own.to(tl.float32), spread, interference, near, P, E)
    at += E * _PAIR_FEATURES + E
    rows = _surroundings(rows, pairs, at, there, W, E)
    at += 2 * E * W
    rows += tl.load(at + tl.arange(0, W))[None, :]
    at += W
    tl.store(tokens + (drop * P + index[:, None]) * W + tl.arange(0, W)[None, :], rows)
    for head in range(HEADS):
        weight = tl.load(at + head * E + tl.arange(0, E))
        value = tl.sum(pairs * weight[None, None, :], 2) + tl.load(at + HEADS * E + head)
        tl.store(bias + (drop * HEADS + head) * P * P + square, value)


@triton.jit
def _users(
    rows, at, own, coherence, alone, rate, interference, K,
    P: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Add `gram.user_features` times the weights of `gram.GramEncoder.users` to the rows."""
    index = tl.arange(0, P)
    there = index < K
    others = tl.where(index[:, None] == index[None, :], 0.0, 1.0)
    both = there[:, None] & there[None, :]
    level, crowd = decades(own), coherence * others
    disturbance = tl.sum(tl.where(both, interference * others, 0.0), 1)
    rows = _with_user_feature(rows, at, level * 0.5, 0, W)
    rows = _with_user_feature(rows, at, level - tl.max(tl.where(there, level, -1e30), 0), 1, W)
    rows = _with_user_feature(rows, at, level - tl.sum(tl.where(there, level, 0.0), 0) / K, 2, W)
    rows = _with_user_feature(rows, at, rate * 0.25, 3, W)
    rows = _with_user_feature(rows, at, rate - tl.sum(tl.where(there, rate, 0.0), 0) / K, 4, W)
    rows = _with_user_feature(rows, at, decades(alone), 5, W)
    rows = _with_user_feature(rows, at, tl.max(crowd, 1), 6, W)
    rows = _with_user_feature(rows, at, tl.sum(crowd, 1) * 0.5, 7, W)
    rows = _with_user_feature(rows, at, decades(1 + tl.sum(crowd * own[None, :], 1)) * 0.5, 8, W)
    rows = _with_user_feature(rows, at, tl.log(1 + disturbance) * 0.5, 9, W)
    return _with_user_feature(rows, at, tl.full([P], 0.5, tl.float32) * tl.log2(K * 1.0), 15, W)


@triton.jit
def _constraints(rows, at, near, alpha_c, min_rate, K, P: tl.constexpr, W: tl.constexpr):
    """Add `gram.constraint_features` times their weights to the rows."""
    one = tl.full([P], 1.0, tl.float32)
    rate = min_rate.to(tl.float32)
    rows = _with_user_feature(rows, at, near, 10, W)
    rows = _with_user_feature(rows, at, one * (tl.sum(near, 0) / K), 11, W)
    rows = _with_user_feature(rows, at, one * alpha_c.to(tl.float32), 12, W)
    rows = _with_user_feature(rows, at, one * rate, 13, W)
    return _with_user_feature(rows, at, one * tl.where(rate > 0, 1.0, 0.0), 14, W)


@triton.jit
def _pairs(at, coherence, own, spread, interference, near, P: tl.constexpr, E: tl.constexpr):
    """Return the edges of `gram.GramEncoder.pairs` from `gram.pair_features`, float32 (P, P, E)."""
    index = tl.arange(0, P)
    same = tl.where(index[:, None] == index[None, :], 1.0, 0.0)
    incoherence = (1 - coherence).to(tl.float32)
    coherence = coherence.to(tl.float32)
    level, louder = decades(own), tl.log(1 + interference) * 0.5
    gap = tl.minimum(tl.maximum(level[:, None] - level[None, :], -4.0), 4.0)
    pairs = tl.load(at + E * _PAIR_FEATURES + tl.arange(0, E))[None, None, :] + tl.zeros([P, P, E], tl.float32)
    pairs = _with_pair_feature(pairs, at, coherence, 0, E)
    pairs = _with_pair_feature(pairs, at, tl.sqrt(coherence), 1, E)
    pairs = _with_pair_feature(pairs, at, decades(coherence + 1e-4) * 0.5, 2, E)
    pairs = _with_pair_feature(pairs, at, decades(incoherence + 1e-4) * -0.5, 3, E)
    pairs = _with_pair_feature(pairs, at, gap, 4, E)
    pairs = _with_pair_feature(pairs, at, decades(spread + 1e-4) * 0.5, 5, E)
    pairs = _with_pair_feature(pairs, at, louder, 6, E)
    pairs = _with_pair_feature(pairs, at, tl.trans(louder), 7, E)
    alike = tl.where(near[:, None] == near[None, :], 1.0, 0.0)
    pairs = _with_pair_feature(pairs, at, alike, 8, E)
    pairs = _with_pair_feature(pairs, at, same, 9, E)
    return gelu(pairs)


@triton.jit
def _surroundings(rows, pairs, at, there, W: tl.constexpr, E: tl.constexpr):
    """Add sums and maxima of the edges times the weights of `gram.GramEncoder.surroundings` to the rows."""
    seen = there[None, :, None]
    total = tl.sum(tl.where(seen, pairs, 0.0), 1) * _ROOT_EIGHTH
    most = tl.max(tl.where(seen, pairs, -1e30), 1)
    transposed = at + tl.arange(0, W)[None, :] * (2 * E) + tl.arange(0, E)[:, None]
    rows = tl.dot(total, tl.load(transposed), rows, input_precision="tf32")
    return tl.dot(most, tl.load(transposed + E), rows, input_precision="tf32")


@triton.jit
def _with_user_feature(rows, at, feature, place: tl.constexpr, W: tl.constexpr):
    return rows + feature[:, None] * tl.load(at + tl.arange(0, W) * _USER_FEATURES + place)[None, :]


@triton.jit
def _with_pair_feature(pairs, at, feature, place: tl.constexpr, E: tl.constexpr):
    return pairs + feature[:, :, None] * tl.load(at + tl.arange(0, E) * _PAIR_FEATURES + place)[None, None, :]
