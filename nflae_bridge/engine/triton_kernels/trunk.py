"""Run `nflae_bridge.network.trunks.trunk.UserTrunk` and the two heads on a drop, in Triton.

W: width of the trunk; its weights lie in one piece, layer by layer, in the order of `UserTrunk`'s parameters.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nflae_bridge.engine.triton_kernels.arithmetic import gelu, layer_norm
from nflae_bridge.network.trunks.trunk import LARGEST_SCORE

_BOUND = tl.constexpr(LARGEST_SCORE)


@triton.jit(do_not_specialize=["K"])
def run_trunk(
    tokens, bias, weights, ends, logits, K,
    P: tl.constexpr, W: tl.constexpr, HEADS: tl.constexpr, LAYERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run the trunk: write the heads' logits of a drop.

    Parameters
    ----------
    tokens, bias, weights, ends
        Inputs, as `TritonKernels` lays them out.
    logits
        Output.
    K, P, W, HEADS, LAYERS, BLOCK
        Sizes: users, padded, trunk's width, heads, layers, hidden units computed at a time.
    """
    drop = tl.program_id(0).to(tl.int64)
    index, wide = tl.arange(0, P), tl.arange(0, W)
    x = tl.load(tokens + (drop * P + index[:, None]) * W + wide[None, :])
    for layer in range(LAYERS):
        at = weights + layer * (12 * W * W + 13 * W)
        x = _attend(x, at, bias + drop * HEADS * P * P, K, P, W, HEADS)
        x = _transform(x, at + 4 * W * W + 6 * W, W, BLOCK)
    x = layer_norm(x, ends, W)
    for head in range(2):
        at = ends + 2 * W + head * (W + 1)
        logit = tl.sum(x * tl.load(at + wide)[None, :], 1) + tl.load(at + W)
        tl.store(logits + (drop * 2 + head) * P + index, logit)


@triton.jit
def _attend(x, at, bias, K, P: tl.constexpr, W: tl.constexpr, HEADS: tl.constexpr):
    """Add the attention of `trunk.Attention` after a layer norm; its weights lie at ``at``."""
    depth: tl.constexpr = W // HEADS
    index, wide, inner = tl.arange(0, P), tl.arange(0, W), tl.arange(0, depth)
    square = index[:, None] * P + index[None, :]
    rows = layer_norm(x, at, W)
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
        scores += tl.load(bias + head * P * P + square)
        attention = tl.exp(tl.minimum(tl.maximum(scores, -_BOUND), _BOUND))
        attention = tl.where(index[None, :] < K, attention, 0.0)
        seen = tl.dot(attention, value, input_precision="tf32") / tl.sum(attention, 1)[:, None]
        back = out + (head * depth + inner[:, None]) * W + wide[None, :]
        mixed = tl.dot(seen, tl.load(back), mixed, input_precision="tf32")
    return mixed


@triton.jit
def _transform(x, at, W: tl.constexpr, BLOCK: tl.constexpr):
    """Add the MLP of `trunk.Mlp` after a layer norm; its weights lie at ``at``."""
    wide, hidden = tl.arange(0, W), tl.arange(0, BLOCK)
    rows = layer_norm(x, at, W)
    at += 2 * W
    down = at + 4 * W * W + 4 * W
    mixed = x + tl.load(down + 4 * W * W + wide)[None, :]
    for start in range(0, 4 * W, BLOCK):
        up = tl.load(at + wide[:, None] * (4 * W) + start + hidden[None, :])
        middle = tl.dot(rows, up, input_precision="tf32") + tl.load(at + 4 * W * W + start + hidden)[None, :]
        back = tl.load(down + (start + hidden[:, None]) * W + wide[None, :])
        mixed = tl.dot(gelu(middle), back, mixed, input_precision="tf32")
    return mixed
