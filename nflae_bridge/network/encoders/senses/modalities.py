"""Encode the samples of one input: vectors, pictures, point sets, and features of a vision model."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nflae_bridge.network.encoders.senses.config import InputConfig

__all__ = ["encoder_of"]

_CHANNELS = (8, 16, 32)


class _VectorEncoder(nn.Module):
    """Encode vectors by a perceptron."""

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__()
        (size,) = config.shape
        self.layers = nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))
        self.centre, self.spread = config.centre, config.spread

    def forward(self, values: Tensor) -> Tensor:
        """Encode samples, (samples, values) to (samples, width)."""
        if self.centre:
            values = (values - values.new_tensor(self.centre)) / values.new_tensor(self.spread)
        result: Tensor = self.layers(values)
        return result


class _PictureEncoder(nn.Module):
    """Encode pictures by three convolutions of stride 2 and a linear map."""

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__()
        channels, *size = config.shape
        layers: list[nn.Module] = []
        for outputs in _CHANNELS:
            layers += [nn.Conv2d(channels, outputs, 3, 2, 1), nn.GELU()]
            channels, size = outputs, [-(-each // 2) for each in size]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(size), width))

    def forward(self, values: Tensor) -> Tensor:
        """Encode samples, (samples, channels, height, width of the picture) to (samples, width)."""
        result: Tensor = self.layers(values)
        return result


class _PointsEncoder(nn.Module):
    """Encode sets of points by a perceptron per point, the largest output over the points, and a linear map."""

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__()
        hidden = width // 2
        self.each = nn.Sequential(nn.Linear(config.shape[-1], hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.joined = nn.Linear(hidden, width)

    def forward(self, values: Tensor) -> Tensor:
        """Encode samples, (samples, points, values per point) to (samples, width); points of zeros are absent."""
        absent = (values == 0).all(-1, keepdim=True)
        result: Tensor = self.joined(self.each(values).masked_fill(absent, 0).amax(-2))
        return result


class _FeatureEncoder(nn.Module):
    """Encode features of a vision model, whose scales differ, by a normalisation and a linear map."""

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__()
        (size,) = config.shape
        self.layers = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))

    def forward(self, values: Tensor) -> Tensor:
        """Encode samples, (samples, features) to (samples, width)."""
        result: Tensor = self.layers(values)
        return result


_ENCODERS = {
    "vector": _VectorEncoder,
    "picture": _PictureEncoder,
    "points": _PointsEncoder,
    "vision": _FeatureEncoder,
}


def encoder_of(config: InputConfig, width: int) -> nn.Module:
    """Build the encoder of an input.

    Parameters
    ----------
    config
        The input.
    width
        Width of the tokens.

    Returns
    -------
    nn.Module
        Map from float32 (samples, *shape) to (samples, width).
    """
    return _ENCODERS[config.encoder](config, width)
