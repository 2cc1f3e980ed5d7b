"""Channels from a generator we did not write: Sionna PHY's 3GPP TR 38.901 models (PyPI ``sionna-no-rt``, 2.x).

Two families, both at one frequency (the sum over paths, which is the channel at the carrier), single-antenna users,
half-wavelength base-station arrays with the standard's element pattern:

- ``umi``: urban microcell, users dropped uniformly in a sector with the standard's line-of-sight and indoor
  probabilities, path loss and shadow fading; a panel of four rows.
- ``cdl``: one independent clustered-delay-line realisation a user, its profile drawn from A to E, departure angles
  turned by a random bearing within the sector's 120 degrees and the user turned at random; a horizontal line array.

Sionna's coefficients are those of y = H x (``convention="direct"``): a row of H is h_k^H. Here they are conjugated
once, in `to_hermitian`, and nowhere else.

Gains: within a drop the users' ||h||^2 lie at most 20 dB apart and average to 1. SNR = P / sigma^2 is then the mean
over users of what a user alone, with all the power and a matched beam, would receive.

Sionna draws from generators of its own, all seeded from one number: the same seed gives the same drops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

CARRIER = 7e9  # Hz
SPREAD_DB = 20.0  # largest spread of the users' gains within a drop
_LINKS = 64  # links generated at once: some 200 MB at 128 antennas
_DELAY_SPREAD = 100e-9  # s; without effect at the carrier, where only the sum over paths counts

ChannelSource = Callable[[int, int, int, int], Tensor]


def umi_channels(drops: int, users: int, antennas: int, seed: int) -> Tensor:
    """3GPP urban microcell, LoS, NLoS and indoor users as the standard draws them.

    Returns complex64 (drops, users, antennas), gains as the module says: path loss, shadow and small-scale fading,
    limited to 10 dB around the drop's median user (real drops span 60 dB; no scheduler would serve them together).
    """
    from sionna.phy.channel import gen_single_sector_topology
    from sionna.phy.channel.tr38901 import UMi

    with _sionna(seed):
        model = UMi(CARRIER, "low", _user(), _base_station(antennas, rows=4), "downlink", device="cpu")
        parts = []
        for size in _blocks(drops, max(1, _LINKS // users)):
            model.reset_topology()  # the last block may be shorter
            model.set_topology(*gen_single_sector_topology(size, users, "umi", device="cpu"))
            # coefficients: drops, users, 1, 1, antennas, paths, 1
            parts.append(to_hermitian(model(1, 1e6)[0]))
    channels = torch.cat(parts)
    return normalise_gains(channels, limited_db(gains_db(channels)))


def cdl_channels(drops: int, users: int, antennas: int, seed: int) -> Tensor:
    """3GPP CDL-A to E, a profile, bearing and orientation drawn for each user.

    Returns complex64 (drops, users, antennas), gains uniform in dB over 20 dB.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    links = drops * users
    profile = torch.randint(5, (links,), generator=generator)
    bearing = uniform(-math.pi / 3, math.pi / 3, links)
    orientation = uniform(-math.pi, math.pi, links, 3)
    channels = torch.zeros(links, antennas, dtype=torch.complex64)
    for index, name in enumerate("ABCDE"):
        chosen = profile == index
        channels[chosen] = cdl_links(name, bearing[chosen], orientation[chosen], antennas, seed + 1 + index)
    channels = channels.reshape(drops, users, antennas)
    return normalise_gains(channels, uniform(-SPREAD_DB / 2, SPREAD_DB / 2, drops, users))


def cdl_links(profile: str, bearing: Tensor, orientation: Tensor, antennas: int, seed: int) -> Tensor:
    """Independent realisations of one CDL profile to a horizontal line array turned by ``bearing`` from the x-axis.

    bearing: (links,), rad; orientation: the users', (links, 3), rad. Returns complex64 (links, antennas), h in our
    convention with Sionna's own gains.
    """
    from sionna.phy.channel.tr38901 import CDL

    turned = torch.stack([bearing, torch.zeros_like(bearing), torch.zeros_like(bearing)], -1)
    parts = [torch.zeros(0, antennas, dtype=torch.complex64)]
    with _sionna(seed):
        base_station, user, start = _base_station(antennas, rows=1), _user(), 0
        for size in _blocks(len(bearing), _LINKS):
            here = slice(start, start + size)
            model = CDL(profile, _DELAY_SPREAD, CARRIER, user, base_station, "downlink",
                        ut_orientation=orientation[here], bs_orientation=turned[here], device="cpu")  # fmt: skip
            parts.append(to_hermitian(model(size, 1, 1e6)[0]).squeeze(1))
            start += size
    return torch.cat(parts)


def to_hermitian(coefficients: Tensor) -> Tensor:
    """Sionna's downlink path coefficients of y = H x as our h, where y = h^H x: summed over paths, conjugated once.

    coefficients: complex (drops, users, 1, 1, antennas, paths, 1). Returns complex64 (drops, users, antennas).
    """
    rows = coefficients.sum(-2)[:, :, 0, 0, :, 0]
    return rows.conj().resolve_conj().to(torch.complex64)


def gains_db(channels: Tensor) -> Tensor:
    """||h||^2 in dB; channels: complex (..., antennas); returns (...)."""
    return 20 * torch.log10(torch.linalg.vector_norm(channels, dim=-1))


def limited_db(gains: Tensor, spread_db: float = SPREAD_DB) -> Tensor:
    """Gains (drops, users), dB, clipped to ``spread_db`` / 2 on either side of the drop's median user."""
    middle = gains.median(-1, keepdim=True).values
    return middle + (gains - middle).clamp(-spread_db / 2, spread_db / 2)


def normalise_gains(channels: Tensor, wanted_db: Tensor) -> Tensor:
    """Give users these gains up to a common factor a drop, chosen so that the drop's mean ||h||^2 is 1.

    channels: complex64 (drops, users, antennas); wanted_db: (drops, users), dB.
    """
    power = 10 ** ((wanted_db - wanted_db.amax(-1, keepdim=True)).double() / 10)
    power = power / power.mean(-1, keepdim=True)
    norm = torch.linalg.vector_norm(channels, dim=-1, keepdim=True, dtype=torch.complex128)
    scaled: Tensor = (channels.to(torch.complex128) * (power.sqrt().unsqueeze(-1) / norm)).to(torch.complex64)
    return scaled


SOURCES: dict[str, ChannelSource] = {"UMi": umi_channels, "CDL": cdl_channels}


def _base_station(antennas: int, rows: int) -> Any:
    from sionna.phy.channel.tr38901 import PanelArray

    return PanelArray(rows, antennas // rows, "single", "V", "38.901", CARRIER, device="cpu")


def _user() -> Any:
    from sionna.phy.channel.tr38901 import PanelArray

    return PanelArray(1, 1, "single", "V", "omni", CARRIER, device="cpu")


@contextmanager
def _sionna(seed: int) -> Iterator[None]:
    """Sionna on the CPU with all its generators seeded; torch's global one is left as it was."""
    from sionna.phy import config

    device = config.device
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        config.device, config.seed = "cpu", seed
        try:
            yield
        finally:
            config.device = device


def _blocks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
