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

With `Motion` the drops are the snapshots of one sequence: users move at one speed, and Sionna's path coefficients at
the times of the snapshots share their phases, so that Doppler shifts are continuous. Gains are then averaged over
snapshots.

Sionna's random generators are all seeded from one number: equal seeds give equal drops.

References
----------
3GPP TR 38.901, "Study on channel model for frequencies from 0.5 to 100 GHz".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from simulator.channels.sources.registry import ChannelSet, Request, register, sequence_variables
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets
from simulator.channels.sources.shared.gains import SPREAD_DB, gains_db, limited_db, normalise_gains

CARRIER = 7e9  # Hz, by default
_LINKS = 64  # links generated at a time: some 200 MB at 128 antennas
_ROWS = 4  # of the cells' panels
_DELAY_SPREAD = 100e-9  # s, of the CDL profiles
_OPTIONS = ("drops", "users", "antennas", "carrier", "bandwidth", "subcarriers", "slots", "slot_seconds", "speed")
_SLOT_SECONDS = 0.5e-3
_SPEED = 3.0  # m/s
_HIGHEST_GHZ = {"umi": 100.0, "uma": 100.0, "rma": 30.0}  # TR 38.901, table 7.4.1-1; the lowest is 0.5


@dataclass(frozen=True)
class Motion:
    """Describe the snapshots of a sequence.

    Parameters
    ----------
    slots
        Number of snapshots P.
    slot_seconds
        Time between snapshots, s.
    speed
        Speed of all users, m/s, in random directions.
    """

    slots: int = 1
    slot_seconds: float = 1e-6
    speed: float = 0.0


STILL = Motion()


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
    motion = _motion("cdl", request)
    drops, users, antennas = request.size()
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    carrier = request.carrier or CARRIER
    drawn = cdl_channels(1 if motion else drops, users, antennas, request.seed, carrier, offsets, motion or STILL)
    return _channel_set(drawn, carrier, motion)


def _cell(name: str, request: Request) -> ChannelSet:
    require("sionna", f"source {name}")
    motion = _motion(name, request)
    drops, users, antennas = request.size()
    carrier = request.carrier or CARRIER
    if antennas % _ROWS:
        raise NflaeError(f"source {name} has a panel of {_ROWS} rows: antennas has to be a multiple, not {antennas}")
    if not 0.5 <= carrier / 1e9 <= _HIGHEST_GHZ[name]:
        raise NflaeError(
            f"source {name} is defined from 0.5 to {_HIGHEST_GHZ[name]:g} GHz, not at {carrier / 1e9:g} GHz"
        )
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    drawn = cell_channels(
        name, 1 if motion else drops, users, antennas, request.seed, carrier, offsets, motion or STILL
    )
    return _channel_set(drawn, carrier, motion)


def _motion(name: str, request: Request) -> Motion | None:
    """Return the snapshots requested; None for independent drops."""
    if request.slots is None:
        if request.speed is not None or request.slot_seconds is not None:
            raise NflaeError(
                f"source {name}: a speed and a slot duration need the number of slots: give --slots too (Python: slots)"
            )
        return None
    if (request.drops or 1) > 1 or (request.subcarriers or 1) > 1:
        raise NflaeError(
            f"source {name}: with slots the drops are the snapshots of one sequence at the carrier; leave out drops and"
            " subcarriers, and write each further sequence with another seed"
        )
    return Motion(request.slots, request.slot_seconds or _SLOT_SECONDS, request.speed or _SPEED)


def _channel_set(channels: Tensor, carrier: float, motion: Motion | None) -> ChannelSet:
    """Return channels (drops, users, snapshots or subcarriers, antennas) as a set with each drop's in sequence."""
    drops, users, rows, antennas = channels.shape
    flat = channels.swapaxes(1, 2).reshape(drops * rows, users, antennas).numpy()
    metadata: dict[str, Any] = {"carrier_hz": carrier, "subcarriers": 1 if motion else rows, "noise_power": 0.01}
    remark = ""
    if motion:
        metadata |= sequence_variables(motion.slot_seconds) | {"speed_mps": motion.speed}
        remark = f"{rows} slots of {1e3 * motion.slot_seconds:g} ms at {motion.speed:g} m/s"
    return ChannelSet(len(flat), users, antennas, iter([flat]), metadata, remark)


