"""Encode real and imaginary parts of every antenna's channel, as published, for one array size."""

from __future__ import annotations

import torch
from torch import nn

from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoders.blocks import Block
from nflae_bridge.network.encoders.interface import Encoder, Encoding, UserInputs


class RawEncoder(Encoder):
    """Map X in R^(K x 2N) through batch norm and bidirectional transformer blocks of width and MLP width 2N.

    Parameters
    ----------
    config
        The encoder's configuration.
    heads
        Attention heads of the blocks.
    """

    def __init__(self, config: EncoderConfig, heads: int = 8) -> None:
        super().__init__()
        self.antennas = config.antennas
        self.token_width = 2 * config.antennas
        self.norm = nn.BatchNorm1d(self.token_width)
        self.blocks = nn.ModuleList([Block(self.token_width, self.token_width, heads) for _ in range(config.blocks)])

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch.

        Raises
        ------
        NflaeError
            If the channels have another number of antennas than the encoder.
        """
        channels = inputs.channels_of(self.antennas)
        parts = torch.cat([channels.real, channels.imag], -1).to(self.norm.weight.dtype)
        tokens = self.norm(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])
        for block in self.blocks:
            tokens = block(tokens)
        return Encoding(tokens)
