"""Encode drops by Gamma = (P / sigma^2) H^H H, which holds all that a precoder needs.

The network's inputs are dimensionless and free of the users' phases, so one checkpoint serves every number of antennas,
carrier and CSI scale. Beside Gamma two K x K quantities serve that the engine computes anyway for regularised zero
forcing: (I + Gamma / K)^-1, whose entries combine all coherences of a user, and the effective gains of RZF's beams.
Near-field labels come first, from the wavefront, so that powers depend on the users that count under C3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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

_LEAST = 1e-12


@dataclass(frozen=True)
class FeatureInputs:
    """Hold the quantities that features are made of, as real tensors in Gamma's precision.

    Attributes
    ----------
    gains
        ||h_k||^2 P / sigma^2, > 0, (drops, users).
    coherence
        |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 1 on the diagonal, (drops, users, users).
    inverse_diagonal
        ((I + Gamma / K)^-1)_kk, (drops, users).
    inverse_power
        |((I + Gamma / K)^-1)_ij|^2, (drops, users, users).
    effective_gains
        F of regularised zero forcing, (drops, users, users).
    rate
        Rates of regularised zero forcing at equal powers, bps/Hz, (drops, users).
    """

    gains: Tensor
    coherence: Tensor
    inverse_diagonal: Tensor
    inverse_power: Tensor
    effective_gains: Tensor
    rate: Tensor

    @staticmethod
    def of(gram: Tensor, regularised: Beams | None = None) -> FeatureInputs:
        """Compute the quantities from Gamma.

        Parameters
        ----------
        gram
            Gamma, complex (drops, users, users).
        regularised
            Beams of regularised zero forcing, if they are computed already.

        Returns
        -------
        FeatureInputs
        """
        gains = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
        equal = torch.full_like(gains, 1 / gram.shape[-1])
        beams = structured_beams(gram, equal) if regularised is None else regularised
        coherence = (squared_magnitude(gram) / (gains.unsqueeze(-1) * gains.unsqueeze(-2))).clamp(max=1.0)
        rate = rates(sinr(beams.effective_gains, equal))
        inverse = beams.coefficients
        diagonal = inverse.diagonal(dim1=-2, dim2=-1).real
        return FeatureInputs(gains, coherence, diagonal, squared_magnitude(inverse), beams.effective_gains, rate)


@dataclass(frozen=True)
class Constraints:
    """Hold the constraints of the drops whose features are formed.

    Attributes
    ----------
    near_field
        bool (drops, users), users that count under C3.
    alpha_c, min_rate
        real (drops,), as in `simulator.downlink.budget.LinkBudget`.
    """

    near_field: Tensor
    alpha_c: Tensor
    min_rate: Tensor


class GramEncoder(Encoder):
    """Make tokens of each user's gain, prospects and surroundings, and attention biases of the users' coherences.

    Parameters
    ----------
    config
        The encoder's configuration.
    width
        Width of the tokens.
    heads
        Attention heads that receive a bias.
    """

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
        """Classify users from their wavefronts alone; see `nflae_bridge.network.encoders.wavefront`."""
        logit: Tensor = self.classifier(channels)
        return logit

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch; the classifier's labels are used unless ``inputs.near_field`` gives others.

        Raises
        ------
        ValueError
            If both channels and labels are missing.
        """
        logit = None if inputs.channels is None else self.near_field_logit(inputs.channels)
        near = inputs.near_field
        if near is None:
            if logit is None:
                raise ValueError("the gram encoder needs channels or near-field labels")
            near = logit > 0
        quantities = FeatureInputs.of(inputs.gram, inputs.regularised)
        tokens, bias = self.embed(quantities, Constraints(near, inputs.alpha_c, inputs.min_rate))
        return Encoding(tokens, bias, logit)

    def embed(self, quantities: FeatureInputs, constraints: Constraints) -> tuple[Tensor, Tensor]:
        """Encode drops whose labels are known, in real arithmetic.

        Parameters
        ----------
        quantities
            Quantities of the drops.
        constraints
            Labels and constraints of the drops.

        Returns
        -------
        tokens : Tensor
            real (drops, users, token width).
        bias : Tensor
            real (drops, heads, users, users), added to attention scores.
        """
        precision = self.users.weight.dtype
        users, pairs = (
            user_features(quantities, constraints, precision),
            pair_features(quantities, constraints, precision),
        )
        edges = self.pairs(pairs)
        surroundings = torch.cat([edges.sum(-2) / math.sqrt(8.0), edges.amax(-2)], -1)
        tokens = self.users(users) + self.surroundings(surroundings)
        bias = self.bias(edges).permute(0, 3, 1, 2).contiguous()
        for block in self.blocks:
            tokens = block(tokens, bias)
        return tokens, bias


