"""Encode a drop as an image, users by antennas, as the published CNN baseline does."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoders.interface import Encoder, Encoding, UserInputs

_CHANNELS = (2, 32, 64, 128, 224, 256)


class CnnEncoder(Encoder):
    """Map two planes of K x N, real and imaginary part, through 3 x 3 convolutions, each halving N, to tokens.

    With heads of 64 hidden units it has the 0.92 M parameters of the published CNN, whose layers are not listed.

    Parameters
    ----------
    config
        The encoder's configuration.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.antennas = config.antennas
        self.token_width = _CHANNELS[-1]
        layers: list[nn.Module] = [nn.BatchNorm2d(_CHANNELS[0])]
        for planes_in, planes_out in pairwise(_CHANNELS):
            layers += [
                nn.Conv2d(planes_in, planes_out, 3, stride=(1, 2), padding=1, bias=False),
                nn.BatchNorm2d(planes_out),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: UserInputs) -> Encoding:
        """Encode a batch.

        Raises
        ------
        NflaeError
            If the channels have another number of antennas than the encoder.
        """
        channels = inputs.channels_of(self.antennas)
        image = torch.stack([channels.real, channels.imag], 1).to(next(self.parameters()).dtype)
        return Encoding(self.layers(image).mean(-1).transpose(-1, -2))
