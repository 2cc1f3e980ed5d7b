"""A network's weights folded for NumPy: what can be multiplied out beforehand is, so that few calls are left.

For ten users a call costs more than what it computes. Scales of features, of attention scores and of the GELU's
argument go into the weights beside them, as do the weights and biases of layer norms; and because a layer norm doesn't
see the mean of its inputs, all that is added to the stream has its mean taken away beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from nflae_bridge.network.backbone import OpenBackbone
from nflae_bridge.network.gram_encoder import GramEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunk import LARGEST_SCORE

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Layer = tuple[Single, Single]  # W, b of rows W + b

_DECADE = 1 / math.log(10)
_ROOT = math.sqrt(0.5)  # GELU(x) = ROOT u (1 + erf u) with u = ROOT x
_LARGEST = np.float32(LARGEST_SCORE)
_EPSILON = np.float32(1e-5)  # of PyTorch's layer norms


@dataclass(frozen=True)
class Look:
    """What the encoder sees of a drop in which nobody counts as near and nobody is promised a rate.

    own: ||h_k||^2 P / sigma^2, coherence: |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), and of regularised zero forcing
    inverse: (I + Gamma / K)^-1, couplings: F, and rate: log2(1 + SINR); float64 and complex128, (users,) and (users,
    users).
    """

    own: Real
    coherence: Real
    inverse: npt.NDArray[np.complexfloating[Any, Any]]
    couplings: Real
    rate: Real


@dataclass(frozen=True)
class _Layer:
    attend: Layer
    project: Layer
    widen: Layer
    narrow: Layer


class FoldedNetwork:
    """A network with a gram encoder and an open trunk, see `of`."""

    def __init__(self, network: PrecodingNetwork) -> None:
        weights = {name: tensor.detach().cpu().double().numpy() for name, tensor in network.state_dict().items()}
        self.heads = network.config.backbone.heads
        pairs, bias = weights["encoder.pairs.0.weight"].T, weights["encoder.pairs.0.bias"]
        # Rows as `_pair_features` has them; what is 1 for every pair goes into the bias.
        scaled = [pairs[0], pairs[1], pairs[2] * _DECADE / 2, pairs[3] * -_DECADE / 2, pairs[5] * _DECADE / 2]
        scaled += [pairs[6] / 2, pairs[7] / 2, pairs[4] * _DECADE, pairs[9]]
        self.pairs = _layer(np.stack(scaled) * _ROOT, (bias + pairs[8]) * _ROOT)
        edges = len(bias)
        around = _centred(weights["encoder.surroundings.weight"].T) * _ROOT
        self.total, self.most = _single(around[:edges] / math.sqrt(8.0)), _single(around[edges:])
        self.bias = _layer(weights["encoder.bias.weight"].T * _ROOT, weights["encoder.bias.bias"])
        users = _centred(weights["encoder.users.weight"].T)
        level, rate = users[0] / 2 + users[1] + users[2], users[3] / 4 + users[4]
        scaled = [
            level * _DECADE,
            rate,
            users[5] * _DECADE,
            users[6],
            users[7] / 2,
            users[8] * _DECADE / 2,
            users[9] / 2,
        ]
        # A value less the mean over users is told by a row of its own, the same for all of them.
        scaled += [users[1] * -_DECADE, users[2] * -_DECADE, -users[4], users[15] / 2]
        always = weights["encoder.users.bias"] + weights["encoder.surroundings.bias"]
        always = _centred(always + weights["backbone.model.wpe.weight"][0]) + users[12]
        self.users, self.always = _layer(np.stack(scaled), always)
        self.layers = [self._layer(weights, f"backbone.model.h.{at}.") for at in range(network.config.backbone.layers)]
        heads = [weights[f"heads.{name}.weight"][0] for name in ("uplink", "power")]
        biases = [weights[f"heads.{name}.bias"][0] for name in ("uplink", "power")]
        self.ends = _after_norm(weights, "backbone.model.ln_f", np.stack(heads, 1), np.array(biases))

    @staticmethod
    def of(network: PrecodingNetwork) -> FoldedNetwork | None:
        """None for a network of another kind."""
        if not isinstance(network.encoder, GramEncoder) or len(network.encoder.blocks):
            return None
        if not isinstance(network.backbone, OpenBackbone) or network.config.head_width:
            return None
        return FoldedNetwork(network)

    def _layer(self, weights: dict[str, Real], name: str) -> _Layer:
        attend, shift = weights[name + "attn.c_attn.weight"].copy(), weights[name + "attn.c_attn.bias"].copy()
        width = len(attend)
        scale = (width // self.heads) ** -0.5
        attend[:, :width] *= scale
        shift[:width] *= scale
        widen, widen_shift = weights[name + "mlp.c_fc.weight"] * _ROOT, weights[name + "mlp.c_fc.bias"] * _ROOT
        return _Layer(
            _after_norm(weights, name + "ln_1", attend, shift),
            _layer(_centred(weights[name + "attn.c_proj.weight"]), _centred(weights[name + "attn.c_proj.bias"])),
            _after_norm(weights, name + "ln_2", widen, widen_shift),
            _layer(_centred(weights[name + "mlp.c_proj.weight"]) * _ROOT, _centred(weights[name + "mlp.c_proj.bias"])),
        )

    def shares(self, look: Look) -> tuple[Real, Real]:
        """(lambda / P, P_k / P), float64 (users,) each."""
        rows, bias = self._encoded(look)
        for layer in self.layers:
            rows = self._passed(layer, rows, bias)
        logits = (_normalised(rows) @ self.ends[0] + self.ends[1]).astype(np.float64)
        values = 1 / (1 + np.exp(-np.maximum(logits, -300.0)))
        values /= np.add.reduce(values, 0)
        return values[:, 0], values[:, 1]

    def _encoded(self, look: Look) -> tuple[Single, Single]:
        """Tokens with their mean taken away, and the attention's biases, (heads, users, users)."""
        count = len(look.own)
        level = np.log(np.maximum(look.own, 1e-12))
        heard = look.couplings / count
        alone = np.maximum(look.inverse.diagonal().real, 1e-12)
        squares = look.inverse.view(np.float64) ** 2
        spread = (squares[:, ::2] + squares[:, 1::2]) / (alone[:, None] * alone)
        edges = _gelu(_pair_features(look.coherence, spread, heard, level), self.pairs)
        around = edges.reshape(count, count, -1)
        crowd = look.coherence.copy()
        crowd.flat[:: count + 1] = 0
        users = np.empty((11, count), np.float32)
        users[0] = level
        users[1] = look.rate
        users[2] = np.log(alone)
        users[3] = np.maximum.reduce(crowd, 1)
        users[4] = np.add.reduce(crowd, 1)
        users[5] = np.log(1 + crowd @ look.own)
        users[6] = np.log(1 + np.add.reduce(heard, 1) - heard.diagonal())
        users[7] = np.maximum.reduce(level)
        users[8] = np.add.reduce(level) / count
        users[9] = np.add.reduce(look.rate) / count
        users[10] = math.log2(count)
        rows = users.T @ self.users
        rows += np.add.reduce(around, 1) @ self.total
        rows += np.maximum.reduce(around, 1) @ self.most
        rows += self.always
        bias = edges @ self.bias[0] + self.bias[1]
        return rows, bias.T.reshape(-1, count, count)

    def _passed(self, layer: _Layer, rows: Single, bias: Single) -> Single:
        """A layer of the trunk, on rows whose mean is 0 and stays so."""
        count, width = rows.shape
        mixed = _normalised(rows) @ layer.attend[0]
        mixed += layer.attend[1]
        query, key, value = mixed.reshape(count, 3, self.heads, -1).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1)
        scores += bias
        # The lower bound of `trunk.LARGEST_SCORE` is left out: e^-60 of a share is nothing.
        attention = np.exp(np.minimum(scores, _LARGEST, out=scores), out=scores)
        seen = attention @ value
        seen /= np.add.reduce(attention, 2, keepdims=True)
        rows = rows + seen.transpose(1, 0, 2).reshape(count, width) @ layer.project[0]
        rows += layer.project[1]
        rows += _gelu(_normalised(rows), layer.widen) @ layer.narrow[0]
        rows += layer.narrow[1]
        return rows


