"""Encode drops by Gamma = (P / sigma^2) H^H H, which holds all that a precoder needs.

The network's inputs are dimensionless and free of the users' phases, so one checkpoint serves every number of antennas,
carrier and CSI scale. Two further K x K inputs are results of regularised zero forcing, which the engine computes
anyway: (I + Gamma / K)^-1, whose entries combine all coherences of a user, and the effective gains of RZF's beams.
Near-field labels come first, from the wavefront, so that powers depend on the users that count under C3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoders.blocks import Block
from nflae_bridge.network.encoders.interface import Encoder, Encoding, UserInputs
from nflae_bridge.network.encoders.wavefront import WavefrontClassifier
from simulator.downlink.gram import squared_magnitude
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import Beams, structured_beams

USER_FEATURES = 16
PAIR_FEATURES = 10

_LEAST = 1e-12


@dataclass(frozen=True)
class GramMagnitudes:
    """Hold the magnitudes of Gamma, as real tensors in Gamma's precision.

    Attributes
    ----------
    gains
        ||h_k||^2 P / sigma^2, > 0, (drops, users).
    coherence
        |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 1 on the diagonal, (drops, users, users).
    """

    gains: Tensor
    coherence: Tensor

    @staticmethod
    def of(gram: Tensor) -> GramMagnitudes:
        """Compute the magnitudes of Gamma, complex (drops, users, users)."""
        gains = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-30)
        return GramMagnitudes(
            gains, (squared_magnitude(gram) / (gains.unsqueeze(-1) * gains.unsqueeze(-2))).clamp(max=1.0)
        )


@dataclass(frozen=True)
class FeatureInputs:
    """Hold the quantities that features of the gram encoder are made of, as real tensors in Gamma's precision.

    Attributes
    ----------
    gains, coherence
        As in `GramMagnitudes`.
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
        magnitudes = GramMagnitudes.of(gram)
        equal = torch.full_like(magnitudes.gains, 1 / gram.shape[-1])
        beams = structured_beams(gram, equal) if regularised is None else regularised
        rate = rates(sinr(beams.effective_gains, equal))
        inverse = beams.coefficients
        diagonal, power = inverse.diagonal(dim1=-2, dim2=-1).real, squared_magnitude(inverse)
        return FeatureInputs(magnitudes.gains, magnitudes.coherence, diagonal, power, beams.effective_gains, rate)


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


class InvariantEncoder(Encoder):
    """Define an encoder of Gamma, with near/far labels from the wavefronts; subclasses define `embed`.

    Parameters
    ----------
    width
        Width of the tokens.
    """

    classifies = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token_width = width
        self.classifier = WavefrontClassifier()

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
                raise ValueError("encoders of Gamma need channels or near-field labels")
            near = logit > 0
        tokens, bias = self.tokens(inputs, Constraints(near, inputs.alpha_c, inputs.min_rate))
        return Encoding(tokens, bias, logit)

    def tokens(self, inputs: UserInputs, constraints: Constraints) -> tuple[Tensor, Tensor | None]:
        """Encode drops whose labels are known.

        Parameters
        ----------
        inputs
            The drops.
        constraints
            Labels and constraints of the drops.

        Returns
        -------
        tokens : Tensor
            real (drops, users, token width).
        bias : Tensor or None
            real (drops, heads, users, users), added to attention scores.
        """
        raise TypeError(f"{type(self).__name__} must define tokens")


class GramEncoder(InvariantEncoder):
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

    def __init__(self, config: EncoderConfig, width: int, heads: int) -> None:
        super().__init__(width)
        self.users = nn.Linear(USER_FEATURES, width)
        self.pairs = nn.Sequential(nn.Linear(PAIR_FEATURES, config.edge_width), nn.GELU())
        self.surroundings = nn.Linear(2 * config.edge_width, width)
        self.bias = nn.Linear(config.edge_width, heads)
        self.blocks = nn.ModuleList([Block(width, 4 * width, heads) for _ in range(config.blocks)])

    def tokens(self, inputs: UserInputs, constraints: Constraints) -> tuple[Tensor, Tensor]:
        """Encode drops; see `InvariantEncoder.tokens`.

        Parameters
        ----------
        inputs, constraints
            As in `InvariantEncoder.tokens`.

        Returns
        -------
        tokens : Tensor
            real (drops, users, token width).
        bias : Tensor
            real (drops, heads, users, users), added to attention scores.
        """
        return self.embed(FeatureInputs.of(inputs.gram, inputs.regularised), constraints)

    def embed(self, quantities: FeatureInputs, constraints: Constraints | None) -> tuple[Tensor, Tensor]:
        """Encode drops in real arithmetic.

        Parameters
        ----------
        quantities
            Quantities of the drops.
        constraints
            Labels and constraints of the drops; None: no constraint binds.

        Returns
        -------
        tokens : Tensor
            real (drops, users, token width).
        bias : Tensor
            real (drops, heads, users, users), added to attention scores.
        """
        precision = self.users.weight.dtype
        users, pairs = gram_features(quantities, constraints, precision)
        edges = self.pairs(pairs)
        surroundings = torch.cat([edges.sum(-2) * 8**-0.5, edges.amax(-2)], -1)
        tokens = self.users(users) + self.surroundings(surroundings)
        bias = self.bias(edges).permute(0, 3, 1, 2).contiguous()
        for block in self.blocks:
            tokens = block(tokens, bias)
        return tokens, bias


