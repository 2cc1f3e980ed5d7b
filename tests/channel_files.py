"""Channels to put into files, and result files read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
from click.testing import Result

Run = Callable[..., Result]
WriteMat = Callable[..., Path]


def random_channels(drops: int = 6, users: int = 3, antennas: int = 16, seed: int = 0) -> npt.NDArray[np.complex64]:
    """Rayleigh channels of unit mean norm, (drops, users, antennas)."""
    rng = np.random.default_rng(seed)
    shape = (drops, users, antennas)
    values = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2 * antennas)
    return values.astype(np.complex64)


def load(path: Path) -> dict[str, Any]:
    """A result file's variables as MATLAB shows them, its struct as a dictionary."""
    content: dict[str, Any] = scipy.io.loadmat(path, simplify_cells=False)
    info = content["nflae_info"][0, 0]
    fields = {name: info[name] for name in info.dtype.names if info[name].size}
    content["nflae_info"] = {name: field.item() if field.size == 1 else field for name, field in fields.items()}
    return content
