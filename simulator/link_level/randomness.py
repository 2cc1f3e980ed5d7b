"""Random streams that depend on what they are for, and on nothing else: not on workers, order or scheme."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Purpose = Literal["drops", "csi", "symbols"]
_PURPOSES = ("drops", "csi", "symbols")


def generator_of(seed: int, purpose: Purpose, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose, told from others of its kind by ``numbers`` (>= 0). Each device has its streams."""
    words = np.random.SeedSequence([seed, _PURPOSES.index(purpose), *numbers]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(words[0]) >> 1)
