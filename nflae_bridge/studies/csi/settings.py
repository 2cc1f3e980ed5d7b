"""Draw the sequences on which methods of CSI acquisition are compared.

Each user is a series of its own: another path, scatterers or cell. Series have a mean ||h||^2 of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from nflae_bridge.studies.csi.ray_traced import munich_channels
from simulator.channels.scenario import scenario
from simulator.channels.trajectory import Waypoints, fly

_SECTOR_USERS = 8  # per topology of umi
_GROUND_SHARE = 0.4


@dataclass(frozen=True)
class Setting:
    """Describe a set of sequences.

    Parameters
    ----------
    source
        ``flight``, ``cdl``, ``umi`` or ``munich`` (Sionna RT).
    antennas
        N.
    carrier
        Hz.
    speed
        m/s.
    slot_seconds
        Time between snapshots, s.
    geometry
        Arrangement of the antennas: ``line`` or ``panel:ROWSxCOLUMNS``.
    """

    source: str
    antennas: int
    carrier: float
    speed: float
    slot_seconds: float
    geometry: str = "line"

    @property
    def name(self) -> str:
        """Name in tables, such as ``flight N=64 30 GHz 20 m/s 0.25 ms``."""
        where = f"{self.source} N={self.antennas} {self.carrier / 1e9:g} GHz"
        return f"{where} {self.speed:g} m/s {1e3 * self.slot_seconds:g} ms"


SETTINGS = (
    Setting("flight", 64, 30e9, 5.0, 0.25e-3),
    Setting("flight", 64, 30e9, 20.0, 0.25e-3),
    Setting("flight", 256, 30e9, 20.0, 0.25e-3),
    Setting("flight", 256, 30e9, 20.0, 1e-3),
    Setting("cdl", 64, 7e9, 3.0, 1e-3),
    Setting("cdl", 64, 7e9, 10.0, 1e-3),
    Setting("umi", 64, 7e9, 3.0, 1e-3, "panel:4x16"),
    Setting("umi", 64, 7e9, 10.0, 1e-3, "panel:4x16"),
)
MUNICH = Setting("munich", 64, 28e9, 20.0, 0.25e-3)


@lru_cache(maxsize=4)
def draw_series(setting: Setting, users: int, snapshots: int, seed: int) -> Tensor:
    """Draw the series of independent users.

    Parameters
    ----------
    setting
        Set of sequences.
    users
        Number of users; of ``munich``, at most those reached by a path are returned.
    snapshots
        Number of snapshots.
    seed
        Equal seeds give equal series.

    Returns
    -------
    Tensor
        h, complex64 (users, snapshots, antennas), the mean ||h||^2 over the snapshots of a user being 1, in random
        order.

    Raises
    ------
    NflaeError
        For an unknown source, or one whose package is missing.
    """
    if setting.source not in _SOURCES:
        raise NflaeError(f"no set of sequences {setting.source!r}: there are {', '.join(_SOURCES)}")
    series = _SOURCES[setting.source](setting, users, snapshots, seed)
    power = torch.linalg.vector_norm(series, dim=-1).square().mean(-1)
    series = series / power.sqrt()[:, None, None]
    shuffled: Tensor = series[torch.randperm(len(series), generator=torch.Generator().manual_seed(seed))]
    return shuffled


def _flight(setting: Setting, users: int, snapshots: int, seed: int) -> Tensor:
    """Draw straight legs over the ground or in the air, each user with scatterers of its own."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(users, generator=generator, dtype=torch.float64)

    x, ground = uniform(10, 195), uniform(0, 1) < _GROUND_SHARE
    height = torch.where(ground, 1.5, uniform(5, 60))
    heading, climb = uniform(0, 2 * math.pi), torch.where(ground, 0.0, uniform(-0.5, 0.5))
    seconds = snapshots * setting.slot_seconds
    step_x = setting.speed * seconds * torch.cos(heading) * torch.cos(climb)
    step_up = setting.speed * seconds * torch.sin(climb)
    legs = zip(x, x + step_x, height, height + step_up, strict=True)
    times = torch.tensor([0.0, seconds])
    paths = [Waypoints(times, torch.stack([a, b]), torch.stack([c, d])) for a, b, c, d in legs]
    scene = scenario("uav", users, setting.antennas)
    scene = replace(scene, array=replace(scene.array, carrier=setting.carrier))
    channels: Tensor = fly(paths, scene, snapshots, setting.slot_seconds, generator).channels
    return channels.swapaxes(0, 1)


def _cdl(setting: Setting, users: int, snapshots: int, seed: int) -> Tensor:
    require("sionna", "set of sequences cdl")
    from simulator.channels.sources.sionna import Motion, cdl_channels

    motion = Motion(snapshots, setting.slot_seconds, setting.speed)
    carrier_alone = torch.zeros(1, dtype=torch.float64)
    return cdl_channels(1, users, setting.antennas, seed, setting.carrier, carrier_alone, motion)[0]


def _umi(setting: Setting, users: int, snapshots: int, seed: int) -> Tensor:
    require("sionna", "set of sequences umi")
    from simulator.channels.sources.sionna import Motion, cell_channels

    motion = Motion(snapshots, setting.slot_seconds, setting.speed)
    sectors = -(-users // _SECTOR_USERS)
    carrier_alone = torch.zeros(1, dtype=torch.float64)
    drawn = cell_channels("umi", sectors, _SECTOR_USERS, setting.antennas, seed, setting.carrier, carrier_alone, motion)
    return drawn.flatten(0, 1)[:users]


def _munich(setting: Setting, users: int, snapshots: int, seed: int) -> Tensor:
    return munich_channels(
        users, snapshots, setting.antennas, setting.carrier, setting.speed, setting.slot_seconds, seed
    )


_SOURCES: dict[str, Callable[[Setting, int, int, int], Tensor]] = {
    "flight": _flight,
    "cdl": _cdl,
    "umi": _umi,
    "munich": _munich,
}
