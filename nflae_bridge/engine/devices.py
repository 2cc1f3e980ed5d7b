"""Where to compute."""

from __future__ import annotations

import torch

from matlab_io.errors import NflaeError


def choose_device(name: str = "auto") -> torch.device:
    """``auto``: CUDA where there is one, else the CPU. Raises NflaeError for a device this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise NflaeError(f"no device is called {name!r}: try auto, cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise NflaeError(f"device {name!r} is not supported: try auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NflaeError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device
