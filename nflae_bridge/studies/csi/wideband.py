"""Draw wideband channels of moving users of 3GPP's clustered delay lines, labelled in sight or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from matlab_io.extras import require
from simulator.channels.sources.shared.frequency_response import subcarrier_offsets

SLOTS, ANTENNAS, SUBCARRIERS = 8, 16, 8
_CARRIER, _SPEED, _SLOT_SECONDS, _BANDWIDTH = 7e9, 10.0, 1e-3, 5e6
_IN_SIGHT = "DE"  # the profiles with a line of sight
_NOISE = 10 ** (-20 / 20)  # amplitude, 20 dB below the mean power


@dataclass(frozen=True)
class WidebandChannels:
    """Hold the channels of independent users.

    Parameters
    ----------
    noisy, clean
        complex64 (users, slots, antennas, subcarriers), mean power 1 without the noise, which is 20 dB lower.
    line_of_sight
        bool (users,): profile D or E.
    """

    noisy: Tensor
    clean: Tensor
    line_of_sight: Tensor


@lru_cache(maxsize=1)
def draw_wideband(users: int, seed: int) -> WidebandChannels:
    """Draw users of the profiles A to E alike, at 10 m/s and 7 GHz, 8 slots of 1 ms, 8 subcarriers over 5 MHz.

    Parameters
    ----------
    users
        Their number, a multiple of five.
    seed
        Equal seeds give equal channels.

    Returns
    -------
    WidebandChannels
        Channels in random order, 16 antennas in a line.
    """
    require("sionna", "wideband channels")
    from simulator.channels.sources.sionna import Motion, cdl_links

    generator = torch.Generator().manual_seed(seed)
    offsets, motion = subcarrier_offsets(SUBCARRIERS, _BANDWIDTH), Motion(SLOTS, _SLOT_SECONDS, _SPEED)
    each, parts = users // 5, []
    for index, profile in enumerate("ABCDE"):
        bearing = (2 * torch.rand(each, generator=generator) - 1) * math.pi / 3
        orientation = (2 * torch.rand(each, 3, generator=generator) - 1) * math.pi
        links = cdl_links(profile, bearing, orientation, ANTENNAS, seed + index, _CARRIER, offsets, motion)
        parts.append(links.reshape(each, SLOTS, SUBCARRIERS, ANTENNAS).transpose(2, 3))
    order = torch.randperm(5 * each, generator=generator)
    clean = torch.cat(parts)[order]
    clean = clean / clean.abs().square().mean((1, 2, 3), keepdim=True).sqrt()
    noise = torch.randn(clean.shape, dtype=torch.complex64, generator=generator)
    in_sight = torch.tensor([profile in _IN_SIGHT for profile in "ABCDE" for _ in range(each)])[order]
    return WidebandChannels(clean + _NOISE * noise, clean, in_sight)
