"""One drop at a time on the CPU, in NumPy: the engine's answer where no constraint binds, without PyTorch's overhead.

For a single drop of ten users the arithmetic takes 30 us and PyTorch's dispatch of it some 2 ms; NumPy takes a fifth
of that. What is computed is what `engine.Engine` computes for a batch, and the tests hold the two together;
constraints, and encoders and trunks other than the shipped ones, are left to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from nflae_bridge.network.backbone import OpenBackbone
from nflae_bridge.network.gram_encoder import GramEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunk import LARGEST_SCORE
from nflae_bridge.side_by_side import ALIKE, ALIKE_POWER, ALIKE_STEPS, COHERENCE

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complexfloating[Any, Any]]

_HALF = np.float32(0.5)
_LARGEST = np.float32(LARGEST_SCORE)
_ROOT = np.float32(math.sqrt(0.5))


@dataclass(frozen=True)
class Solution:
    """Beams and powers of a drop; as in `simulator.precoding.Candidate`, without the axis of drops."""

    coefficients: Complex
    shares: Real
    uplink_shares: Real
    sinr: Real

    @property
    def sum_rate(self) -> float:
        """Sum of log2(1 + SINR), bps/Hz."""
        return float(np.log2(1 + self.sinr).sum())


class OneDrop:
    """A network's weights as NumPy arrays, and the guarded answer they lead to; see `of`."""

    def __init__(self, network: PrecodingNetwork) -> None:
        self.weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
        trunk = network.config.backbone
        self.layers, self.heads = trunk.layers, trunk.heads

    @staticmethod
    def of(network: PrecodingNetwork) -> OneDrop | None:
        """None for a network of another kind."""
        if not isinstance(network.encoder, GramEncoder) or len(network.encoder.blocks):
            return None
        if not isinstance(network.backbone, OpenBackbone) or network.config.head_width:
            return None
        return OneDrop(network)

    def solve(self, channels: Complex, refinements: int, negligible: float) -> tuple[Solution, bool]:
        """The best of the network's answer, the same less doubled users, and RZF's; and whether it is RZF's.

        channels: (users, antennas), in units of the noise: sqrt(P / sigma^2) h_k. refinements: WMMSE steps from the
        network's answer. negligible: by how much the answer with doubled users may be better and still be passed over.
        """
        users = len(channels)
        gram = channels.conj() @ channels.T
        equal = np.full(users, 1 / users)
        inverse, couplings, _ = _beams(gram, equal)
        textbook = Solution(inverse, equal, equal, _sinr(couplings, equal))
        own = np.maximum(gram.diagonal().real, 1e-30)
        power = gram.real**2 + gram.imag**2
        coherence = np.minimum(power / np.multiply.outer(own, own), 1.0)
        uplink, shares = self._shares(own, coherence, textbook, couplings)
        best = _refined(gram, uplink, shares, refinements)
        doubled = _redundant_users(coherence, own, shares, channels)
        if doubled.any():
            alone = _refined(gram, _normalised(uplink * ~doubled), _normalised(shares * ~doubled), refinements)
            if not alone.sum_rate <= best.sum_rate * (1 - negligible):
                best = alone
        ours, theirs = best.sum_rate, textbook.sum_rate
        fallback = not ours < math.inf or theirs > ours * (1 + 1e-9)
        return (textbook if fallback else best), fallback

    def _shares(self, own: Real, coherence: Real, textbook: Solution, couplings: Real) -> tuple[Real, Real]:
        """The network: (lambda / P, P_k / P) of a drop without C3 and C4."""
        users, pairs = _features(own, coherence, textbook, couplings)
        count, weights = len(own), self.weights
        edges = _gelu(_linear(pairs.reshape(count * count, -1), weights, "encoder.pairs.0"))
        around = edges.reshape(count, count, -1)
        surroundings = np.concatenate([around.sum(1) / np.float32(math.sqrt(8.0)), around.max(1)], -1)
        rows = _linear(users, weights, "encoder.users") + _linear(surroundings, weights, "encoder.surroundings")
        rows += weights["backbone.model.wpe.weight"][0]
        bias = _linear(edges, weights, "encoder.bias").reshape(count, count, -1).transpose(2, 0, 1)
        for layer in range(self.layers):
            rows = self._block(rows, bias, f"backbone.model.h.{layer}.")
        rows = self._norm(rows, "backbone.model.ln_f")
        heads = (_linear(rows, weights, f"heads.{name}")[:, 0] for name in ("uplink", "power"))
        uplink, power = (logit.astype(np.float64) for logit in heads)
        return _normalised(1 / (1 + np.exp(-uplink))), _normalised(1 / (1 + np.exp(-power)))

    def _block(self, rows: Single, bias: Single, name: str) -> Single:
        weights, (count, width) = self.weights, rows.shape
        inputs = self._norm(rows, name + "ln_1")
        mixed = inputs @ weights[name + "attn.c_attn.weight"] + weights[name + "attn.c_attn.bias"]
        query, key, value = mixed.reshape(count, 3, self.heads, -1).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1)
        scores *= np.float32((width // self.heads) ** -0.5)
        scores += bias
        attention = np.exp(np.minimum(np.maximum(scores, -_LARGEST), _LARGEST))
        seen = (attention @ value) / np.add.reduce(attention, -1, keepdims=True)
        rows = rows + (seen.transpose(1, 0, 2).reshape(count, width) @ weights[name + "attn.c_proj.weight"])
        rows += weights[name + "attn.c_proj.bias"]
        hidden = self._norm(rows, name + "ln_2") @ weights[name + "mlp.c_fc.weight"]
        hidden += weights[name + "mlp.c_fc.bias"]
        rows += _gelu(hidden) @ weights[name + "mlp.c_proj.weight"]
        rows += weights[name + "mlp.c_proj.bias"]
        return rows

    def _norm(self, rows: Single, name: str) -> Single:
        part = np.float32(1 / rows.shape[-1])
        centred = rows - np.add.reduce(rows, -1, keepdims=True) * part
        scale = np.sqrt(np.add.reduce(centred * centred, -1, keepdims=True) * part + np.float32(1e-5))
        result: Single = centred / scale * self.weights[name + ".weight"] + self.weights[name + ".bias"]
        return result


def _linear(rows: Single, weights: dict[str, Single], name: str) -> Single:
    result: Single = rows @ weights[name + ".weight"].T + weights[name + ".bias"]
    return result


def _gelu(rows: Single) -> Single:
    result: Single = _HALF * rows * (1 + erf(rows * _ROOT))
    return result


def _features(own: Real, coherence: Real, textbook: Solution, couplings: Real) -> tuple[Single, Single]:
    """`gram_encoder.gram_features` of one drop in which nobody counts as near-field and nobody is promised a rate."""
    count = len(own)
    rate = np.log2(1 + textbook.sinr)
    inverse = textbook.coefficients
    alone = np.maximum(inverse.diagonal().real, 1e-12)
    spread = (inverse.real**2 + inverse.imag**2) / np.multiply.outer(alone, alone)
    received = couplings / count
    others = 1 - np.eye(count)
    level = np.log10(np.maximum(own, 1e-12))
    crowd = coherence * others
    louder = np.log1p(received) / 2
    users = np.zeros((count, 16), np.float32)
    users[:, 0] = level / 2
    users[:, 1] = level - level.max()
    users[:, 2] = level - level.mean()
    users[:, 3] = rate / 4
    users[:, 4] = rate - rate.mean()
    users[:, 5] = np.log10(alone)
    users[:, 6] = crowd.max(-1)
    users[:, 7] = crowd.sum(-1) / 2
    users[:, 8] = np.log10(1 + crowd @ own) / 2
    users[:, 9] = np.log1p((received * others).sum(-1)) / 2
    users[:, 12] = 1.0
    users[:, 15] = math.log2(count) / 2
    pairs = np.ones((count, count, 10), np.float32)
    pairs[..., 0] = coherence
    pairs[..., 1] = np.sqrt(coherence)
    pairs[..., 2] = np.log10(coherence + 1e-4) / 2
    pairs[..., 3] = np.log10(1 - coherence + 1e-4) / -2
    pairs[..., 4] = np.minimum(np.maximum(np.subtract.outer(level, level), -4), 4)
    pairs[..., 5] = np.log10(spread + 1e-4) / 2
    pairs[..., 6] = louder
    pairs[..., 7] = louder.T
    pairs[..., 9] = 1 - others
    return users, pairs


def _beams(gram: Complex, uplink_shares: Real) -> tuple[Complex, Real, Real]:
    """C = (I + diag(mu) Gamma)^-1, F and the beams' energies; see `simulator.structure.structured_beams`."""
    system = uplink_shares[:, None] * gram
    system.flat[:: len(gram) + 1] += 1
    coefficients: Complex = np.linalg.inv(system)
    seen = gram @ coefficients
    energy = (coefficients.real * seen.real + coefficients.imag * seen.imag).sum(0)
    own = gram.diagonal().real[:, None]
    magnitude = coefficients.real**2 + coefficients.imag**2
    rounding = 8 * np.finfo(np.float64).eps * (magnitude * own).sum(0)
    least = np.maximum(np.maximum(energy, rounding), np.finfo(np.float64).tiny)
    return coefficients, np.minimum((seen.real**2 + seen.imag**2) / least, own), energy


def _sinr(couplings: Real, shares: Real) -> Real:
    received = couplings * shares
    signal = received.diagonal().copy()
    received.flat[:: len(shares) + 1] = 0  # the sum without the signal, not the sum minus it
    result: Real = signal / (1 + received.sum(-1))
    return result


def _refined(gram: Complex, uplink: Real, shares: Real, refinements: int) -> Solution:
    """The shares after WMMSE steps; see `simulator.structure.wmmse_step`."""
    tiny = np.finfo(np.float64).tiny
    coefficients, couplings, _ = _beams(gram, uplink)
    for _ in range(refinements):
        weight = 1 + _sinr(couplings, shares)
        received = 1 + (couplings * shares).sum(-1)
        receiver = couplings.diagonal() * shares / received**2
        uplink = weight * receiver
        uplink = uplink / max(uplink.sum(), tiny)
        coefficients, couplings, energy = _beams(gram, uplink)
        shares = weight * weight * receiver * energy
        shares = shares / max(shares.sum(), tiny)
    return Solution(coefficients, shares, uplink, _sinr(couplings, shares))


def _normalised(shares: Real) -> Real:
    result: Real = shares / max(shares.sum(), np.finfo(np.float64).tiny)
    return result


def _redundant_users(coherence: Real, own: Real, shares: Real, channels: Complex) -> npt.NDArray[np.bool_]:
    """`side_by_side.redundant_users` of one drop in which nobody counts as near-field."""
    parallel = coherence > COHERENCE
    parallel.flat[:: len(own) + 1] = False
    first = np.zeros_like(parallel)
    for value, alike in ((np.log(np.maximum(shares, 1e-30)), ALIKE_POWER), (np.log(own), ALIKE)):
        difference = np.subtract.outer(value, value)
        first |= parallel & (difference > alike)
        parallel &= np.abs(difference) <= alike
    if parallel.any():
        steps = np.angle((channels[:, 1:] * channels[:, :-1].conj()).sum(-1))
        difference = np.subtract.outer(steps, steps)
        index = np.arange(len(own))
        alike_steps = np.abs(difference) <= ALIKE_STEPS
        first |= parallel & np.where(alike_steps, index[:, None] < index, difference > 0)
    result: npt.NDArray[np.bool_] = first.sum(0) > 0
    return result
