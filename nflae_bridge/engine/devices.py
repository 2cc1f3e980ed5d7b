"""Choose the device, the number of drops computed on it at once, and the threads of the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    import torch

_BLOCK_BYTES = 32 << 20
_GPU_BLOCKS = 16  # blocks of a CPU in one of a GPU, whose memory is large against them
_MOST_DROPS = 4096
_DEVICE = re.compile(r"auto|cpu(:0)?|cuda(:(0|[1-9]\d?))?")
# Bytes of the network's intermediate results per pair of users: features and messages, a few hundred floats.
_BYTES_PER_PAIR = 1024


def check_device_name(name: str) -> None:
    """Check the name of a device, without PyTorch; the machine may lack the device.

    Parameters
    ----------
    name
        As for `choose_device`.

    Raises
    ------
    NflaeError
        If no device has such a name.
    """
    if not _DEVICE.fullmatch(name):
        raise NflaeError(f"no device is called {name!r:.60}: try auto, cpu, cuda or cuda:0")


def choose_device(name: str = "auto") -> torch.device:
    """Choose the device to compute on.

    Parameters
    ----------
    name
        ``cpu``, ``cuda``, ``cuda:i``, or ``auto``: CUDA where available, else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    NflaeError
        If there is no device of that name, or the machine lacks it.
    """
    check_device_name(name)
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NflaeError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def drops_per_block(users: int, antennas: int, history: int = 1, device_type: str = "cpu") -> int:
    """Return the drops whose channels and intermediate results take some 32 MiB, on a GPU 512 MiB.

    Parameters
    ----------
    users, antennas
        Size of a drop.
    history
        Drops whose channels are in memory for each.
    device_type
        ``cpu`` or ``cuda``.

    Returns
    -------
    int
        1 ... 4096.
    """
    drops = _BLOCK_BYTES // (8 * users * antennas * history + _BYTES_PER_PAIR * users**2)
    return min(_MOST_DROPS, max(1, drops) * (_GPU_BLOCKS if device_type == "cuda" else 1))


@contextmanager
def single_thread() -> Iterator[None]:
    """Run PyTorch's operations on one CPU thread; sequences of many small ones take a multiple of the time on several.

    Yields
    ------
    None
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
