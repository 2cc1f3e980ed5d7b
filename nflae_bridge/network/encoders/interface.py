"""The interface between input encoders and the backbone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from matlab_io.errors import NflaeError
from simulator.downlink.structure import Beams


@dataclass(frozen=True)
class UserInputs:
    """A batch of drops as an encoder sees it, users in canonical order.

    channels: complex64 (drops, users, antennas); None if an encoder that needs only Gamma is trained without them.
    gram: Gamma, complex (drops, users, users), see `simulator.downlink.gram.normalised_gram`.
    alpha_c, min_rate: real (drops,), as in `simulator.downlink.budget.LinkBudget`.
    near_field: bool (drops, users), labels to go by instead of the network's own; None: its own.
    regularised: the beams of regularised zero forcing, if somebody has worked them out already.
    """

    channels: Tensor | None
    gram: Tensor
    alpha_c: Tensor
    min_rate: Tensor
    near_field: Tensor | None = None
    regularised: Beams | None = None

    def channels_of(self, antennas: int) -> Tensor:
        """The channels, for an encoder made for this N. Raises NflaeError if they have another, or are missing."""
        if self.channels is None or self.channels.shape[-1] != antennas:
            found = "none" if self.channels is None else str(self.channels.shape[-1])
            raise NflaeError(f"this model takes {antennas} antennas, got {found}; use a gram model instead")
        return self.channels


@dataclass(frozen=True)
class Encoding:
    """What an encoder hands to the backbone.

    tokens: float32 (drops, users, token width).
    attention_bias: float32 (drops, heads, users, users) added to attention scores, or None.
    near_field_logit: float32 (drops, users) where the encoder itself classifies, or None: a head does.
    """

    tokens: Tensor
    attention_bias: Tensor | None = None
    near_field_logit: Tensor | None = None


class Encoder(nn.Module):
    """An input encoder: ``token_width`` says how wide its tokens are; ``forward`` maps UserInputs to Encoding.

    classifies: its Encoding has near-field logits; otherwise the network has a head for them.
    """

    token_width: int
    classifies: bool = False

    def near_field_logit(self, channels: Tensor) -> Tensor:
        """Of an encoder that classifies: float32 (drops, users) for channels, complex64 (drops, users, antennas)."""
        raise TypeError(f"{type(self).__name__} does not classify")

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch."""
        raise TypeError(f"{type(self).__name__} must define forward")