def cell_channels(
    name: str,
    drops: int,
    users: int,
    antennas: int,
    seed: int,
    carrier: float,
    offsets: Tensor,
    motion: Motion = STILL,
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
    motion
        Snapshots and speed.

    Returns
    -------
    Tensor
        complex64 (drops, users, slots x subcarriers, antennas), slots outermost. Gains consist of path loss, shadow and
        small-scale fading, limited to 10 dB around the median user of the drop (unlimited drops span 60 dB, and no
        scheduler would serve such users together), and are normalised as described in the module.
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
            speeds = {f"{bound}_ut_velocity": motion.speed for bound in ("min", "max")}
            model.set_topology(*gen_single_sector_topology(size, users, name, **speeds, device="cpu"))
            coefficients, delays = model(motion.slots, 1 / motion.slot_seconds)
            parts.append(to_hermitian(coefficients, delays, offsets))
    channels = torch.cat(parts)
    return normalise_gains(channels, limited_db(gains_db(channels)))


def cdl_channels(
    drops: int, users: int, antennas: int, seed: int, carrier: float, offsets: Tensor, motion: Motion = STILL
) -> Tensor:
    """Draw CDL-A to E channels with a random profile, bearing and orientation of each user.

    Parameters
    ----------
    drops, users, antennas, seed, carrier, offsets, motion
        As in `cell_channels`.

    Returns
    -------
    Tensor
        complex64 (drops, users, slots x subcarriers, antennas), slots outermost, with gains uniform in dB over 20 dB.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    links = drops * users
    profile = torch.randint(5, (links,), generator=generator)
    bearing = uniform(-math.pi / 3, math.pi / 3, links)
    orientation = uniform(-math.pi, math.pi, links, 3)
    channels = torch.zeros(links, motion.slots * len(offsets), antennas, dtype=torch.complex64)
    for index, name in enumerate("ABCDE"):
        chosen = profile == index
        angles = (bearing[chosen], orientation[chosen])
        channels[chosen] = cdl_links(name, *angles, antennas, seed + 1 + index, carrier, offsets, motion)
    channels = channels.reshape(drops, users, motion.slots * len(offsets), antennas)
    return normalise_gains(channels, uniform(-SPREAD_DB / 2, SPREAD_DB / 2, drops, users))


def cdl_links(
    profile: str,
    bearing: Tensor,
    orientation: Tensor,
    antennas: int,
    seed: int,
    carrier: float,
    offsets: Tensor,
    motion: Motion = STILL,
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
    antennas, seed, carrier, offsets, motion
        As in `cell_channels`.

    Returns
    -------
    Tensor
        h of y = h^H x with Sionna's own gains, complex64 (links, slots x subcarriers, antennas).
    """
    from sionna.phy.channel.tr38901 import CDL

    array_orientation = torch.stack([bearing, torch.zeros_like(bearing), torch.zeros_like(bearing)], -1)
    parts = [torch.zeros(0, motion.slots * len(offsets), antennas, dtype=torch.complex64)]
    with _sionna(seed):
        base_station, user, start = _base_station(antennas, 1, carrier), _user(carrier), 0
        for size in _blocks(len(bearing), _LINKS):
            part = slice(start, start + size)
            settings: dict[str, Any] = {"ut_orientation": orientation[part], "bs_orientation": array_orientation[part]}
            settings |= {f"{bound}_speed": motion.speed for bound in ("min", "max")}
            model = CDL(profile, _DELAY_SPREAD, carrier, user, base_station, "downlink", **settings, device="cpu")
            coefficients, delays = model(size, motion.slots, 1 / motion.slot_seconds)
            parts.append(to_hermitian(coefficients, delays, offsets).squeeze(1))
            start += size
    return torch.cat(parts)


def to_hermitian(coefficients: Tensor, delays: Tensor, offsets: Tensor) -> Tensor:
    """Convert Sionna's downlink paths of y = H x into h of y = h^H x: the conjugate of the frequency response.

    Parameters
    ----------
    coefficients
        complex (drops, users, 1, 1, antennas, paths, slots).
    delays
        (drops, users, 1, paths), s.
    offsets
        Subcarrier frequencies relative to the carrier, (subcarriers,), Hz.

    Returns
    -------
    Tensor
        h, complex64 (drops, users, slots x subcarriers, antennas), slots outermost.
    """
    slots = coefficients[:, :, 0, 0].movedim(-1, 2)
    rows = frequency_response(slots, delays[:, :, 0, None, None, :], offsets)
    return rows.swapaxes(-1, -2).flatten(2, 3).conj().resolve_conj().to(torch.complex64)


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
