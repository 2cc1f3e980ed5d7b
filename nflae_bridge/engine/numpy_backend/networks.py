"""Run a network on the quantities of drops without constraints: an exported graph, or a kernel encoder in NumPy.

For a network as small as a kernel encoder's, ONNX Runtime's overhead per operation exceeds the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nflae_bridge.engine.numpy_backend.single import constants
from nflae_bridge.engine.onnx_graphs import Run
from nflae_bridge.network.encoders.kernel import KERNELS, NEAREST, USER_SCALE, KernelEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import NoBackbone
from simulator.problems.algebra import Real, diagonal

Single = npt.NDArray[np.float32]


class Quantities(NamedTuple):
    """Hold the quantities of `nflae_bridge.network.encoders.gram.FeatureInputs`, in the precision of the drops.

    Attributes
    ----------
    gains, inverse_diagonal, rate
        real (drops, users).
    coherence, inverse_power
        real (drops, users, users), 0 on the diagonal.
    nearest
        Maximum of the coherence over the other users, real (drops, users).
    effective_gains
        Function that computes the effective gains, real (drops, users, users).
    disturbance
        Interference between the beams of regularised zero forcing and noise, over K times the noise, real (drops,
        users).
    """

    gains: Real
    coherence: Real
    nearest: Real
    inverse_diagonal: Real
    inverse_power: Real
    effective_gains: Callable[[], Real]
    disturbance: Real
    rate: Real


Network = Callable[[Quantities], Real]
"""Function from the quantities to lambda / P, then P_k / P, real (2, drops, users)."""


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

    def network(quantities: Quantities) -> Real:
        coherence, power = quantities.coherence.astype(np.float64), quantities.inverse_power.astype(np.float64)
        diagonal(coherence)[:] = 1
        own = np.ascontiguousarray(quantities.inverse_diagonal, np.float64)
        diagonal(power)[:] = own * own
        inputs = {
            "gains": quantities.gains.astype(np.float64, copy=False),
            "coherence": coherence,
            "inverse_diagonal": own,
            "inverse_power": power,
            "effective_gains": quantities.effective_gains().astype(np.float64, copy=False),
            "rate": quantities.rate.astype(np.float64, copy=False),
        }
        (fractions,) = run(inputs)
        precision = quantities.gains.dtype
        return fractions.astype(precision, copy=False).reshape(2, *quantities.gains.shape)

    return network


class KernelNetwork:
    """Compute a network of kernel encoder and linear heads in single precision.

    The encoder of `nflae_bridge.network.encoders.kernel` is stated here a second time, with the weights that meet the
    same input joined and constant features in the biases.

    Parameters
    ----------
    network
        The network; `supports` holds.
    """

    def __init__(self, network: PrecodingNetwork) -> None:
        encoder = network.encoder
        assert isinstance(encoder, KernelEncoder)
        scaled = encoder.users.weight * torch.tensor(USER_SCALE)
        scaled[:, _LOGARITHMIC] *= -1  # the sums hold ln(1.001 - c), without the sign
        self._free = _with_bias(scaled[:, :_VARIABLE], encoder.users.bias + scaled[:, _ALPHA_C])
        self._per_log_users = (scaled[:, -1] - scaled[:, 1] - scaled[:, 2] + scaled[:, 4]).detach().cpu().numpy()
        self._features: dict[int, Single] = {}
        self._rounds = []
        width, sent = encoder.token_width, network.config.encoder.edge_width
        for message, update in zip(encoder.messages, encoder.updates, strict=True):
            assert isinstance(message, nn.Linear)
            assert isinstance(update, nn.Linear)
            received = update.weight[:, width:].detach().clone()
            received[:, 2 * sent : 3 * sent] *= -1
            own = _with_bias(update.weight[:, :width], update.bias, constant=0)
            received = torch.cat([received, torch.zeros_like(received[:1])])
            self._rounds.append((_with_bias(message.weight, message.bias, constant=None), own, _array(received.T)))
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

    def __call__(self, quantities: Quantities) -> Real:
        """Compute lambda / P, then P_k / P, of the drops.

        Parameters
        ----------
        quantities
            The quantities.

        Returns
        -------
        Real
            In the precision of the quantities, (2, drops, users).
        """
        drops, users = quantities.gains.shape
        features, kernels = _features(quantities)
        if users not in self._features:
            self._features[users] = self._first_layer(users)
        tokens = features @ self._features[users]
        np.maximum(tokens, 0, out=tokens)
        for message, own, received in self._rounds:
            sent = (tokens @ message).reshape(drops, users, -1)
            update = (kernels @ sent).reshape(drops * users, -1) @ received
            update += tokens @ own
            np.maximum(update, 0, out=update)
            tokens += update
        hidden = tokens @ self._last
        np.maximum(hidden, 0, out=hidden)
        logits = self._heads @ hidden.T
        np.minimum(logits, _LARGEST, out=logits)
        np.exp(logits, out=logits)
        logits += 1
        fractions = np.divide(1, logits, dtype=quantities.gains.dtype).reshape(2, drops, users)
        fractions /= np.add.reduce(fractions, 2, keepdims=True)
        return fractions

    def _first_layer(self, users: int) -> Single:
        """Return the weights for `_features` of this number of users."""
        weight = self._free.copy()
        weight[-1, :-1] += self._per_log_users * math.log(users)
        weight[_MEANS] /= users
        return weight


_VARIABLE, _ALPHA_C, _LOGARITHMIC = 13, 15, 8
_MEANS = slice(11, 13)
_LARGEST = 80.0  # the exponential stays in range


def _features(quantities: Quantities) -> tuple[Single, Single]:
    """Return features, (drops * users, 14), and kernels, (drops, users * kernels, users), the last feature 1.

    In place of ln(1 + x / K) of `nflae_bridge.network.encoders.kernel.kernel_features` stands ln(K + x), in place of
    the logarithm of the disturbance that of its K-th part, in place of means over users sums; `_first_layer` corrects.
    """
    gains, coherence = quantities.gains, quantities.coherence
    drops, users = gains.shape
    kernels = np.empty((drops, users, KERNELS, users), np.float32)
    kernels[:, :, 0] = coherence
    np.multiply(coherence, coherence, out=kernels[:, :, 1], casting="same_kind")
    np.log(NEAREST - coherence, out=kernels[:, :, 2], casting="same_kind")
    inverse = 1 / quantities.inverse_diagonal
    spread = quantities.inverse_power * inverse[:, :, None]
    np.multiply(spread, inverse[:, None], out=kernels[:, :, 3], casting="same_kind")
    features = np.empty((_VARIABLE + 1, drops, users), np.float32)
    features[0] = gains
    np.add(gains, users, out=features[1], casting="same_kind")
    np.add(np.matvec(coherence, gains), users, out=features[2], casting="same_kind")
    features[3] = quantities.inverse_diagonal
    features[4] = quantities.disturbance
    logs = features[:5]
    np.log(logs, out=logs)
    features[5] = quantities.rate
    sums = np.matvec(kernels.reshape(-1, users), constants(users).ones)
    features[6:10] = sums.reshape(drops, users, KERNELS).transpose(2, 0, 1)
    features[10] = quantities.nearest
    features[_MEANS] = np.add.reduce(features[0:6:5], 2, keepdims=True)
    features[_VARIABLE] = 1
    return features.reshape(_VARIABLE + 1, -1).T, kernels.reshape(drops, -1, users)


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
