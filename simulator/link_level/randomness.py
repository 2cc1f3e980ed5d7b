"""Derive random streams from seed, purpose and index only, independent of workers, order and scheme."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Purpose = Literal["drops", "csi", "symbols"]
_PURPOSES = ("drops", "csi", "symbols")


def generator_of(seed: int, purpose: Purpose, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the random generator of one purpose.

    Parameters
    ----------
    seed
        Seed of the simulation.
    purpose
        Quantity that is drawn.
    *numbers
        Indices, >= 0, that distinguish streams of the same purpose.
    device
        Device of the generator; each device has its own streams.

    Returns
    -------
    torch.Generator
        Generator, equal for equal arguments.
    """
    words = np.random.SeedSequence([seed, _PURPOSES.index(purpose), *numbers]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(words[0]) >> 1)
