"""Code a channel in few bits and decode it by two networks over tokens of adjacent beams, trained end to end.

References
----------
Guo, Cui, Wen, Jin, "Prompt-Enabled Large AI Models for CSI Feedback", arXiv:2501.10629.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.masked import canonical_channels
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.tokens import TokenNetwork, complex_of, real_parts


@dataclass(frozen=True)
class FeedbackConfig:
    """Configure the codec: ``tokens`` x ``numbers`` x log2(``levels``) bits for the direction of a channel.

    Attributes
    ----------
    antennas : int
        N, a multiple of ``tokens``; a line.
    tokens : int
        Tokens of adjacent beams.
    numbers : int
        Numbers fed back per token.
    levels : int
        Levels of each number.
    prompted : bool
        The decoder is given the mean magnitude of every beam at the site.
    backbone : BackboneConfig
        Trunk of encoder and decoder, one each.
    """

    antennas: int = 64
    tokens: int = 8
    numbers: int = 4
    levels: int = 4
    prompted: bool = False
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(width=64, layers=3, heads=4))

    @property
    def bits(self) -> int:
        """Bits per user and report."""
        return self.tokens * self.numbers * int(math.log2(self.levels))


class FeedbackCodec(TaskNetwork):
    """Map a channel to the numbers fed back, and these to a channel.

    Parameters
    ----------
    config : FeedbackConfig
        Configuration.
    offline : bool
        Load a pretrained backbone from local files alone.
    """

    def __init__(self, config: FeedbackConfig, offline: bool = False) -> None:
        super().__init__()
        self.config: FeedbackConfig = config
        beams, sent, tokens = config.antennas // config.tokens, config.numbers, config.tokens
        self.encoder = TokenNetwork(2 * beams, sent, tokens, config.backbone, offline)
        self.decoder = TokenNetwork(sent + beams, 2 * beams, tokens, config.backbone, offline)

    def code(self, channels: Tensor) -> Tensor:
        """Return the numbers fed back, before rounding.

        Parameters
        ----------
        channels : Tensor
            complex64 (rows, antennas); scale and common phase do not matter.

        Returns
        -------
        Tensor
            float32 (rows, tokens, numbers), 0 to levels - 1.
        """
        beams = torch.fft.fft(canonical_channels(channels), norm="ortho")
        output: Tensor = self.encoder(real_parts(beams.reshape(len(beams), self.config.tokens, -1)))
        return (self.config.levels - 1) * torch.sigmoid(output)

    def forward(self, channels: Tensor, magnitude: Tensor) -> Tensor:
        """Code, round and decode; gradients pass the rounding unchanged.

        Parameters
        ----------
        channels : Tensor
            complex64 (rows, antennas).
        magnitude : Tensor
            Prompt of each row, float32 (rows, antennas); ignored by a codec without prompt.

        Returns
        -------
        Tensor
            complex64 (rows, antennas), ||h|| = 1.
        """
        exact = self.code(channels)
        sent = exact + (exact.round() - exact).detach()
        prompt = magnitude if self.config.prompted else torch.zeros_like(magnitude)
        tokens = torch.cat([sent, prompt.reshape(len(prompt), self.config.tokens, -1)], -1)
        decoded: Tensor = torch.fft.ifft(complex_of(self.decoder(tokens)).flatten(1), norm="ortho")
        unit: Tensor = decoded / torch.linalg.vector_norm(decoded, dim=-1, keepdim=True).clamp(min=1e-9)
        return unit
