"""Encode drops by message passing with fixed kernels of the users' coherences, without attention.

The token of a user holds its gain, prospects and constraints. In each round, and for each kernel, every user receives
the sum of the messages of the other users, weighted by the kernel of each pair. There are no attention scores: a drop
costs one small matrix product per kernel and round.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoders.gram import (
    Constraints,
    FeatureInputs,
    InvariantEncoder,
    constraint_features,
    feature_scale,
)

KERNELS = 4
USER_FEATURES = 19

_LEAST = 1e-12
NEAREST = 1.001
"""Constant of the logarithmic kernel: coherences count alike from 1e-3 below 1 on."""
USER_SCALE = (
    *(1 / 5, 1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 4, 1 / 2, 1, 1 / 2, 1 / 2, 1, 1 / 5, 1 / 4),
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

    def embed(self, quantities: FeatureInputs, constraints: Constraints | None) -> tuple[Tensor, None]:
        """Encode drops whose labels are known, in real arithmetic; there is no bias.

        Parameters
        ----------
        quantities, constraints
            As in `InvariantEncoder.embed`.

        Returns
        -------
        tokens : Tensor
            real (drops, users, token width).
        bias : None
            No attention follows.
        """
        features, kernels = kernel_features(quantities, constraints, self.users.weight.dtype)
        tokens = torch.relu(self.users(features))
        for message, update in zip(self.messages, self.updates, strict=True):
            sent = message(tokens)
            received = [kernel @ sent for kernel in kernels]
            tokens = tokens + torch.relu(update(torch.cat([tokens, *received], -1)))
        return torch.relu(self.last(tokens)), None


def kernel_features(
    quantities: FeatureInputs, constraints: Constraints | None, precision: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Form the features of users and the kernels of pairs of users.

    The kernels are the coherence c, c^2, -ln(1.001 - c), and |B_ij|^2 / (B_ii B_jj) of B = (I + Gamma / K)^-1, which
    combines all coherences of two users.

    Parameters
    ----------
    quantities
        Quantities of the drops.
    constraints
        Labels and constraints of the drops; None: no constraint binds.
    precision
        Type of the results.

    Returns
    -------
    users : Tensor
        ``precision`` (drops, users, USER_FEATURES).
    kernels : list of Tensor
        KERNELS times ``precision`` (drops, users, users), at most 1e-3 on the diagonal.
    """
    gains = quantities.gains.to(precision).unsqueeze(-1)
    count = gains.shape[1]
    others = 1 - torch.eye(count, dtype=precision, device=gains.device)
    inverse = quantities.inverse_diagonal.to(precision).unsqueeze(-1).clamp(min=_LEAST)
    coherence = quantities.coherence.to(precision) * others
    spread = quantities.inverse_power.to(precision) / (inverse * inverse.transpose(1, 2)).clamp(min=_LEAST) * others
    kernels = [coherence, coherence.square(), -torch.log(NEAREST - coherence), spread]
    interference = (quantities.effective_gains.to(precision) * others).sum(-1, keepdim=True) / count
    shared = 1 + gains / count
    around = 1 + (coherence @ gains) / count
    logs = torch.log(torch.cat([gains.clamp(min=_LEAST), shared, around, inverse, 1 + interference], -1))
    rate = quantities.rate.to(precision).unsqueeze(-1)
    level = logs[..., :1]
    mean = torch.cat([level, rate], -1).mean(1, keepdim=True).expand(-1, count, -1)
    sums = [kernel.sum(-1, keepdim=True) for kernel in kernels]
    largest = coherence.amax(-1, keepdim=True)
    features = [logs, rate, *sums, largest, mean, *constraint_features(level, constraints)]
    return torch.cat(features, -1) * feature_scale(USER_SCALE, precision, gains.device), kernels
