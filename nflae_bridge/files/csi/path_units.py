"""State the paths of users in the units of a file: Hz and s where its spacings in time and frequency are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matlab_io.result import PATH_ARRAYS
from matlab_io.writing.mat_writer import DropArray
from simulator.csi.prediction.paths import MOST_PATHS, Paths

__all__ = ["PathUnits"]


@dataclass(frozen=True)
class PathUnits:
    """Hold the spacings of snapshots and subcarriers.

    Parameters
    ----------
    slot_seconds : float, optional
        Time between snapshots, s.
    subcarrier_hz : float, optional
        Subcarrier spacing, Hz.
    """

    slot_seconds: float | None = None
    subcarrier_hz: float | None = None

    def arrays(self, users: int, slots: tuple[int, ...]) -> list[DropArray]:
        """Return the arrays of `PATH_ARRAYS` that can be stated, for a number of users and the sizes of the slots.

        Parameters
        ----------
        users : int
            Users K.
        slots : tuple of int
            Sizes of the axis of slots; none for the last slot alone.

        Returns
        -------
        list of DropArray
        """
        left_out = {"doppler_hz" if self.slot_seconds is None else "doppler_cycles"}
        left_out |= {"delay_s"} if self.subcarrier_hz is None else set()
        return [
            DropArray(each.name, (MOST_PATHS, users), slots, each.dtype)
            for each in PATH_ARRAYS
            if each.name not in left_out
        ]

    def values(self, paths: Paths) -> dict[str, npt.NDArray[np.generic]]:
        """Return the values of these arrays.

        Parameters
        ----------
        paths : Paths
            Arrays of (slots, users, paths).

        Returns
        -------
        dict of str to numpy.ndarray
            float64 (slots, users, paths) by name.
        """
        doppler, found = paths.doppler.numpy(), {"path_gain": paths.power.numpy()}
        found |= (
            {"doppler_cycles": doppler} if self.slot_seconds is None else {"doppler_hz": doppler / self.slot_seconds}
        )
        if self.subcarrier_hz is not None:
            found["delay_s"] = paths.delay.numpy() / self.subcarrier_hz
        return {name: np.ascontiguousarray(values) for name, values in found.items()}