def user_features(quantities: FeatureInputs, constraints: Constraints, precision: torch.dtype) -> Tensor:
    """Form the features of each user.

    Every feature is invariant to a phase on a user's channel and moves with the users when they are permuted.

    Parameters
    ----------
    quantities
        Quantities of the drops.
    constraints
        Labels and constraints of the drops.
    precision
        Type of the features.

    Returns
    -------
    Tensor
        ``precision`` (drops, users, USER_FEATURES).
    """
    count = quantities.gains.shape[-1]
    gains, rate = quantities.gains.to(precision), quantities.rate.to(precision)
    others = 1 - torch.eye(count, dtype=precision, device=gains.device)
    coherence = quantities.coherence.to(precision) * others
    inverse = quantities.inverse_diagonal.clamp(min=_LEAST).to(precision)
    interference = ((quantities.effective_gains / count).to(precision) * others).sum(-1)
    near = constraints.near_field.to(precision)
    level = _decades(gains)

    def per_drop(value: Tensor) -> Tensor:
        return value.to(precision).unsqueeze(-1).expand_as(gains)

    return torch.stack(
        [
            level / 2,
            level - level.amax(-1, keepdim=True),
            level - level.mean(-1, keepdim=True),
            rate / 4,
            rate - rate.mean(-1, keepdim=True),
            _decades(inverse),
            coherence.amax(-1),
            coherence.sum(-1) / 2,
            _decades(1 + (coherence * gains.unsqueeze(-2)).sum(-1)) / 2,
            interference.log1p() / 2,
            near,
            per_drop(near.mean(-1)),
            per_drop(constraints.alpha_c),
            per_drop(constraints.min_rate),
            per_drop(constraints.min_rate > 0),
            # A sum, not the shape: it exports for any number of users.
            torch.ones_like(gains).sum(-1, keepdim=True).log2().expand_as(gains) / 2,
        ],
        -1,
    )


def pair_features(quantities: FeatureInputs, constraints: Constraints, precision: torch.dtype) -> Tensor:
    """Form the features of each pair of users.

    Differences are formed in the precision of the quantities: 1 - coherence of near-parallel users has few digits.

    Parameters
    ----------
    quantities
        Quantities of the drops.
    constraints
        Labels and constraints of the drops.
    precision
        Type of the features.

    Returns
    -------
    Tensor
        ``precision`` (drops, users, users, PAIR_FEATURES).
    """
    count = quantities.gains.shape[-1]
    coherence, incoherence = quantities.coherence.to(precision), (1 - quantities.coherence).to(precision)
    same = torch.eye(count, dtype=precision, device=coherence.device)
    diagonal = quantities.inverse_diagonal.clamp(min=_LEAST)
    spread = (quantities.inverse_power / (diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))).to(precision)
    interference = (quantities.effective_gains / count).to(precision).log1p() / 2
    level, near = _decades(quantities.gains.to(precision)), constraints.near_field
    return torch.stack(
        [
            coherence,
            coherence.sqrt(),
            _decades(coherence + 1e-4) / 2,
            -_decades(incoherence + 1e-4) / 2,
            (level.unsqueeze(-1) - level.unsqueeze(-2)).clamp(-4, 4),
            _decades(spread + 1e-4) / 2,
            interference,
            interference.transpose(-1, -2),
            (near.unsqueeze(-1) == near.unsqueeze(-2)).to(precision),
            same.expand_as(coherence),
        ],
        -1,
    )


def _decades(value: Tensor) -> Tensor:
    return torch.log10(value.clamp(min=_LEAST))
