"""Copy blocks of channels to a GPU by way of page-locked memory, on a stream of their own, while others are computed.

PyTorch keeps the page-locked memory that is freed, and gives a piece out again only after the copy from it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.files.validation import Channels

__all__ = ["Upload", "upload", "upload_stream"]


@dataclass(frozen=True)
class Upload:
    """Hold channels that are on their way to a device.

    Parameters
    ----------
    channels : Tensor
        Complex64, (drops, users, antennas).
    copied : torch.cuda.Event, optional
        End of the copy; None if it has ended.
    """

    channels: Tensor
    copied: torch.cuda.Event | None = None

    def arrived(self) -> Tensor:
        """Return the channels; what the current stream does with them follows the copy."""
        if self.copied is not None:
            current = torch.cuda.current_stream(self.channels.device)
            current.wait_event(self.copied)
            self.channels.record_stream(current)
        return self.channels


@cache
def upload_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the stream for the copies to a GPU, the same for every file; None for a CPU.

    Parameters
    ----------
    device : torch.device
        Device.

    Returns
    -------
    torch.cuda.Stream or None
    """
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def upload(channels: Channels, device: torch.device, stream: torch.cuda.Stream | None) -> Upload:
    """Begin to copy channels to a device.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas).
    device : torch.device
        Device.
    stream : torch.cuda.Stream or None
        Result of `upload_stream`; without one the channels are used where they are.

    Returns
    -------
    Upload
    """
    if stream is None:
        return Upload(torch.from_numpy(channels).to(device))
    locked = torch.empty(channels.shape, dtype=torch.complex64, pin_memory=True)
    np.copyto(locked.numpy(), channels)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        there = locked.to(device, non_blocking=True)
        copied.record()
    return Upload(there, copied)