def gram_features(
    quantities: FeatureInputs, constraints: Constraints | None, precision: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Form the features of users and of pairs of users.

    Every feature is invariant to a phase on a user's channel and moves with the users when they are permuted.
    Differences are formed in the precision of the quantities: 1 - coherence of near-parallel users has few digits.

    Parameters
    ----------
    quantities
        Quantities of the drops.
    constraints
        Labels and constraints of the drops; None: no constraint binds.
    precision
        Type of the features.

    Returns
    -------
    users : Tensor
        ``precision`` (drops, users, USER_FEATURES).
    pairs : Tensor
        ``precision`` (drops, users, users, PAIR_FEATURES).
    """
    gains = quantities.gains.to(precision).unsqueeze(-1)
    same = torch.eye(gains.shape[1], dtype=precision, device=gains.device)
    received = quantities.effective_gains.to(precision) / gains.shape[1]
    inverse = quantities.inverse_diagonal.to(precision).unsqueeze(-1)
    coherence = quantities.coherence.to(precision) * (1 - same)
    logs = torch.log(torch.cat([gains, inverse, 1 + coherence @ gains], -1).clamp(min=_LEAST))
    users = _user_features(logs, coherence, (received * (1 - same)).sum(-1, keepdim=True), quantities, constraints)
    return users, _pair_features(logs[..., :1], received, same, quantities, constraints)


def _user_features(
    logs: Tensor, coherence: Tensor, interference: Tensor, quantities: FeatureInputs, constraints: Constraints | None
) -> Tensor:
    """Form the features of users.

    ``logs``: of gains, of the diagonal of (I + Gamma / K)^-1, and of 1 + the gains of others weighted by coherence,
    (drops, users, 3). ``interference``: between RZF's beams, (drops, users, 1).
    """
    level, rate = logs[..., :1], quantities.rate.to(logs.dtype).unsqueeze(-1)
    relative = torch.cat([level, rate], -1)
    relative = relative - relative.mean(1, keepdim=True)
    features = [
        level,
        level - level.amax(1, keepdim=True),
        relative[..., :1],
        rate,
        relative[..., 1:],
        logs[..., 1:2],
        coherence.amax(-1, keepdim=True),
        coherence.sum(-1, keepdim=True),
        logs[..., 2:],
        torch.log(1 + interference),
        *constraint_features(level, constraints),
    ]
    return torch.cat(features, -1) * feature_scale(_USER_SCALE, logs.dtype, logs.device)


def constraint_features(level: Tensor, constraints: Constraints | None) -> list[Tensor]:
    """Return the features of the constraints: labels, their mean, alpha_c, R_min, whether there is one, and log K.

    Parameters
    ----------
    level
        Any feature, real (drops, users, 1).
    constraints
        Labels and constraints of the drops; None: no constraint binds.

    Returns
    -------
    list of Tensor
        Six features in total, real (drops, users, 1 or 5).
    """
    zero = level * 0
    # A sum, not the shape: it exports for any number of users.
    count = (zero + 1).sum(1, keepdim=True).log() + zero
    if constraints is None:
        return [zero + feature_scale(_UNCONSTRAINED, level.dtype, level.device), count]
    near = constraints.near_field.to(level.dtype).unsqueeze(-1)
    alpha_c, min_rate = (value.reshape(-1, 1, 1) for value in (constraints.alpha_c, constraints.min_rate))
    per_drop = (near.mean(1, keepdim=True), alpha_c, min_rate, min_rate > 0)
    return [near, *(value.to(level.dtype).expand_as(level) for value in per_drop), count]


def _pair_features(
    level: Tensor, received: Tensor, same: Tensor, quantities: FeatureInputs, constraints: Constraints | None
) -> Tensor:
    """Form the features of pairs of users.

    ``level``: logarithms of gains, (drops, users, 1). ``received``: F / K of RZF, (drops, users, users). ``same``: the
    identity, (users, users).
    """
    diagonal = quantities.inverse_diagonal.clamp(min=_LEAST)
    spread = quantities.inverse_power / (diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))
    parts = (quantities.coherence, 1 - quantities.coherence, spread)
    coherence, *_ = values = [part.to(level.dtype).unsqueeze(1) for part in parts]
    logs = [torch.log(value + 1e-4) for value in values]
    interference = torch.log(1 + received).unsqueeze(1)
    if constraints is None:
        alike = coherence * 0 + 1
    else:
        near = constraints.near_field
        alike = (near.unsqueeze(-1) == near.unsqueeze(-2)).to(level.dtype).unsqueeze(1)
    features = [
        coherence,
        coherence.sqrt(),
        *logs[:2],
        (level.unsqueeze(1) - level.transpose(1, 2).unsqueeze(1)).clamp(-4 / _DECADE, 4 / _DECADE),
        logs[2],
        interference,
        interference.transpose(2, 3),
        alike,
        same.expand_as(coherence),
    ]
    # Whole matrices are joined and moved to the end at once: numbers one by one take several times as long.
    return torch.cat(features, 1).permute(0, 2, 3, 1) * feature_scale(_PAIR_SCALE, level.dtype, level.device)


_DECADE = 1 / math.log(10)
_BIT = 1 / math.log(2)
_USER_SCALE = (
    *(_DECADE / 2, _DECADE, _DECADE, 1 / 4, 1, _DECADE, 1, 1 / 2, _DECADE / 2, 1 / 2),
    *(1, 1, 1, 1, 1, _BIT / 2),
)
_PAIR_SCALE = (1, 1, _DECADE / 2, -_DECADE / 2, _DECADE, _DECADE / 2, 1 / 2, 1 / 2, 1, 1)
_UNCONSTRAINED = (0, 0, 1, 0, 0)


@cache
def feature_scale(values: tuple[float, ...], precision: torch.dtype, device: torch.device) -> Tensor:
    """Return constants as a tensor, made once: a copy to a GPU could not be captured.

    Parameters
    ----------
    values
        The constants.
    precision, device
        Of the tensor.

    Returns
    -------
    Tensor
        ``precision`` (constants,).
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=precision, device=device)
