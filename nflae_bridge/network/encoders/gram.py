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
from nflae_bridge.network.encoders.interface import Encoder, Encoding, UserInputs
from nflae_bridge.network.encoders.wavefront import WavefrontClassifier
from simulator.downlink.gram import squared_magnitude
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import Beams, structured_beams

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

    def near_field_logit(self, channels: Tensor) -> Tensor:
        """From the wavefront alone; see `network.wavefront`."""
        logit: Tensor = self.classifier(channels)
        return logit

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch; the classifier's labels are used unless ``inputs.near_field`` gives others."""
        logit = None if inputs.channels is None else self.near_field_logit(inputs.channels)
        near = inputs.near_field
        if near is None:
            if logit is None:
                raise ValueError("the gram encoder needs channels or near-field labels")
            near = logit > 0
        users, pairs = gram_features(
            inputs.gram, near, inputs.alpha_c, inputs.min_rate, inputs.regularised, self.users.weight.dtype
        )
        edges = self.pairs(pairs)
        around = torch.cat([edges.sum(-2) / math.sqrt(8.0), edges.amax(-2)], -1)
        tokens = self.users(users) + self.surroundings(around)
        bias = self.bias(edges).permute(0, 3, 1, 2).contiguous()
        for block in self.blocks:
            tokens = block(tokens, bias)
        return Encoding(tokens, bias, logit)


def gram_features(
    gram: Tensor,
    near_field: Tensor,
    alpha_c: Tensor,
    min_rate: Tensor,
    regularised: Beams | None = None,
    precision: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """What the network sees of a drop: real (drops, users, USER_FEATURES) and (.., users, users, PAIR_FEATURES).

    gram: Gamma, complex (drops, users, users); near_field: bool (drops, users); alpha_c, min_rate: real (drops,).
    regularised: the beams of regularised zero forcing, if they are known. precision: of the features; differences are
    formed in Gamma's, since 1 - coherence of two users side by side has few digits to lose.
    Every feature is invariant to a phase on a user's channel and moves with the users when they are permuted.
    """
    count = gram.shape[-1]
    own = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
    equal = torch.full_like(own, 1 / count)
    if regularised is None:
        regularised = structured_beams(gram, equal)
    coherence = (squared_magnitude(gram) / (own.unsqueeze(-1) * own.unsqueeze(-2))).clamp(max=1.0)
    incoherence = (1 - coherence).to(precision)
    coherence = coherence.to(precision)
    rate = rates(sinr(regularised.effective_gains, equal)).to(precision)
    inverse = regularised.coefficients
    alone = inverse.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-12)
    spread = (squared_magnitude(inverse) / (alone.unsqueeze(-1) * alone.unsqueeze(-2))).to(precision)
    effective_gains = (regularised.effective_gains / count).to(precision)
    alone, own = alone.to(precision), own.to(precision)
    others = 1 - torch.eye(count, dtype=precision, device=own.device)

    def decibel(value: Tensor) -> Tensor:
        return torch.log10(value.clamp(min=1e-12))

    def whole(value: Tensor) -> Tensor:
        return value.to(precision).unsqueeze(-1).expand_as(own)

    near = near_field.to(precision)
    level = decibel(own)
    crowd = coherence * others
    louder = effective_gains.log1p() / 2
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
            (effective_gains * others).sum(-1).log1p() / 2,
            near,
            whole(near.mean(-1)),
            whole(alpha_c),
            whole(min_rate),
            whole(min_rate > 0),
            torch.full_like(own, math.log2(count) / 2),
        ],
        -1,
    )
    pairs = torch.stack(
        [
            coherence,
            coherence.sqrt(),
            decibel(coherence + 1e-4) / 2,
            -decibel(incoherence + 1e-4) / 2,
            (level.unsqueeze(-1) - level.unsqueeze(-2)).clamp(-4, 4),
            decibel(spread + 1e-4) / 2,
            louder,
            louder.transpose(-1, -2),
            (near_field.unsqueeze(-1) == near_field.unsqueeze(-2)).to(precision),
            (1 - others).expand_as(coherence),
        ],
        -1,
    )
    return users, pairs
