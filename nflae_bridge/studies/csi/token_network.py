"""Train the networks of published studies at a small size: linear embedding of tokens, GPT-2 blocks, linear output."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.trunks.backbone import backbone_of

Note = Callable[[str], None]
WIDTH, LAYERS, HEADS = 64, 3, 4
_WARM_UP = 50
_NOTE_EVERY = 100


def study_backbone(backbone: str) -> BackboneConfig:
    """Return the trunk of a study.

    Parameters
    ----------
    backbone
        Value of ``--backbone``: a folder with a pretrained language model, which is frozen but for its layer norms and
        positions; any other value gives small GPT-2 blocks with random weights, trained whole.

    Returns
    -------
    BackboneConfig
        Its configuration.
    """
    if Path(backbone).is_dir():
        return BackboneConfig(source=backbone, frozen=True, attention="causal")
    return BackboneConfig(width=WIDTH, layers=LAYERS, heads=HEADS)


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
    """

    def __init__(self, inputs: int, outputs: int, tokens: int, backbone: BackboneConfig) -> None:
        super().__init__()
        self.trunk = backbone_of(backbone, offline=True)
        width = self.trunk.width
        self.inputs, self.outputs = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))
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


def fit(
    network: nn.Module, loss: Callable[[torch.Generator], Tensor], steps: int, seed: int, note: Note, rate: float = 1e-3
) -> None:
    """Train a network by AdamW, with a warm-up and a cosine schedule, and leave it in evaluation mode.

    Parameters
    ----------
    network
        The network.
    loss
        Draws a batch with the given generator and returns its loss.
    steps
        Optimiser steps.
    seed
        Seed of the batches.
    note
        Receives the progress.
    rate
        Largest learning rate.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW([each for each in network.parameters() if each.requires_grad], rate)
    network.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / _WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        value = loss(generator)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if step % _NOTE_EVERY == 0:
            note(f"step {step} of {steps}, loss {float(value.detach()):.4g}")
    network.eval()


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
