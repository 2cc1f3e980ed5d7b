"""Channels from a generator we did not write: Sionna PHY's 3GPP TR 38.901 models (PyPI ``sionna-no-rt``, 2.x).

Two families, single-antenna users, half-wavelength base-station arrays with the standard's element pattern:

- ``umi``, ``uma``, ``rma``: urban micro-, urban macro- and rural macrocell, users dropped uniformly in a sector with
  the standard's line-of-sight and indoor probabilities, path loss and shadow fading; a panel of four rows.
- ``cdl``: one independent clustered-delay-line realisation a user, its profile drawn from A to E, departure angles
  turned by a random bearing within the sector's 120 degrees and the user turned at random; a horizontal line array.

Sionna's coefficients are those of y = H x (``convention="direct"``): a row of H is h_k^H. Here they are conjugated
once, in `to_hermitian`, and nowhere else.

Gains: within a drop the users' ||h||^2 lie at most 20 dB apart and average to 1 (over the subcarriers, too). SNR =
P / sigma^2 is then the mean over users of what a user alone, with all the power and a matched beam, would receive.

Sionna draws from generators of its own, all seeded from one number: the same seed gives the same drops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from simulator.channels.sources.registry import ChannelSet, Request, register
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets

CARRIER = 7e9  # Hz, unless asked otherwise
SPREAD_DB = 20.0  # largest spread of the users' gains within a drop
_LINKS = 64  # links generated at once: some 200 MB at 128 antennas
_ROWS = 4  # of the cells' panels
_DELAY_SPREAD = 100e-9  # s, of the CDL profiles
_TAKES = ("drops", "users", "antennas", "carrier", "bandwidth", "subcarriers")
_HIGHEST_GHZ = {"umi": 100.0, "uma": 100.0, "rma": 30.0}  # TR 38.901, table 7.4.1-1; the lowest is 0.5


@register("umi", _TAKES)
def umi(request: Request) -> ChannelSet:
    """3GPP urban microcell."""
    return _cell("umi", request)


@register("uma", _TAKES)
def uma(request: Request) -> ChannelSet:
    """3GPP urban macrocell."""
    return _cell("uma", request)


@register("rma", _TAKES)
def rma(request: Request) -> ChannelSet:
    """3GPP rural macrocell."""
    return _cell("rma", request)


@register("cdl", _TAKES)
def cdl(request: Request) -> ChannelSet:
    """3GPP clustered delay lines."""
    require("sionna", "source cdl")
    drops, users, antennas = request.size()
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    carrier = request.carrier or CARRIER
    return _drawn(cdl_channels(drops, users, antennas, request.seed, carrier, offsets), carrier)


def _cell(name: str, request: Request) -> ChannelSet:
    require("sionna", f"source {name}")
    drops, users, antennas = request.size()
    carrier = request.carrier or CARRIER
    if antennas % _ROWS:
        raise NflaeError(f"source {name} has a panel of {_ROWS} rows: antennas has to be a multiple, not {antennas}")
    if not 0.5 <= carrier / 1e9 <= _HIGHEST_GHZ[name]:
        raise NflaeError(
            f"source {name} is defined from 0.5 to {_HIGHEST_GHZ[name]:g} GHz, not at {carrier / 1e9:g} GHz"
        )
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    return _drawn(cell_channels(name, drops, users, antennas, request.seed, carrier, offsets), carrier)


def _drawn(channels: Tensor, carrier: float) -> ChannelSet:
    """channels: complex64 (drops, users, subcarriers, antennas); a drop's subcarriers follow one another."""
    drops, users, subcarriers, antennas = channels.shape
    flat = channels.swapaxes(1, 2).reshape(drops * subcarriers, users, antennas).numpy()
    known = {"carrier_hz": carrier, "subcarriers": subcarriers, "noise_power": 0.01}
    return ChannelSet(len(flat), users, antennas, iter([flat]), known)


