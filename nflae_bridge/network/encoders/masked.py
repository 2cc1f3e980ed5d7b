"""Reconstruct masked parts of a channel, and embed channels by the hidden states of the network that learned to.

A channel of N antennas becomes ceil(N / 16) tokens of 16 adjacent antennas, in the manner of the Large Wireless Model.
Its scale and common phase are removed first: mean |h_n|^2 = 1, and the strongest beam of the array has phase 0.

References
----------
Alikhani, Charan, Alkhateeb, "Large Wireless Model (LWM): A Foundation Model for Wireless Channels", arXiv:2411.08872.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.backbone import backbone_of
from nflae_bridge.network.trunks.tokens import sinusoidal_places


@dataclass(frozen=True)
class MaskConfig:
    """Configure the network.

    Parameters
    ----------
    patch
        Antennas per token.
    tokens
        Largest number of tokens.
    backbone
        The trunk.
    """

    patch: int = 16
    tokens: int = 16
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(width=64, layers=3, heads=4))


class MaskedChannelNetwork(TaskNetwork):
    """Map the visible tokens of a channel to all of them.

    Parameters
    ----------
    config
        Configuration.
    offline
        Load a pretrained backbone from local files alone.
    """

    def __init__(self, config: MaskConfig, offline: bool = False) -> None:
        super().__init__()
        self.config: MaskConfig = config
        self.trunk = backbone_of(config.backbone, offline)
        width = self.trunk.width
        self.inputs = nn.Linear(2 * config.patch, width)
        self.place = nn.Parameter(sinusoidal_places(config.tokens, width))
        self.masked = nn.Parameter(0.02 * torch.randn(width))
        self.outputs = nn.Linear(width, 2 * config.patch)

    def tokens_of(self, channels: Tensor) -> Tensor:
        """Return channels as tokens.

        Parameters
        ----------
        channels
            complex64 (rows, antennas).

        Returns
        -------
        Tensor
            Real and imaginary parts, float32 (rows, tokens, 2 x patch), zero beyond the last antenna.

        Raises
        ------
        NflaeError
            For more antennas than the network has tokens for.
        """
        antennas, patch = channels.shape[-1], self.config.patch
        if antennas > patch * self.config.tokens:
            raise NflaeError(
                f"the network embeds channels of up to {patch * self.config.tokens} antennas, not {antennas};"
                " train one with more tokens"
            )
        padded = nn.functional.pad(canonical_channels(channels), (0, -antennas % patch))
        return torch.view_as_real(padded.reshape(len(channels), -1, patch)).flatten(-2)

    def hidden(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the hidden states.

        Parameters
        ----------
        tokens
            From `tokens_of`.
        mask
            Tokens to hide, bool (rows, tokens); None hides none.

        Returns
        -------
        Tensor
            float32 (rows, tokens, width).
        """
        states = self.inputs(tokens)
        if mask is not None:
            states = torch.where(mask.unsqueeze(-1), self.masked, states)
        result: Tensor = self.trunk(states + self.place[: tokens.shape[1]], None)
        return result

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Reconstruct tokens, of which some are hidden.

        Parameters
        ----------
        tokens, mask
            As in `hidden`.

        Returns
        -------
        Tensor
            All tokens, of the shape of ``tokens``.
        """
        result: Tensor = self.outputs(self.hidden(tokens, mask))
        return result

    def embed(self, channels: Tensor) -> Tensor:
        """Embed channels; their scale and common phase do not matter.

        Parameters
        ----------
        channels
            complex64 (..., antennas).

        Returns
        -------
        Tensor
            Mean and standard deviation of the hidden states over the tokens, float32 (..., 2 x width).
        """
        states = self.hidden(self.tokens_of(channels.reshape(-1, channels.shape[-1])))
        features = torch.cat([states.mean(1), states.std(1, correction=0)], -1)
        return features.reshape(*channels.shape[:-1], -1)


def canonical_channels(channels: Tensor) -> Tensor:
    """Remove the scale and the common phase of channels.

    Parameters
    ----------
    channels
        complex64 (rows, antennas).

    Returns
    -------
    Tensor
        complex64, with mean |h_n|^2 = 1 and a real positive strongest DFT coefficient; zero channels stay zero.
    """
    largest = channels.abs().amax(-1, keepdim=True)
    scaled = channels / largest.clamp(min=torch.finfo(torch.float32).tiny)
    scaled = scaled / scaled.abs().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
    spectrum = torch.fft.fft(scaled)
    strongest = spectrum.gather(-1, spectrum.abs().argmax(-1, keepdim=True))
    turned: Tensor = scaled * (strongest.conj() / strongest.abs().clamp(min=1e-6))
    return turned
