"""Describe the base station's array and compute users' angles and distances from it.

All geometry is in the x-z plane, in metres and radians: the array is centred at (0, h_B), a user is at (x, h).
"""

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
    """Describe a half-wavelength uniform linear array on a mast, centred at (0, ``height``).

    Parameters
    ----------
    antennas
        Number of elements N.
    carrier
        Carrier frequency, Hz.
    height
        Height h_B of the array's centre above ground, m.
    tilt
        Down-tilt theta_tit of the array's normal, rad.
    """

    antennas: int = 256
    carrier: float = 30e9
    height: float = 15.0
    tilt: float = math.radians(5.0)

    @property
    def wavelength(self) -> float:
        """Wavelength lambda, m."""
        return SPEED_OF_LIGHT / self.carrier

    @property
    def spacing(self) -> float:
        """Spacing d = lambda / 2 of neighbouring elements, m."""
        return self.wavelength / 2

    @property
    def aperture(self) -> float:
        """Length D = N d of the array, m."""
        return self.antennas * self.spacing

    def element_offsets(self, device: torch.device | None = None) -> Tensor:
        """Return the element positions n d along the array, n = -(N-1)/2 ... (N-1)/2.

        Parameters
        ----------
        device
            Device of the result; None: the CPU.

        Returns
        -------
        Tensor
            float64 (antennas,), m.
        """
        n = torch.arange(self.antennas, dtype=torch.float64, device=device) - (self.antennas - 1) / 2
        return n * self.spacing


def angle_and_distance(
    x: Tensor, height: Tensor, array: UniformLinearArray, convention: AngleConvention = "signed"
) -> tuple[Tensor, Tensor]:
    """Compute the angle from the array's normal and the distance from its centre, for users at (x, height).

    r = hypot(x, h - h_B), theta = theta_k - theta_tit with the depression angle theta_k = atan2(h_B - h, x)
    (``convention="signed"``) or theta_k = atan2(|h - h_B|, x) (``"absolute"``, as in the publications). In the absolute
    convention two users mirrored about the mast's height have the same channel; it serves reproduction only.

    Parameters
    ----------
    x, height
        User positions, real, of a common shape S, m.
    array
        Array.
    convention
        Sign convention of the depression angle.

    Returns
    -------
    angle : Tensor
        theta, float64 S, rad.
    distance : Tensor
        r, float64 S, m.
    """
    x, height = x.double(), height.double()
    depth = array.height - height
    depression = torch.atan2(depth.abs() if convention == "absolute" else depth, x)
    return depression - array.tilt, torch.hypot(x, depth)