def cell_channels(
    name: str, drops: int, users: int, antennas: int, seed: int, carrier: float, offsets: Tensor
) -> Tensor:
    """A cell with LoS, NLoS and indoor users as the standard draws them.

    name: ``umi``, ``uma`` or ``rma``; carrier: Hz; offsets: the subcarriers' from it, (subcarriers,), Hz. Returns
    complex64 (drops, users, subcarriers, antennas), gains as the module says: path loss, shadow and small-scale
    fading, limited to 10 dB around the drop's median user (real drops span 60 dB; no scheduler would serve them
    together).
    """
    from sionna.phy.channel import gen_single_sector_topology
    from sionna.phy.channel.tr38901 import RMa, UMa, UMi

    with _sionna(seed):
        ends = (_user(carrier), _base_station(antennas, _ROWS, carrier), "downlink")
        if name == "rma":
            model = RMa(carrier, *ends, device="cpu")
        else:
            model = {"umi": UMi, "uma": UMa}[name](carrier, "low", *ends, device="cpu")
        parts = []
        for size in _blocks(drops, max(1, _LINKS // users)):
            model.reset_topology()  # the last block may be shorter
            model.set_topology(*gen_single_sector_topology(size, users, name, device="cpu"))
            coefficients, delays = model(1, 1e6)
            parts.append(to_hermitian(coefficients, delays, offsets))
    channels = torch.cat(parts)
    return normalise_gains(channels, limited_db(gains_db(channels)))


def cdl_channels(drops: int, users: int, antennas: int, seed: int, carrier: float, offsets: Tensor) -> Tensor:
    """CDL-A to E, a profile, bearing and orientation drawn for each user.

    Arguments as `cell_channels`. Returns complex64 (drops, users, subcarriers, antennas), gains uniform in dB over
    20 dB.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    links = drops * users
    profile = torch.randint(5, (links,), generator=generator)
    bearing = uniform(-math.pi / 3, math.pi / 3, links)
    orientation = uniform(-math.pi, math.pi, links, 3)
    channels = torch.zeros(links, len(offsets), antennas, dtype=torch.complex64)
    for index, name in enumerate("ABCDE"):
        chosen = profile == index
        turned = (bearing[chosen], orientation[chosen])
        channels[chosen] = cdl_links(name, *turned, antennas, seed + 1 + index, carrier, offsets)
    channels = channels.reshape(drops, users, len(offsets), antennas)
    return normalise_gains(channels, uniform(-SPREAD_DB / 2, SPREAD_DB / 2, drops, users))


def cdl_links(
    profile: str, bearing: Tensor, orientation: Tensor, antennas: int, seed: int, carrier: float, offsets: Tensor
) -> Tensor:
    """Independent realisations of one CDL profile to a horizontal line array turned by ``bearing`` from the x-axis.

    bearing: (links,), rad; orientation: the users', (links, 3), rad. Returns complex64 (links, subcarriers,
    antennas), h in our convention with Sionna's own gains.
    """
    from sionna.phy.channel.tr38901 import CDL

    turned = torch.stack([bearing, torch.zeros_like(bearing), torch.zeros_like(bearing)], -1)
    parts = [torch.zeros(0, len(offsets), antennas, dtype=torch.complex64)]
    with _sionna(seed):
        base_station, user, start = _base_station(antennas, 1, carrier), _user(carrier), 0
        for size in _blocks(len(bearing), _LINKS):
            here = slice(start, start + size)
            model = CDL(profile, _DELAY_SPREAD, carrier, user, base_station, "downlink",
                        ut_orientation=orientation[here], bs_orientation=turned[here], device="cpu")  # fmt: skip
            coefficients, delays = model(size, 1, 1e6)
            parts.append(to_hermitian(coefficients, delays, offsets).squeeze(1))
            start += size
    return torch.cat(parts)


def to_hermitian(coefficients: Tensor, delays: Tensor, offsets: Tensor) -> Tensor:
    """Sionna's downlink paths of y = H x as our h, where y = h^H x: the response at each frequency, conjugated once.

    coefficients: complex (drops, users, 1, 1, antennas, paths, 1); delays: (drops, users, 1, paths), s; offsets:
    (subcarriers,), Hz. Returns complex64 (drops, users, subcarriers, antennas).
    """
    rows = frequency_response(coefficients[:, :, 0, 0, :, :, 0], delays[:, :, 0, None, :], offsets)
    return rows.swapaxes(-1, -2).conj().resolve_conj().to(torch.complex64)


def gains_db(channels: Tensor) -> Tensor:
    """||h||^2, the mean over subcarriers, in dB; channels: complex (..., subcarriers, antennas); returns (...)."""
    norm = torch.linalg.vector_norm(channels.flatten(-2), dim=-1)
    return 20 * torch.log10(norm / math.sqrt(channels.shape[-2]))


def limited_db(gains: Tensor, spread_db: float = SPREAD_DB) -> Tensor:
    """Gains (drops, users), dB, clipped to ``spread_db`` / 2 on either side of the drop's median user."""
    middle = gains.median(-1, keepdim=True).values
    return middle + (gains - middle).clamp(-spread_db / 2, spread_db / 2)


def normalise_gains(channels: Tensor, wanted_db: Tensor) -> Tensor:
    """Give users these gains up to a common factor a drop, chosen so that the drop's mean ||h||^2 is 1.

    channels: complex64 (drops, users, subcarriers, antennas); wanted_db: (drops, users), dB.
    """
    power = 10 ** ((wanted_db - wanted_db.amax(-1, keepdim=True)).double() / 10)
    power = power / power.mean(-1, keepdim=True) * channels.shape[-2]
    norm = torch.linalg.vector_norm(channels.flatten(-2), dim=-1, dtype=torch.complex128)
    scale = (power.sqrt() / norm)[..., None, None]
    scaled: Tensor = (channels.to(torch.complex128) * scale).to(torch.complex64)
    return scaled


def _base_station(antennas: int, rows: int, carrier: float) -> Any:
    from sionna.phy.channel.tr38901 import PanelArray

    return PanelArray(rows, antennas // rows, "single", "V", "38.901", carrier, device="cpu")


def _user(carrier: float) -> Any:
    from sionna.phy.channel.tr38901 import PanelArray

    return PanelArray(1, 1, "single", "V", "omni", carrier, device="cpu")


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
