"""Encode drops by message passing with fixed kernels of the users' coherences, without attention and without a solve.

The token of a user holds its gain, its coherences and the constraints. In each round, and for each kernel, every user
receives the sum of the messages of the other users, weighted by the kernel of each pair. Neither attention
scores nor regularised zero forcing are computed: a drop takes one small matrix product per kernel and round.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoders.gram import (
    Constraints,
    GramMagnitudes,
    InvariantEncoder,
    constraint_features,
    feature_scale,
)
from nflae_bridge.network.encoders.interface import UserInputs

KERNELS = 2
USER_FEATURES = 14

_LEAST = 1e-12
NEAREST = 1.0001
"""Constant of the logarithmic kernel: pairs count alike from 1e-4 below 1 on."""
USER_SCALE = (
    *(1 / 5, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 1 / 5, 1 / 3),
    *(1, 1, 1, 1, 1, 1 / 2),
)
"""Factors of the features."""


class KernelEncoder(InvariantEncoder):
    """Make tokens by rounds of messages between users.

    Parameters
    ----------
    config
        The encoder's configuration.
    width
        Width of the tokens.
    """

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__(width)
        self.users = nn.Linear(USER_FEATURES, width)
        self.messages = nn.ModuleList([nn.Linear(width, config.edge_width) for _ in range(config.blocks)])
        received = width + KERNELS * config.edge_width
        self.updates = nn.ModuleList([nn.Linear(received, width) for _ in range(config.blocks)])
        self.last = nn.Linear(width, width)

    def tokens(self, inputs: UserInputs, constraints: Constraints) -> tuple[Tensor, None]:
        """Encode drops; there is no bias, as no attention follows.

        Parameters
        ----------
        inputs, constraints
            As in `InvariantEncoder.tokens`.

        Returns
        -------
        tokens : Tensor
            real (drops, users, token width).
        bias : None
        """
        features, kernels = kernel_features(GramMagnitudes.of(inputs.gram), constraints, self.users.weight.dtype)
        tokens = torch.relu(self.users(features))
        for message, update in zip(self.messages, self.updates, strict=True):
            sent = message(tokens)
            received = [kernel @ sent for kernel in kernels]
            tokens = tokens + torch.relu(update(torch.cat([tokens, *received], -1)))
        return torch.relu(self.last(tokens)), None


def kernel_features(
    magnitudes: GramMagnitudes, constraints: Constraints | None, precision: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Form the features of users and the kernels of pairs of users.

    With g the gains, c the coherences and a = g / (K + g), the kernels are c and -ln(1.0001 - q), q_ij = c_ij a_i a_j:
    a second user multiplies the first one's ((I + Gamma / K)^-1)_kk by 1 / (1 - q).

    Parameters
    ----------
    magnitudes
        Gains and coherences of the drops.
    constraints
        Labels and constraints of the drops; None: no constraint binds.
    precision
        Type of the results.

    Returns
    -------
    users : Tensor
        ``precision`` (drops, users, USER_FEATURES).
    kernels : list of Tensor
        KERNELS times ``precision`` (drops, users, users), at most 1e-4 on the diagonal.
    """
    gains = magnitudes.gains.to(precision).unsqueeze(-1)
    count = gains.shape[1]
    others = 1 - torch.eye(count, dtype=precision, device=gains.device)
    coherence = magnitudes.coherence.to(precision) * others
    regularised = gains / (count + gains)
    blocking = coherence * regularised * regularised.transpose(1, 2)
    kernels = [coherence, -torch.log(NEAREST - blocking)]
    shared, around = 1 + gains / count, 1 + (coherence @ gains) / count
    logs = torch.log(torch.cat([gains.clamp(min=_LEAST), shared, around], -1))
    mean = logs[..., :2].mean(1, keepdim=True).expand(-1, count, -1)
    sums = [kernel.sum(-1, keepdim=True) for kernel in kernels]
    largest = coherence.amax(-1, keepdim=True)
    features = [logs, *sums, largest, mean, *constraint_features(logs[..., :1], constraints)]
    return torch.cat(features, -1) * feature_scale(USER_SCALE, precision, gains.device), kernels
