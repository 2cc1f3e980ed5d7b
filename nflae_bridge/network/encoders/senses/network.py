"""Define the network over several inputs: encoders, fusion of those that are present, a causal trunk, and heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nflae_bridge.network.encoders.senses.config import SensesConfig
from nflae_bridge.network.encoders.senses.modalities import encoder_of
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.backbone import backbone_of
from nflae_bridge.network.trunks.tokens import sinusoidal_places

__all__ = ["SensesNetwork"]

_HIDDEN_SCORE = -1e4  # attention to later tokens
_SHARPNESS = 4.0  # of persistence at the start


class SensesNetwork(TaskNetwork):
    """Map windows of samples of several inputs to scores and numbers.

    The token of a past sample is the sum over its inputs, each encoded and normalised, or a learned vector where it is
    absent. The tokens of the samples ahead are learned queries. A token sees the earlier ones only.

    Parameters
    ----------
    config
        Configuration.
    offline
        Load a pretrained backbone from local files alone.
    """

    def __init__(self, config: SensesConfig, offline: bool = True) -> None:
        super().__init__()
        self.config = config
        self.trunk = backbone_of(config.backbone, offline)
        width = self.trunk.width
        self.encoders = nn.ModuleList([encoder_of(each, width) for each in config.inputs])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in config.inputs])
        self.absent = nn.Parameter(0.02 * torch.randn(len(config.inputs), width))
        self.query = nn.Parameter(0.02 * torch.randn(config.ahead, width))
        self.place = nn.Parameter(sinusoidal_places(config.past + config.ahead, width))
        self.drop = nn.Dropout(config.dropout)
        outputs = {each.kind: each.outputs for each in config.heads}
        self.heads = nn.ModuleDict(
            {kind: nn.Linear(width, outputs[kind]) for kind in ("forecast", "classify", "regress") if kind in outputs}
        )
        if "reconstruct" in outputs:
            self.heads["reconstruct"] = nn.ModuleList(
                [nn.Linear(width, each.shape[0]) for each in config.inputs if each.encoder == "vector"]
            )
        if "align" in outputs:
            self.heads["align"] = nn.ModuleList(
                [nn.Linear(config.past * width, outputs["align"]) for _ in config.inputs]
            )
        if config.persistence:
            self.persistence = nn.Parameter(torch.full((config.ahead, 1), _SHARPNESS))

    def tokens(self, values: Sequence[Tensor], present: Tensor) -> Tensor:
        """Encode the inputs.

        Parameters
        ----------
        values
            Values of each input, float32 (rows, past, ...), finite where absent too.
        present
            bool (rows, past, inputs).

        Returns
        -------
        Tensor
            float32 (rows, past, inputs, width).
        """
        rows, past = present.shape[:2]
        encoded = [
            norm(encoder(each.flatten(0, 1))).view(rows, past, -1)
            for encoder, norm, each in zip(self.encoders, self.norms, values, strict=True)
        ]
        return torch.where(present.unsqueeze(-1), torch.stack(encoded, 2), self.absent)

    def states(self, values: Sequence[Tensor], present: Tensor) -> Tensor:
        """Run the trunk over past samples and queries.

        Parameters
        ----------
        values, present
            As in `tokens`.

        Returns
        -------
        Tensor
            float32 (rows, past + ahead, width).
        """
        fused = self.tokens(values, present).sum(2)
        tokens = torch.cat([fused, self.query.expand(len(fused), -1, -1)], 1) + self.place
        length = tokens.shape[1]
        later = torch.full((length, length), _HIDDEN_SCORE, device=tokens.device).triu(1)
        result: Tensor = self.trunk(self.drop(tokens), later.expand(len(tokens), self.trunk.heads, -1, -1))
        return self.drop(result)  # type: ignore[no-any-return]

    def forward(self, values: Sequence[Tensor], present: Tensor) -> dict[str, Tensor]:
        """Compute the outputs of the heads but ``reconstruct`` and ``align``.

        Parameters
        ----------
        values, present
            As in `tokens`.

        Returns
        -------
        dict of str to Tensor
            By kind: ``forecast`` and ``regress`` (rows, ahead, outputs), ``classify`` (rows, outputs).
        """
        states = self.states(values, present)
        past = self.config.past
        found = {kind: self.heads[kind](states[:, past:]) for kind in ("forecast", "regress") if kind in self.heads}
        if "classify" in self.heads:
            found["classify"] = self.heads["classify"](states[:, past - 1])
        if self.config.persistence:
            last = torch.zeros_like(values[0][:, 0])
            for step in range(past):
                last = torch.where(present[:, step, :1], values[0][:, step], last)
            found["forecast"] = found["forecast"] + self.persistence * last.unsqueeze(1)
        return found

    def reconstruct(self, values: Sequence[Tensor], present: Tensor) -> list[Tensor]:
        """Reconstruct the vectors of all samples from those that are present.

        Parameters
        ----------
        values, present
            As in `tokens`.

        Returns
        -------
        list of Tensor
            float32 (rows, past, values) for each input that is a vector, in order.
        """
        states = self.states(values, present)[:, : self.config.past]
        heads = self.heads["reconstruct"]
        assert isinstance(heads, nn.ModuleList)
        return [head(states) for head in heads]

    def directions(self, values: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute a direction per input and window, from the input's own tokens alone.

        Parameters
        ----------
        values, present
            As in `tokens`.

        Returns
        -------
        Tensor
            float32 (inputs, rows, coordinates), of norm 1.
        """
        tokens = self.tokens(values, present)
        heads = self.heads["align"]
        assert isinstance(heads, nn.ModuleList)
        found = [head(tokens[:, :, index].flatten(1)) for index, head in enumerate(heads)]
        return normalize(torch.stack(found), dim=-1)
