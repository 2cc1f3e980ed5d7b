"""Define the whole network: canonical order of users -> encoder -> embedding -> backbone -> heads -> given order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import INVARIANT, NetworkConfig
from nflae_bridge.network.encoders.cnn import CnnEncoder
from nflae_bridge.network.encoders.gram import GramEncoder
from nflae_bridge.network.encoders.interface import Encoder, UserInputs
from nflae_bridge.network.encoders.kernel import KernelEncoder
from nflae_bridge.network.encoders.raw import RawEncoder
from nflae_bridge.network.encoders.wavefront import mean_phase_step
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.backbone import NoBackbone, OpenBackbone, backbone_of


@dataclass(frozen=True)
class NetworkOutput:
    """Hold the outputs of the heads, float32 (drops, users).

    Attributes
    ----------
    near_field_logit
        Logit of the near-field score; None where neither channels nor a head give it.
    dual_power_fractions, power_fractions
        lambda / P and P_k / P, each summing to 1.
    """

    near_field_logit: Tensor | None
    dual_power_fractions: Tensor
    power_fractions: Tensor


class PrecodingNetwork(TaskNetwork):
    """Map a batch of drops to near-field scores and to the (lambda, p) that define precoders and powers.

    Parameters
    ----------
    config
        The network's configuration.
    offline
        Load a pretrained backbone from local files alone, without contact to the hub.

    Raises
    ------
    NflaeError
        If the encoder's kind is unknown, or the backbone cannot be loaded.
    """

    def __init__(self, config: NetworkConfig, offline: bool = False) -> None:
        super().__init__()
        self.config: NetworkConfig = config
        self.backbone = backbone_of(config.backbone, offline)
        # With attention between all users alike the order of users makes no difference.
        self.ordered = config.encoder.kind not in INVARIANT or not isinstance(self.backbone, OpenBackbone | NoBackbone)
        self.encoder: Encoder
        if config.encoder.kind == "raw":
            self.encoder = RawEncoder(config.encoder)
        elif config.encoder.kind == "cnn":
            self.encoder = CnnEncoder(config.encoder)
        elif config.encoder.kind == "gram":
            # In front of a given language model the encoder keeps a width of its own.
            width = config.backbone.width if config.backbone.source else self.backbone.width
            open_trunk = config.backbone.attention == "coherence"
            heads = config.backbone.heads if config.backbone.source and not open_trunk else self.backbone.heads
            self.encoder = GramEncoder(config.encoder, width, heads)
        elif config.encoder.kind == "kernel":
            self.encoder = KernelEncoder(config.encoder, self.backbone.width)
        else:
            raise NflaeError(f"unknown encoder {config.encoder.kind!r}: there are gram, kernel, raw and cnn")
        same = self.encoder.token_width == self.backbone.width
        self.embedding: nn.Module = nn.Identity() if same else nn.Linear(self.encoder.token_width, self.backbone.width)
        names = ["uplink", "power"] + ([] if self.encoder.classifies else ["near_field"])
        self.heads = nn.ModuleDict({name: _head(name, self.backbone.width, config.head_width) for name in names})

    def forward(self, inputs: UserInputs) -> NetworkOutput:
        """Run the network on users in any order; the output has the same order."""
        if self.ordered:
            order = canonical_order(inputs.gram, inputs.channels)
            inputs, back = _reorder(inputs, order), order.argsort(-1)
        encoding = self.encoder(inputs)
        logits = self.logits(encoding.tokens, encoding.attention_bias)
        if encoding.near_field_logit is not None:
            logits["near_field"] = encoding.near_field_logit
        if self.ordered:
            logits = {name: logit.gather(-1, back) for name, logit in logits.items()}
        return NetworkOutput(
            logits.get("near_field"), power_fractions_of(logits["uplink"]), power_fractions_of(logits["power"])
        )

    def logits(self, tokens: Tensor, attention_bias: Tensor | None) -> dict[str, Tensor]:
        """Run embedding, backbone and heads.

        Parameters
        ----------
        tokens, attention_bias
            As in `nflae_bridge.network.encoders.interface.Encoding`.

        Returns
        -------
        dict of str to Tensor
            Logits by head, real (drops, users).
        """
        hidden = self.backbone(self.embedding(tokens), attention_bias)
        return {name: head(hidden)[..., 0] for name, head in self.heads.items()}

    def near_field_logit(self, channels: Tensor) -> Tensor:
        """Compute logits of the near-field scores, float32 (drops, users), of a network whose encoder classifies."""
        logit: Tensor = self.encoder.near_field_logit(channels)
        return logit


def _head(name: str, width: int, hidden: int) -> nn.Module:
    last = nn.Linear(hidden or width, 1)
    if name in ("uplink", "power"):  # equal fractions at first: training starts from RZF
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last) if hidden else last


def canonical_order(gram: Tensor, channels: Tensor | None = None) -> Tensor:
    """Return the order of users for a causal backbone, by falling sum_j |Gamma_kj|^2.

    It depends on gains and coherences alone, so that neither the users' order nor their phases change it. Gains alone
    do not suffice: those of normalised channels are equal. Users alike to 1e-4 are ordered by their mean phase step.

    Parameters
    ----------
    gram
        Gamma, complex (drops, users, users).
    channels
        complex (drops, users, antennas), for the mean phase step; None: without it.

    Returns
    -------
    Tensor
        int64 (drops, users).
    """
    level = (torch.log(gram.abs().square().sum(-1).clamp(min=1e-300)) * 1e4).round()
    if channels is None:
        return torch.argsort(level, dim=-1, descending=True, stable=True)
    by_step = torch.argsort(mean_phase_step(channels), dim=-1, descending=True, stable=True)
    by_level = torch.argsort(level.gather(-1, by_step), dim=-1, descending=True, stable=True)
    return by_step.gather(-1, by_level)


def _reorder(inputs: UserInputs, order: Tensor) -> UserInputs:
    def users(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        index = order.reshape(*order.shape, *[1] * (value.ndim - 2)).expand(*order.shape, *value.shape[2:])
        return value.gather(1, index)

    rows = inputs.gram.gather(1, order.unsqueeze(-1).expand_as(inputs.gram))
    gram = rows.gather(2, order.unsqueeze(-2).expand_as(inputs.gram))
    return replace(inputs, channels=users(inputs.channels), gram=gram, near_field=users(inputs.near_field))


def power_fractions_of(logit: Tensor) -> Tensor:
    """Normalise sigmoids over users, in logarithms: a power fraction of 1e-12 does not underflow.

    Parameters
    ----------
    logit
        real (drops, users).

    Returns
    -------
    Tensor
        real (drops, users), summing to 1.
    """
    # log(sigmoid(x)); ONNX Runtime's sigmoid is 0 far below 0, its softplus is exact.
    return torch.softmax(-nn.functional.softplus(-logit), -1)
