"""Draw channels of 3GPP TR 38.901 with Sionna PHY (PyPI ``sionna-no-rt``, 2.x).

Two families, with single-antenna users and half-wavelength base-station arrays of the standard's element pattern:

- ``umi``, ``uma``, ``rma``: urban micro-, urban macro- and rural macrocell, users dropped uniformly in a sector with
  the standard's line-of-sight and indoor probabilities, path loss and shadow fading; a panel of four rows.
- ``cdl``: one independent clustered-delay-line realisation per user, with a profile drawn from A to E, departure angles
  rotated by a random bearing within the 120 degrees of the sector, and a random orientation of the user; a horizontal
  line array.

Sionna's coefficients are those of y = H x (``convention="direct"``): a row of H is h_k^H. They are conjugated once, in
`to_hermitian`.

Gains: within a drop the users' ||h||^2 differ by at most 20 dB and average to 1 (over subcarriers, too). SNR =
P / sigma^2 is then the mean over users of the SNR of a user served alone with full power and a matched beam.

Sionna's random generators are all seeded from one number: equal seeds give equal drops.

References
----------
3GPP TR 38.901, "Study on channel model for frequencies from 0.5 to 100 GHz".
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

CARRIER = 7e9  # Hz, by default
SPREAD_DB = 20.0  # largest spread of the users' gains within a drop
_LINKS = 64  # links generated at a time: some 200 MB at 128 antennas
_ROWS = 4  # of the cells' panels
_DELAY_SPREAD = 100e-9  # s, of the CDL profiles
_OPTIONS = ("drops", "users", "antennas", "carrier", "bandwidth", "subcarriers")
_HIGHEST_GHZ = {"umi": 100.0, "uma": 100.0, "rma": 30.0}  # TR 38.901, table 7.4.1-1; the lowest is 0.5


@register("umi", _OPTIONS)
def umi(request: Request) -> ChannelSet:
    """Draw channels of the 3GPP urban microcell.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels and carrier frequency.
    """
    return _cell("umi", request)


@register("uma", _OPTIONS)
def uma(request: Request) -> ChannelSet:
    """Draw channels of the 3GPP urban macrocell.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels and carrier frequency.
    """
    return _cell("uma", request)


@register("rma", _OPTIONS)
def rma(request: Request) -> ChannelSet:
    """Draw channels of the 3GPP rural macrocell.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels and carrier frequency.
    """
    return _cell("rma", request)


@register("cdl", _OPTIONS)
def cdl(request: Request) -> ChannelSet:
    """Draw channels of the 3GPP clustered delay lines.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels and carrier frequency.
    """
    require("sionna", "source cdl")
    drops, users, antennas = request.size()
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    carrier = request.carrier or CARRIER
    return _channel_set(cdl_channels(drops, users, antennas, request.seed, carrier, offsets), carrier)


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
    return _channel_set(cell_channels(name, drops, users, antennas, request.seed, carrier, offsets), carrier)


def _channel_set(channels: Tensor, carrier: float) -> ChannelSet:
    """Return channels (drops, users, subcarriers, antennas) as a set with each drop's subcarriers in sequence."""
    drops, users, subcarriers, antennas = channels.shape
    flat = channels.swapaxes(1, 2).reshape(drops * subcarriers, users, antennas).numpy()
    metadata = {"carrier_hz": carrier, "subcarriers": subcarriers, "noise_power": 0.01}
    return ChannelSet(len(flat), users, antennas, iter([flat]), metadata)


