"""Map tokens of complex numbers to tokens: a linear embedding, GPT-2's blocks and a linear output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.trunks.backbone import backbone_of

_LONGEST = 1e4  # period of the slowest sine, in tokens over 2 pi


class TokenNetwork(nn.Module):
    """Map tokens to tokens.

    Parameters
    ----------
    inputs, outputs
        Numbers per token.
    tokens
        Number of tokens.
    backbone
        The trunk.
    offline
        Load a pretrained backbone from local files alone.
    """

    def __init__(self, inputs: int, outputs: int, tokens: int, backbone: BackboneConfig, offline: bool = True) -> None:
        super().__init__()
        self.trunk = backbone_of(backbone, offline)
        width = self.trunk.width
        self.inputs, self.outputs = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.place = nn.Parameter(sinusoidal_places(tokens, width))
        self.masked = nn.Parameter(0.02 * torch.randn(width))
        nn.init.normal_(self.outputs.weight, std=1e-2)

    def hidden(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the hidden states, (rows, tokens, width).

        Parameters
        ----------
        tokens
            float32 (rows, tokens, inputs).
        mask
            Tokens to hide, bool (rows, tokens).
        """
        states = self.inputs(tokens)
        if mask is not None:
            states = torch.where(mask.unsqueeze(-1), self.masked, states)
        result: Tensor = self.trunk(states + self.place, None)
        return result

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output tokens, (rows, tokens, outputs).

        Parameters
        ----------
        tokens, mask
            As in `hidden`.
        """
        result: Tensor = self.outputs(self.hidden(tokens, mask))
        return result


def sinusoidal_places(tokens: int, width: int) -> Tensor:
    """Compute the initial position embedding, sines and cosines of geometrically spaced periods.

    Their amplitude is that of the embedded tokens; an embedding of small random numbers is learned slowly, and tokens
    that are averaged afterwards then differ by nothing but their content.

    Parameters
    ----------
    tokens, width
        Number of places, and of their coordinates.

    Returns
    -------
    Tensor
        float32 (tokens, width).

    References
    ----------
    A. Vaswani et al., "Attention Is All You Need", Advances in Neural Information Processing Systems, 2017.
    """
    sines = (width + 1) // 2
    rates = _LONGEST ** (-torch.arange(sines, dtype=torch.float64) / sines)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width].float()


def real_parts(values: Tensor) -> Tensor:
    """Return complex numbers as pairs of real ones.

    Parameters
    ----------
    values
        complex (..., n).

    Returns
    -------
    Tensor
        real (..., 2 n), real and imaginary parts interleaved.
    """
    return torch.view_as_real(values.resolve_conj()).flatten(-2)


def complex_of(parts: Tensor) -> Tensor:
    """Return pairs of real numbers as complex ones, the inverse of `real_parts`.

    Parameters
    ----------
    parts
        real (..., 2 n).

    Returns
    -------
    Tensor
        complex (..., n).
    """
    return torch.view_as_complex(parts.reshape(*parts.shape[:-1], -1, 2).contiguous())
