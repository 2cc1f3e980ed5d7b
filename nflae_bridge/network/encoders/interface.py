"""Define the interface between input encoders and the trunk."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from matlab_io.errors import NflaeError
from simulator.downlink.structure import Beams


@dataclass(frozen=True)
class UserInputs:
    """Hold a batch of drops, the input of an encoder, with users in canonical order.

    Attributes
    ----------
    channels
        complex64 (drops, users, antennas); None where an encoder that needs only Gamma is trained without them.
    gram
        Gamma, complex (drops, users, users); see `simulator.downlink.gram.normalised_gram`.
    alpha_c, min_rate
        real (drops,), as in `simulator.downlink.budget.LinkBudget`.
    near_field
        bool (drops, users), labels used instead of the network's own; None: its own.
    regularised
        Beams of regularised zero forcing, if they are computed already.
    """

    channels: Tensor | None
    gram: Tensor
    alpha_c: Tensor
    min_rate: Tensor
    near_field: Tensor | None = None
    regularised: Beams | None = None

    def channels_of(self, antennas: int) -> Tensor:
        """Return the channels for an encoder of one number of antennas.

        Parameters
        ----------
        antennas
            N of the encoder.

        Returns
        -------
        Tensor
            complex64 (drops, users, antennas).

        Raises
        ------
        NflaeError
            If the channels have another N, or are missing.
        """
        if self.channels is None or self.channels.shape[-1] != antennas:
            found = "none" if self.channels is None else str(self.channels.shape[-1])
            raise NflaeError(f"this model takes {antennas} antennas, got {found}; use a gram model instead")
        return self.channels


@dataclass(frozen=True)
class Encoding:
    """Hold the output of an encoder.

    Attributes
    ----------
    tokens
        float32 (drops, users, token width).
    attention_bias
        float32 (drops, heads, users, users), added to attention scores, or None.
    near_field_logit
        float32 (drops, users) where the encoder itself classifies; None: a head does.
    """

    tokens: Tensor
    attention_bias: Tensor | None = None
    near_field_logit: Tensor | None = None


class Encoder(nn.Module):
    """Define an input encoder, a map from UserInputs to Encoding.

    Attributes
    ----------
    token_width
        Width of the tokens.
    classifies
        Whether the Encoding has near-field logits; otherwise the network has a head for them.
    """

    token_width: int
    classifies: bool = False

    def near_field_logit(self, channels: Tensor) -> Tensor:
        """Compute near-field logits, float32 (drops, users), from channels, complex64 (drops, users, antennas).

        Raises
        ------
        TypeError
            If the encoder does not classify.
        """
        raise TypeError(f"{type(self).__name__} does not classify")

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch."""
        raise TypeError(f"{type(self).__name__} must define forward")
