"""Train the networks of published studies at a small size."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nflae_bridge.network.config import BackboneConfig

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
