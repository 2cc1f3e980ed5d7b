"""Describe a site: the mast with its array, buildings that block, scatterers, and the channels of users there.

Coordinates are metres east (x), north (y) and up (z); the mast stands at the origin, and the vertical array on it is
that of `simulator.geometry.arrays`, whose plane is turned to each user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.steering import near_field_steering

__all__ = ["FARTHEST", "NEAREST", "SECTOR", "Site", "draw_site"]

Array = npt.NDArray[np.float64]

NEAREST, FARTHEST = 15.0, 140.0  # m, east of the mast, of flights
SECTOR = 0.5  # |north| / east, of flights and buildings
_REFERENCE = 60.0  # m, at which the line of sight has ||h|| = 1
_BLOCKED_DB = -25.0
_SCATTERED = 0.25  # root mean square of the scatterers' reflection coefficients


@dataclass(frozen=True)
class Site:
    """Hold what stands at a site.

    Parameters
    ----------
    array
        The array, at the height of camera, radar and LiDAR.
    boxes
        Buildings: west, east, south, north side and height, float64 (buildings, 5), m.
    shades
        Their brightness in a picture, float64 (buildings,), 0 to 1.
    scatterers
        Positions, float64 (scatterers, 3), m.
    gains
        Their reflection coefficients, complex128 (scatterers,).
    """

    array: UniformLinearArray
    boxes: Array
    shades: Array
    scatterers: Array
    gains: npt.NDArray[np.complex128]

    @property
    def origin(self) -> Array:
        """Return the position of the array's centre, float64 (3,), m."""
        return np.array([0.0, 0.0, self.array.height])

    def inside(self, positions: Array, margin: float = 0.0) -> npt.NDArray[np.bool_]:
        """Return whether positions are within a building.

        Parameters
        ----------
        positions
            float64 (..., 3), m.
        margin
            Distance by which the buildings are enlarged, m.

        Returns
        -------
        numpy.ndarray
            bool (...).
        """
        point = positions[..., None, :]
        low, high = self._corners()
        return np.asarray(((point > low - margin) & (point < high + margin)).all(-1).any(-1))

    def blocked(self, positions: Array) -> npt.NDArray[np.bool_]:
        """Return whether a building cuts the straight line between the array's centre and positions.

        Parameters
        ----------
        positions
            float64 (..., 3), m.

        Returns
        -------
        numpy.ndarray
            bool (...).
        """
        ray = (positions - self.origin)[..., None, :]
        ray = np.where(np.abs(ray) < 1e-9, 1e-9, ray)
        low, high = ((corner - self.origin) / ray for corner in self._corners())
        enters, leaves = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
        return np.asarray(((enters < leaves) & (leaves > 0) & (enters < 1)).any(-1))

    def _corners(self) -> tuple[Array, Array]:
        west, east, south, north, height = self.boxes.T
        return np.stack([west, south, 0 * height], -1), np.stack([east, north, height], -1)

    def channels(self, positions: Array) -> Tensor:
        """Compute the channels of users, of the line of sight and of one reflection at each scatterer.

        h = g(r) e(r) b(theta, r) + sum_l c_l g(r_l + q_l) e(r_l + q_l) b(theta_l, r_l) with g(r) = 60 m / r,
        e(r) = exp(-j 2 pi r / lambda), and the distance q_l between scatterer l and user; the line of sight of a
        blocked user is 25 dB weaker.

        Parameters
        ----------
        positions
            float64 (..., 3), m.

        Returns
        -------
        Tensor
            complex64 (..., antennas).
        """
        angle, distance = self.angle_and_distance(positions)
        loss = np.where(self.blocked(positions), 10 ** (_BLOCKED_DB / 20), 1.0)
        direct = self._propagated(distance) * torch.from_numpy(loss)
        channels = near_field_steering(self.array, angle, distance) * direct.unsqueeze(-1)
        to_array = self.angle_and_distance(self.scatterers)
        waves = near_field_steering(self.array, *to_array)
        to_user = torch.from_numpy(np.linalg.norm(positions[..., None, :] - self.scatterers, axis=-1))
        scattered = self._propagated(to_array[1] + to_user) * torch.from_numpy(self.gains)
        return (channels + scattered.to(torch.complex64) @ waves).to(torch.complex64)

    def _propagated(self, length: Tensor) -> Tensor:
        """Return 60 m / r exp(-j 2 pi r / lambda), complex128, with whole cycles removed."""
        cycles = length / self.array.wavelength
        return torch.polar(_REFERENCE / length.clamp(min=1.0), -2 * math.pi * (cycles - cycles.round()))

    def angle_and_distance(self, positions: Array) -> tuple[Tensor, Tensor]:
        """Return angles from the array's normal and distances from its centre.

        Parameters
        ----------
        positions
            float64 (..., 3), m.

        Returns
        -------
        angle, distance : Tensor
            float64 (...), rad and m.
        """
        return angle_and_distance(
            torch.from_numpy(np.hypot(positions[..., 0], positions[..., 1])),
            torch.from_numpy(positions[..., 2].copy()),
            self.array,
        )


def draw_site(array: UniformLinearArray, seed: int) -> Site:
    """Draw two or three buildings east of the mast, and scatterers on them, on the ground and far away.

    Parameters
    ----------
    array
        The array.
    seed
        Equal seeds give equal sites.

    Returns
    -------
    Site
    """
    rng = np.random.default_rng([seed, 0])
    count = int(rng.integers(2, 4))
    west = np.sort(rng.uniform(25, 110, count))
    middle = rng.uniform(-12, 12, count)
    depth, width, height = rng.uniform(8, 16, count), rng.uniform(30, 70, count), rng.uniform(10, 24, count)
    boxes = np.stack([west, west + depth, middle - width / 2, middle + width / 2, height], -1)
    across = middle + width * rng.uniform(-0.4, 0.4, (2, count))
    walls = [
        np.stack([west, across[row], height * share], -1) for row, share in enumerate((0.5, 0.95))
    ]  # on the walls that face the mast
    ground = np.stack([rng.uniform(20, 120, 2), rng.uniform(-30, 30, 2), np.zeros(2)], -1)
    far = np.array([[150.0, rng.uniform(-60, 60), rng.uniform(10, 50)]])
    scatterers = np.concatenate([*walls, ground, far])
    gains = rng.normal(size=(2, len(scatterers))) * _SCATTERED / math.sqrt(2)
    return Site(array, boxes, rng.uniform(0.25, 0.7, count), scatterers, gains[0] + 1j * gains[1])
