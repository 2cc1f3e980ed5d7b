"""Convert tracks to the arrays of files and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.tracking.tracker import Track

__all__ = ["track_arrays"]


def track_arrays(found: Track) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a track by name.

    Parameters
    ----------
    found
        The track.

    Returns
    -------
    dict
        Arrays (steps, users), ``next_beams`` (steps, ahead, users, 3); angles in degrees, beams and the codes of
        sources from 1.
    """
    arrays = {
        "x": found.position[..., 0],
        "height": found.position[..., 1],
        "position_std": found.deviation,
        "angle_deg": np.degrees(found.angle),
        "angle_std_deg": np.degrees(found.angle_deviation),
        "distance": found.distance,
        "distance_resolved": found.distance_resolved,
        "in_sight": found.in_sight,
        "source": found.source + 1.0,
        "angle_source": found.angle_source + 1.0,
        "distance_source": found.distance_source + 1.0,
        "beam": found.beam + 1.0,
        "beam_source": found.beam_source + 1.0,
        "next_beams": found.next_beams.swapaxes(1, 2) + 1.0,
        "next_beams_source": found.next_beams_source + 1.0,
    }
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}