def _pair_features(coherence: Real, spread: Real, heard: Real, level: Real) -> Single:
    """What sets a pair of users apart, (users * users, 9), unscaled."""
    count = len(level)
    features = np.empty((9, count, count), np.float32)
    features[0] = coherence
    np.sqrt(features[0], out=features[1])
    logs = features[2:6]
    np.add(coherence, 1e-4, out=logs[0], casting="same_kind")
    np.subtract(1 + 1e-4, coherence, out=logs[1], casting="same_kind")
    np.add(spread, 1e-4, out=logs[2], casting="same_kind")
    np.add(heard, 1, out=logs[3], casting="same_kind")
    np.log(logs, out=logs)
    features[6] = features[5].T
    bound = 4 / _DECADE
    features[7] = np.minimum(np.maximum(np.subtract.outer(level, level), -bound), bound)
    features[8] = _identity(count)
    return features.reshape(9, -1).T


@cache
def _identity(count: int) -> Single:
    return np.eye(count, dtype=np.float32)


def _gelu(rows: Single, weights: Layer) -> Single:
    """GELU(x) / ROOT with ROOT x = rows W + b."""
    argument = rows @ weights[0]
    argument += weights[1]
    # PyTorch's takes half the time, but on two threads: on a busy machine they wait for each other for milliseconds.
    result: Single = erf(argument)
    result += 1
    result *= argument
    return result


def _normalised(rows: Single) -> Single:
    """A layer norm's rows without weights and biases, of rows whose mean is 0."""
    scale = np.vecdot(rows, rows)
    scale /= rows.shape[1]
    scale += _EPSILON
    result: Single = rows / np.sqrt(scale, out=scale)[:, None]
    return result


def _after_norm(weights: dict[str, Real], norm: str, weight: Real, shift: Real) -> Layer:
    """A layer norm's weights and biases multiplied into those of the layer that reads it."""
    scale, offset = weights[norm + ".weight"], weights[norm + ".bias"]
    return _layer(scale[:, None] * weight, offset @ weight + shift)


def _centred(weight: Real) -> Real:
    """Without the mean over what it gives."""
    result: Real = weight - weight.mean(-1, keepdims=True)
    return result


def _layer(weight: Real, shift: Real) -> Layer:
    return _single(weight), _single(shift)


def _single(values: Real) -> Single:
    return np.ascontiguousarray(values, np.float32)
