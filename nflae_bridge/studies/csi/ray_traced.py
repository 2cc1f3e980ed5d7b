"""Trace rays to moving users in Sionna RT's scene of Munich."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matlab_io.errors import NflaeError

_BASE_STATION = [8.5, 21.0, 27.0]  # m, on the roof of the scene's documentation
_EDGE = (-150.0, 180.0)  # of the square of the users, m
_GROUND_SHARE = 0.4
_RAYS = 300_000
_REFLECTIONS = 3


def munich_channels(
    users: int, snapshots: int, antennas: int, carrier: float, speed: float, slot_seconds: float, seed: int
) -> Tensor:
    """Trace the channels of users at 1.5 m (40 %) or 10 to 60 m above Munich.

    Needs PyPI's ``sionna-rt`` and an LLVM library that Dr.Jit can load; ``DRJIT_LIBLLVM_PATH`` names one.

    Parameters
    ----------
    users
        Number of positions; those that no path reaches are left out.
    snapshots
        Number of snapshots.
    antennas
        Antennas of the horizontal half-wavelength line.
    carrier
        Hz.
    speed
        Speed, m/s, in random directions.
    slot_seconds
        Time between snapshots, s.
    seed
        Seed of positions, directions and rays.

    Returns
    -------
    Tensor
        h of y = h^H x, conjugated from Sionna's y = H x, complex64 (users reached, snapshots, antennas).

    Raises
    ------
    NflaeError
        If Sionna RT or LLVM is missing.
    """
    rt = _sionna_rt()
    generator = np.random.default_rng(seed)
    scene: Any = rt.load_scene(rt.scene.munich)
    scene.frequency = carrier
    look = {"vertical_spacing": 0.5, "horizontal_spacing": 0.5, "pattern": "iso", "polarization": "V"}
    scene.tx_array = rt.PlanarArray(num_rows=1, num_cols=antennas, **look)
    scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, **look)
    scene.add(rt.Transmitter("base station", position=_BASE_STATION))
    for user in range(users):
        heading = generator.normal(size=3) * [1, 1, 0.2]
        velocity = speed * heading / np.linalg.norm(heading)
        on_ground = generator.random() < _GROUND_SHARE
        x, y = generator.uniform(*_EDGE, size=2).tolist()
        place = [x, y, 1.5 if on_ground else float(generator.uniform(10, 60))]
        scene.add(rt.Receiver(f"user {user}", position=place, velocity=velocity.tolist()))
    paths = rt.PathSolver()(scene, max_depth=_REFLECTIONS, samples_per_src=_RAYS, diffuse_reflection=False, seed=seed)
    gains, _ = paths.cir(sampling_frequency=1 / slot_seconds, num_time_steps=snapshots, out_type="numpy")
    rows = torch.from_numpy(gains[:, 0, 0].sum(-2)).movedim(-1, 1)
    reached = rows.abs().sum((1, 2)) > 0
    return rows[reached].conj().resolve_conj().to(torch.complex64)


def _sionna_rt() -> Any:
    """Import Sionna RT with Dr.Jit's LLVM backend."""
    for package in ("mitsuba", "drjit"):
        if importlib.util.find_spec(package) is None:
            raise NflaeError("munich needs Sionna RT, which is not installed. Type: pip install 'nflae-bridge[rt]'")
    try:
        import mitsuba

        mitsuba.set_variant("llvm_ad_mono_polarized")
        import sionna.rt as rt
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise NflaeError(
            f"munich: Sionna RT cannot be loaded ({reason}); install LLVM 19 or later and set DRJIT_LIBLLVM_PATH to its"
            " libLLVM.so"
        ) from None
    return rt
