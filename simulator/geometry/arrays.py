"""The base station's array and where users stand as seen from it (x-z plane, metres and radians)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

SPEED_OF_LIGHT = 299_792_458.0

AngleConvention = Literal["signed", "absolute"]


@dataclass(frozen=True)
class UniformLinearArray:
    """A half-wavelength uniform linear array on a mast, centred at (0, ``height``), tilted by ``tilt``.

    antennas: number of elements N.
    carrier: carrier frequency, Hz.
    height: height of the array's centre above ground, m.
    tilt: down-tilt of the array's normal, rad.
    """

    antennas: int = 256
    carrier: float = 30e9
    height: float = 15.0
    tilt: float = math.radians(5.0)

    @property
    def wavelength(self) -> float:
        """Wavelength, m."""
        return SPEED_OF_LIGHT / self.carrier

    @property
    def spacing(self) -> float:
        """Distance between neighbouring elements, m (half a wavelength)."""
        return self.wavelength / 2

    @property
    def aperture(self) -> float:
        """Length D = N d of the array, m."""
        return self.antennas * self.spacing

    def element_offsets(self) -> Tensor:
        """Element positions n d along the array, n = -(N-1)/2 ... (N-1)/2; float64 (antennas,), m."""
        n = torch.arange(self.antennas, dtype=torch.float64) - (self.antennas - 1) / 2
        return n * self.spacing


def angle_and_distance(
    x: Tensor, height: Tensor, array: UniformLinearArray, convention: AngleConvention = "signed"
) -> tuple[Tensor, Tensor]:
    """Angle from the array's normal and distance from its centre, for users at (x, height).

    r = hypot(x, h - h_B) and theta = atan2(h_B - h, x) - tilt. With ``convention="absolute"`` the depression
    angle is atan2(|h - h_B|, x), as the papers write it: two users mirrored about the mast's height then have
    the same channel, so it serves to reproduce published curves only.

    x, height: any common shape, m. Returns (theta in rad, r in m), float64, the same shape.
    """
    x, height = x.double(), height.double()
    drop = array.height - height
    depression = torch.atan2(drop.abs() if convention == "absolute" else drop, x)
    return depression - array.tilt, torch.hypot(x, drop)
