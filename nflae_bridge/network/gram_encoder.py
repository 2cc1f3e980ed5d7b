"""The gram encoder: all that a precoder needs is in Gamma = (P / sigma^2) H^H H.

What it feeds the network is dimensionless and free of the users' phases, so one checkpoint serves every number of
antennas, carrier and CSI scale. Beside Gamma itself it uses two K x K quantities that the engine computes anyway
for regularised zero forcing: (I + Gamma / K)^-1, in which a user sees all its coherences at once, and the couplings
between RZF's beams. Near or far comes first, from the wavefront; the powers then know who counts under C3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nflae_bridge.network.blocks import Block
from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoder import Encoder, Encoding, UserInputs
from nflae_bridge.network.wavefront import WavefrontClassifier
from simulator.link import coupling, rates, sinr
from simulator.structure import structured_coefficients

USER_FEATURES = 16
PAIR_FEATURES = 10


class GramEncoder(Encoder):
    """Tokens from each user's gain, prospects and surroundings; attention biased by the users' coherences."""

    classifies = True

    def __init__(self, config: EncoderConfig, width: int, heads: int) -> None:
        super().__init__()
        self.token_width = width
        self.classifier = WavefrontClassifier()
        self.users = nn.Linear(USER_FEATURES, width)
        self.pairs = nn.Sequential(nn.Linear(PAIR_FEATURES, config.edge_width), nn.GELU())
        self.surroundings = nn.Linear(2 * config.edge_width, width)
        self.bias = nn.Linear(config.edge_width, heads)
        self.blocks = nn.ModuleList([Block(width, 4 * width, heads) for _ in range(config.blocks)])

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch; the classifier's labels are used unless ``inputs.near_field`` gives others."""
        logit = None if inputs.channels is None else self.classifier(inputs.channels)
        near = inputs.near_field
        if near is None:
            if logit is None:
                raise ValueError("the gram encoder needs channels or near-field labels")
            near = logit > 0
        users, pairs = gram_features(inputs.gram, near, inputs.alpha_c, inputs.min_rate)
        # Rounded only now: 1 - coherence of two users side by side has few digits to lose.
        users, pairs = users.to(self.users.weight.dtype), pairs.to(self.users.weight.dtype)
        edges = self.pairs(pairs)
        around = torch.cat([edges.sum(-2) / math.sqrt(8.0), edges.amax(-2)], -1)
        tokens = self.users(users) + self.surroundings(around)
        bias = self.bias(edges).permute(0, 3, 1, 2)
        for block in self.blocks:
            tokens = block(tokens, bias)
        return Encoding(tokens, bias, logit)


def gram_features(gram: Tensor, near_field: Tensor, alpha_c: Tensor, min_rate: Tensor) -> tuple[Tensor, Tensor]:
    """What the network sees of a drop: real (drops, users, USER_FEATURES) and (.., users, users, PAIR_FEATURES).

    gram: Gamma, complex (drops, users, users); near_field: bool (drops, users); alpha_c, min_rate: real (drops,).
    Every feature is invariant to a phase on a user's channel and moves with the users when they are permuted.
    """
    count = gram.shape[-1]
    own = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
    coherence = (gram.abs().square() / (own.unsqueeze(-1) * own.unsqueeze(-2))).clamp(max=1.0)
    equal = torch.full_like(own, 1 / count)
    inverse = structured_coefficients(gram, equal)
    couplings = coupling(gram, inverse)
    rate = rates(sinr(couplings, equal))
    alone = inverse.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-12)
    spread = inverse.abs().square() / (alone.unsqueeze(-1) * alone.unsqueeze(-2))
    couplings = couplings / count
    others = 1 - torch.eye(count, dtype=own.dtype, device=own.device)

    def decibel(value: Tensor) -> Tensor:
        return torch.log10(value.clamp(min=1e-12))

    def whole(value: Tensor) -> Tensor:
        return value.unsqueeze(-1).expand_as(own)

    near = near_field.to(own.dtype)
    level = decibel(own)
    crowd = coherence * others
    users = torch.stack(
        [
            level / 2,
            level - level.amax(-1, keepdim=True),
            level - level.mean(-1, keepdim=True),
            rate / 4,
            rate - rate.mean(-1, keepdim=True),
            decibel(alone),
            crowd.amax(-1),
            crowd.sum(-1) / 2,
            decibel(1 + (crowd * own.unsqueeze(-2)).sum(-1)) / 2,
            (couplings * others).sum(-1).log1p() / 2,
            near,
            whole(near.mean(-1)),
            whole(alpha_c.to(own.dtype)),
            whole(min_rate.to(own.dtype)),
            whole((min_rate > 0).to(own.dtype)),
            torch.full_like(own, math.log2(count) / 2),
        ],
        -1,
    )
    pairs = torch.stack(
        [
            coherence,
            coherence.sqrt(),
            decibel(coherence + 1e-4) / 2,
            -decibel(1 - coherence + 1e-4) / 2,
            (level.unsqueeze(-1) - level.unsqueeze(-2)).clamp(-4, 4),
            decibel(spread + 1e-4) / 2,
            couplings.log1p() / 2,
            couplings.transpose(-1, -2).log1p() / 2,
            (near.unsqueeze(-1) == near.unsqueeze(-2)).to(own.dtype),
            (1 - others).expand_as(coherence),
        ],
        -1,
    )
    return users, pairs
