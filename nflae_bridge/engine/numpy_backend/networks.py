"""Run a network on drops without constraints: an exported graph, or a kernel encoder in NumPy.

For a network as small as a kernel encoder's, ONNX Runtime's overhead per operation exceeds the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nflae_bridge.engine.onnx_graphs import Run
from nflae_bridge.network.encoders.kernel import KERNELS, NEAREST, USER_SCALE, KernelEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import NoBackbone
from simulator.problems.algebra import Real, diagonal
from simulator.problems.user_gram import UserGram

Single = npt.NDArray[np.float32]


class Regularised(NamedTuple):
    """Hold the results of regularised zero forcing that features of the gram encoder are made of.

    Attributes
    ----------
    inverse_diagonal, rate
        float64 (drops, users), as in `nflae_bridge.network.encoders.gram.FeatureInputs`.
    inverse_power, effective_gains
        float64 (drops, users, users), as there.
    """

    inverse_diagonal: Real
    inverse_power: Real
    effective_gains: Real
    rate: Real


Network = Callable[[UserGram, Regularised | None], Real]
"""Function from drops to lambda / P, then P_k / P, each up to a factor per drop, real (2, drops, users).

Drops in single precision come without results of regularised zero forcing.
"""


def graph_network(run: Run) -> Network:
    """Return an exported graph as a network.

    Parameters
    ----------
    run
        The graph; see `nflae_bridge.engine.onnx_graphs.PowerGraph`.

    Returns
    -------
    Network
    """

    def network(drops: UserGram, regularised: Regularised | None) -> Real:
        assert regularised is not None
        coherence = drops.coherence.copy()
        diagonal(coherence)[:] = 1
        inputs = {
            "gains": drops.gains,
            "coherence": coherence,
            "inverse_diagonal": np.ascontiguousarray(regularised.inverse_diagonal),
            "inverse_power": regularised.inverse_power,
            "effective_gains": regularised.effective_gains,
            "rate": regularised.rate,
        }
        (fractions,) = run(inputs)
        return fractions.reshape(2, *drops.gains.shape)

    return network


class KernelNetwork:
    """Compute a network of kernel encoder and linear heads in single precision.

    The encoder of `nflae_bridge.network.encoders.kernel` is stated here a second time, with constant features in the
    biases and the sums of kernels in the first layer.

    Parameters
    ----------
    network
        The network; `supports` holds.
    """

    def __init__(self, network: PrecodingNetwork) -> None:
        encoder = network.encoder
        assert isinstance(encoder, KernelEncoder)
        scaled = encoder.users.weight * torch.tensor(USER_SCALE)
        self._free = _with_bias(scaled[:, _PER_USER], encoder.users.bias + scaled[:, _ALPHA_C])
        self._of_sums = _array(scaled[:, _SUMS].T * torch.tensor(_SIGNS)[:, None])
        # Features hold ln(K + x) in place of ln(1 + x / K).
        self._per_log_users = _array(scaled[:, -1] - scaled[:, 1] - scaled[:, 2] - scaled[:, _MEAN_SHARED])
        self._first: dict[int, tuple[Single, Single]] = {}
        self._rounds = [
            self._round(message, update) for message, update in zip(encoder.messages, encoder.updates, strict=True)
        ]
        self._last = _with_bias(encoder.last.weight, encoder.last.bias)
        heads = [layer for layer in (network.heads["uplink"], network.heads["power"]) if isinstance(layer, nn.Linear)]
        weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        self._heads = np.ascontiguousarray(-_with_bias(weight, bias, constant=None).T)

    @staticmethod
    def supports(network: PrecodingNetwork) -> bool:
        """Return whether a network is one of kernel encoder and linear heads, without a backbone."""
        if not isinstance(network.encoder, KernelEncoder) or network.config.head_width:
            return False
        return isinstance(network.backbone, NoBackbone) and isinstance(network.embedding, nn.Identity)

    def __call__(self, drops: UserGram, regularised: Regularised | None = None) -> Real:
        """Compute lambda / P, then P_k / P, of the drops, each up to a factor per drop.

        Parameters
        ----------
        drops
            The drops.
        regularised
            Without effect.

        Returns
        -------
        Real
            float32 (2, drops, users).
        """
        count, users = drops.gains.shape
        features, kernels = _features(drops)
        if users not in self._first:
            self._first[users] = self._first_layer(users)
        of_features, of_kernels = self._first[users]
        tokens = features.dot(of_features)
        tokens += kernels.reshape(count * users, -1).dot(of_kernels)
        np.maximum(tokens, _ZERO, out=tokens)
        for weight in self._rounds:
            sent = tokens.dot(weight).reshape(count, users * (KERNELS + 1), -1)
            # A product of two matrices takes half the time of one of stacks of them.
            update = kernels[0].dot(sent[0]) if count == 1 else (kernels @ sent).reshape(count * users, -1)
            np.maximum(update, _ZERO, out=update)
            tokens += update
        hidden = tokens.dot(self._last)
        np.maximum(hidden, _ZERO, out=hidden)
        logits = self._heads.dot(hidden.T)
        np.minimum(logits, _LARGEST, out=logits)
        np.exp(logits, out=logits)
        logits += _ONE
        fractions: Single = np.reciprocal(logits, out=logits)
        return fractions.reshape(2, count, users)

    def _first_layer(self, users: int) -> tuple[Single, Single]:
        """Return the weights for `_features` of this number of users, and for its kernels."""
        weight = self._free.copy()
        weight[-1, :-1] += self._per_log_users * math.log(users)
        weight[_MEANS] /= users
        # The unit matrix adds the bias once, since no other kernel is that of a user to itself.
        of_kernels = np.concatenate([np.pad(self._of_sums, ((0, 0), (0, 1))), weight[-1:]])
        return weight[:-1], np.tile(of_kernels, (users, 1))

    @staticmethod
    def _round(message: nn.Module, update: nn.Module) -> Single:
        """Return the weights of a round: messages and their updates by kernel, then the update of a user itself."""
        assert isinstance(message, nn.Linear)
        assert isinstance(update, nn.Linear)
        width, sent = message.in_features, message.out_features
        parts = [
            sign * _with_bias(part @ message.weight, part @ message.bias, constant=0)
            for sign, part in zip(_SIGNS, torch.split(update.weight[:, width:], sent, 1), strict=True)
        ]
        return np.concatenate([*parts, _with_bias(update.weight[:, :width], update.bias, constant=0)], 1)


_PER_USER, _SUMS, _MEAN_SHARED, _ALPHA_C = [0, 1, 2, 5, 6, 7], slice(3, 5), 7, 10
_MEANS = slice(4, 6)
_SIGNS = (1.0, -1.0)  # the logarithmic kernel stands here without its sign
# Arrays without an axis, which NumPy takes in less time than numbers.
_ZERO, _ONE, _NEAREST = (np.array(value, np.float32) for value in (0, 1, NEAREST))
_LARGEST = np.array(80, np.float32)  # the exponential stays in range


def _features(drops: UserGram) -> tuple[Single, Single]:
    """Return features, (drops * users, 6), and kernels, (drops, users, users * (kernels + 1)).

    In place of ln(1 + x / K) of `nflae_bridge.network.encoders.kernel.kernel_features` stands ln(K + x), in place of
    means over users sums; `KernelNetwork` corrects. The last kernel is the unit matrix.
    """
    gains, coherence = drops.gains, drops.coherence
    count, users = gains.shape
    kernels = np.empty((count, users, users, KERNELS + 1), np.float32)
    features = np.empty((6, count, users), np.float32)
    kernels[:], number, ones = _constants(users)
    features[:2] = gains
    np.matvec(coherence, gains, out=features[2])
    features[1:3] += number
    features[3] = drops.nearest
    regularised = gains / features[1]
    kernels[..., 0] = coherence
    blocking = coherence * (regularised[:, :, None] * regularised[:, None])
    np.subtract(_NEAREST, blocking, out=blocking)
    kernels[..., 1] = np.log(blocking, out=blocking)  # into strided memory it takes twelve times as long
    logs = features[:3]
    np.log(logs, out=logs)
    np.matmul(logs[:2], ones, out=features[_MEANS])
    return features.reshape(6, -1).T, kernels.reshape(count, users, -1)


@cache
def _constants(users: int) -> tuple[Single, Single, Single]:
    """Return kernels of which all but the last are still to be set, K without an axis, and ones, (users, users)."""
    kernels = np.zeros((users, users, KERNELS + 1), np.float32)
    kernels[..., KERNELS] = np.eye(users)
    return kernels, np.array(users, np.float32), np.ones((users, users), np.float32)


def _with_bias(weight: torch.Tensor, bias: torch.Tensor, constant: int | None = 1) -> Single:
    """Return a layer for inputs whose last is 1; its own last output is ``constant``, none for None."""
    rows = torch.cat([weight.T, bias[None]]).detach().float().cpu()
    if constant is not None:
        column = torch.zeros(len(rows), 1)
        column[-1] = constant
        rows = torch.cat([rows, column], 1)
    return _array(rows)


def _array(values: Any) -> Single:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())
