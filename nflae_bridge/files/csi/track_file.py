"""Track the users of a file and write their positions and beams to another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from matlab_io.errors import NflaeError
from matlab_io.version import __version__
from matlab_io.writing.mat_writer import Value
from matlab_io.writing.output import MatOutput, version_for
from nflae_bridge.files.csi.track_input import TrackInput
from simulator.tracking.arrays import track_arrays
from simulator.tracking.result import source_names
from simulator.tracking.tracker import Track, Tracker

__all__ = ["find_track", "track_doubts", "write_track"]

_CONTRADICTED = 0.4  # of the strong waves; reflections are up to 0.3 on simulated sites
_PHASES = {False: "exp(-j k r)", True: "exp(+j k r)", None: "exp(-j k r), assumed"}


def find_track(given: TrackInput, ahead: int) -> Track:
    """Track the users of a file.

    Parameters
    ----------
    given : TrackInput
        Measurements of the file.
    ahead : int
        Steps for which beams are forecast.

    Returns
    -------
    Track

    Raises
    ------
    NflaeError
        If the times do not rise.
    """
    try:
        return Tracker(given.array, ahead, sines=given.sines).advance(given.times, given.seen)
    except ValueError as error:
        raise NflaeError(f"{given.path}: {error}") from None


def track_doubts(found: Track, given: TrackInput) -> list[str]:
    """Say what puts the geometry of a track in doubt.

    Parameters
    ----------
    found : Track
        The track.
    given : TrackInput
        Its measurements.

    Returns
    -------
    list of str
        Notes in one line each.
    """
    notes, waves = [], given.seen.powers is None
    if waves and found.conjugated is None:
        notes.append(
            "the wavefronts are too plane to tell the sign of phase: antenna 1 on top and h of exp(-j k r) are assumed;"
            " if angles are mirrored, conjugate the channels"
        )
    if given.seen.gps is not None:
        both = found.contradicted | (found.in_sight & np.isfinite(given.seen.gps).all(-1))
        share = found.contradicted.sum() / max(1, both.sum())
        if share > _CONTRADICTED:
            order = (
                "is the order of the antennas reversed (antenna 1 is on top)"
                if waves
                else "are the beams mirrored (angles are positive below the normal)"
            )
            notes.append(
                f"the waves contradict the satellite positions in {100 * share:.0f} % of the channels with both:"
                f" {order}, or are the positions not in metres, or array_height and tilt those of another array?"
            )
    return notes


def write_track(
    found: Track, given: TrackInput, output: Path, version: str | None, forecasters: Sequence[str] = ()
) -> None:
    """Write a track to a ``.mat`` file.

    Parameters
    ----------
    found : Track
        The track.
    given : TrackInput
        Its measurements.
    output : Path
        File to write.
    version : str or None
        Its version; None for that of the input.
    forecasters : sequence of str
        Names of a model's forecasters of the next beams, by snapshot ahead; empty without a model.

    Raises
    ------
    NflaeError
        If the file cannot be written.
    """
    names = version_for(output, version or given.version)
    written = MatOutput(output, names, [], _values(found, given, forecasters), [given.path])
    written.begin()
    written.commit()


def _values(found: Track, given: TrackInput, forecasters: Sequence[str]) -> dict[str, Value]:
    """Return the variables of the output in MATLAB order, users before snapshots, beams and sources from 1."""
    beams = "beam_angles_deg of the input" if given.sines is not None else "sin(theta) = (2 b - 1) / N - 1, b = 1 ... N"
    return {
        **{name: np.asfortranarray(values.T) for name, values in track_arrays(found).items()},
        "times": given.times[None],
        "array_height": given.array.height,
        "array_tilt_rad": given.array.tilt,
        "carrier_hz": given.array.carrier,
        "nflae_info": {
            "version": __version__,
            "input": str(given.path),
            **source_names(given.seen.powers is not None),
            "codebook": beams,
            **({"phase": _PHASES[found.conjugated]} if given.seen.powers is None else {}),
            **({"beam_forecasters": ",".join(forecasters)} if forecasters else {}),
        },
    }