def cell_channels(
    name: str, drops: int, users: int, antennas: int, seed: int, carrier: float, offsets: Tensor
) -> Tensor:
    """Draw the channels of a cell with LoS, NLoS and indoor users by the standard's probabilities.

    Parameters
    ----------
    name
        ``umi``, ``uma`` or ``rma``.
    drops, users, antennas
        Their numbers.
    seed
        Seed of all generators.
    carrier
        Hz.
    offsets
        Subcarrier frequencies relative to the carrier, (subcarriers,), Hz.

    Returns
    -------
    Tensor
        complex64 (drops, users, subcarriers, antennas). Gains consist of path loss, shadow and small-scale fading,
        limited to 10 dB around the median user of the drop (unlimited drops span 60 dB, and no scheduler would serve
        such users together), and are normalised as described in the module.
    """
    from sionna.phy.channel import gen_single_sector_topology
    from sionna.phy.channel.tr38901 import RMa, UMa, UMi

    with _sionna(seed):
        terminals = (_user(carrier), _base_station(antennas, _ROWS, carrier), "downlink")
        if name == "rma":
            model = RMa(carrier, *terminals, device="cpu")
        else:
            model = {"umi": UMi, "uma": UMa}[name](carrier, "low", *terminals, device="cpu")
        parts = []
        for size in _blocks(drops, max(1, _LINKS // users)):
            model.reset_topology()  # the last block may be smaller
            model.set_topology(*gen_single_sector_topology(size, users, name, device="cpu"))
            coefficients, delays = model(1, 1e6)
            parts.append(to_hermitian(coefficients, delays, offsets))
    channels = torch.cat(parts)
    return normalise_gains(channels, limited_db(gains_db(channels)))


def cdl_channels(drops: int, users: int, antennas: int, seed: int, carrier: float, offsets: Tensor) -> Tensor:
    """Draw CDL-A to E channels with a random profile, bearing and orientation of each user.

    Parameters
    ----------
    drops, users, antennas, seed, carrier, offsets
        As in `cell_channels`.

    Returns
    -------
    Tensor
        complex64 (drops, users, subcarriers, antennas), with gains uniform in dB over 20 dB.
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
        angles = (bearing[chosen], orientation[chosen])
        channels[chosen] = cdl_links(name, *angles, antennas, seed + 1 + index, carrier, offsets)
    channels = channels.reshape(drops, users, len(offsets), antennas)
    return normalise_gains(channels, uniform(-SPREAD_DB / 2, SPREAD_DB / 2, drops, users))


def cdl_links(
    profile: str, bearing: Tensor, orientation: Tensor, antennas: int, seed: int, carrier: float, offsets: Tensor
) -> Tensor:
    """Draw independent realisations of one CDL profile, with a horizontal line array at the base station.

    Parameters
    ----------
    profile
        ``A`` to ``E``.
    bearing
        Rotation of the array from the x-axis, (links,), rad.
    orientation
        Orientation of the users, (links, 3), rad.
    antennas, seed, carrier, offsets
        As in `cell_channels`.

    Returns
    -------
    Tensor
        h of y = h^H x with Sionna's own gains, complex64 (links, subcarriers, antennas).
    """
    from sionna.phy.channel.tr38901 import CDL

    array_orientation = torch.stack([bearing, torch.zeros_like(bearing), torch.zeros_like(bearing)], -1)
    parts = [torch.zeros(0, len(offsets), antennas, dtype=torch.complex64)]
    with _sionna(seed):
        base_station, user, start = _base_station(antennas, 1, carrier), _user(carrier), 0
        for size in _blocks(len(bearing), _LINKS):
            part = slice(start, start + size)
            orientations = {"ut_orientation": orientation[part], "bs_orientation": array_orientation[part]}
            model = CDL(profile, _DELAY_SPREAD, carrier, user, base_station, "downlink", **orientations, device="cpu")
            coefficients, delays = model(size, 1, 1e6)
            parts.append(to_hermitian(coefficients, delays, offsets).squeeze(1))
            start += size
    return torch.cat(parts)


def to_hermitian(coefficients: Tensor, delays: Tensor, offsets: Tensor) -> Tensor:
    """Convert Sionna's downlink paths of y = H x into h of y = h^H x: the conjugate of the frequency response.

    Parameters
    ----------
    coefficients
        complex (drops, users, 1, 1, antennas, paths, 1).
    delays
        (drops, users, 1, paths), s.
    offsets
        Subcarrier frequencies relative to the carrier, (subcarriers,), Hz.

    Returns
    -------
    Tensor
        h, complex64 (drops, users, subcarriers, antennas).
    """
    rows = frequency_response(coefficients[:, :, 0, 0, :, :, 0], delays[:, :, 0, None, :], offsets)
    return rows.swapaxes(-1, -2).conj().resolve_conj().to(torch.complex64)


def gains_db(channels: Tensor) -> Tensor:
    """Compute ||h||^2, averaged over subcarriers, in dB.

    Parameters
    ----------
    channels
        complex (..., subcarriers, antennas).

    Returns
    -------
    Tensor
        Gains, real (...), dB.
    """
    norm = torch.linalg.vector_norm(channels.flatten(-2), dim=-1)
    return 20 * torch.log10(norm / math.sqrt(channels.shape[-2]))


def limited_db(gains: Tensor, spread_db: float = SPREAD_DB) -> Tensor:
    """Limit gains to ``spread_db`` / 2 on either side of the median user of each drop.

    Parameters
    ----------
    gains
        real (drops, users), dB.
    spread_db
        Largest spread within a drop, dB.

    Returns
    -------
    Tensor
        Limited gains, real (drops, users), dB.
    """
    middle = gains.median(-1, keepdim=True).values
    return middle + (gains - middle).clamp(-spread_db / 2, spread_db / 2)


def normalise_gains(channels: Tensor, relative_db: Tensor) -> Tensor:
    """Scale channels to given relative gains within each drop, with a mean ||h||^2 of 1 per drop.

    Parameters
    ----------
    channels
        complex64 (drops, users, subcarriers, antennas).
    relative_db
        Gains up to a common factor per drop, real (drops, users), dB.

    Returns
    -------
    Tensor
        Scaled channels, complex64, of the shape of ``channels``.
    """
    power = 10 ** ((relative_db - relative_db.amax(-1, keepdim=True)).double() / 10)
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
    """Run Sionna on the CPU with all its generators seeded, preserving torch's global generator."""
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
