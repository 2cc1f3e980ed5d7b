"""Make the requests of both clients for tracks, and the results of the answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.client.requests import SchemeChoice, convert, make_request
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.fields import Convention
from nflae_bridge.live.protocol.messages import Reply, TrackOptions, TrackRequest
from nflae_bridge.live.protocol.track_header import (
    CARRIERS,
    HEIGHTS,
    LEAST_BEAMS,
    LINE,
    LINES_ONLY,
    MAX_AHEAD,
    MAX_OBJECTS,
    NEGATIVE_POWERS,
    TILTS,
    seems_swapped,
)

__all__ = ["TrackArguments", "TrackedUsers", "make_track", "tracked_users_of"]

Floats = npt.NDArray[np.float64]
_POWER_AXES, _PAIR = 3, 2
_RIGHT_ANGLE = 90.0  # degrees
_EACH_TIME = ("track", "gps", "detections")  # arguments of every request of a track


@dataclass(frozen=True)
class TrackedUsers:
    """Hold the tracks of users through the snapshots of a request; read-only arrays, snapshots first.

    Parameters
    ----------
    track : str
        Identifier of the track, for the next request.
    expires : float
        Time after this request for which the server keeps the track, s.
    x, height, position_std : numpy.ndarray
        Position and its standard deviation, float64 (snapshots, users), m.
    angle_deg, angle_std_deg, distance : numpy.ndarray
        Angle from the array's normal, positive below it, with its standard deviation, degrees, and distance from the
        array's centre, m.
    distance_resolved, in_sight : numpy.ndarray
        Bool (snapshots, users).
    source, angle_source, distance_source : numpy.ndarray
        Sensors behind position, angle and distance, text (snapshots, users), e.g. ``csi+gps``.
    beam, next_beams : numpy.ndarray
        Strongest beam now, int64 (snapshots, users), and the best three of the next snapshots, (snapshots, ahead,
        users, 3), from 0.
    beam_source, next_beams_source : numpy.ndarray
        Origins of the beams, text (snapshots, users), e.g. ``measured``.
    """

    track: str
    expires: float
    x: Floats
    height: Floats
    position_std: Floats
    angle_deg: Floats
    angle_std_deg: Floats
    distance: Floats
    distance_resolved: npt.NDArray[np.bool_]
    in_sight: npt.NDArray[np.bool_]
    source: npt.NDArray[np.str_]
    angle_source: npt.NDArray[np.str_]
    distance_source: npt.NDArray[np.str_]
    beam: npt.NDArray[np.int64]
    beam_source: npt.NDArray[np.str_]
    next_beams: npt.NDArray[np.int64]
    next_beams_source: npt.NDArray[np.str_]


class TrackArguments(TypedDict, total=False):
    """Name the arguments of the clients' `track` beside the measurements of the users.

    Attributes
    ----------
    track : str
        `TrackedUsers.track` of the last call; without it a track begins.
    gps : array_like
        Satellite positions, x and height, (snapshots, users, 2), m; NaN where missing; they require `array_height`.
    detections : array_like
        Angle from the array's normal, degrees, and distance, m, of detected objects, (snapshots, objects, 2).
    geometry : {"line"}
        Arrangement of the antennas of a new track; there are tracks of linear arrays only, antenna 1 on top.
    array_height, tilt_deg, carrier_ghz : float
        Of a new track: height of the array's centre, m (0), its down-tilt (0) and carrier (30).
    beam_angles_deg : array_like
        Of a new track: angles of the beams of powers, rising; evenly spaced in the sine by default.
    ahead : int
        Of a new track: snapshots for which beams are forecast (3).
    """

    track: str | None
    gps: npt.ArrayLike | None
    detections: npt.ArrayLike | None
    geometry: str
    array_height: float | None
    tilt_deg: float
    carrier_ghz: float
    beam_angles_deg: npt.ArrayLike | None
    ahead: int


def make_track(
    channels: npt.ArrayLike | None,
    times: npt.ArrayLike,
    powers: npt.ArrayLike | None,
    reading: tuple[str | None, str | None],
    given: TrackArguments,
) -> TrackRequest:
    """Make a request for a track without an identifier.

    Parameters
    ----------
    channels, powers : array_like or None
        Channels or powers; exactly one of both.
    times : array_like
        Times of the snapshots, s.
    reading : tuple
        Layout and convention of the channels, as for `read_array`.
    given : TrackArguments
        Further arguments, see `TrackArguments`.

    Returns
    -------
    TrackRequest

    Raises
    ------
    TypeError
        If there is no such argument.
    BadRequest
        For an argument of a wrong type, shape or range, and for one of a new track beside `track`.
    """
    _check_names(given)
    measured = _measured(channels, powers, reading)
    steps, users = measured.shape[:2]
    moments = np.atleast_1d(_reals("times", times, "numbers of seconds"))
    if moments.shape != (steps,) or not np.isfinite(moments).all() or (np.diff(moments) <= 0).any():
        raise BadRequest(f"times must be {steps} finite rising numbers of seconds, one per snapshot, got {moments}")
    gps = _pairs("gps", given.get("gps"), steps, users)
    if gps is not None and np.isinf(gps).any():
        raise BadRequest("gps holds Inf: NaN where missing")
    if given.get("track") is None and gps is not None and given.get("array_height") is None:
        raise BadRequest("gps without the mast's position: give array_height, m")
    plain = TrackOptions(())
    options = TrackOptions(
        tuple(moments.tolist()),
        convert("track", "str | None", given.get("track")),
        _within("array_height", "float | None", given.get("array_height"), HEIGHTS, "m"),
        math.radians(_within("tilt_deg", "float", given.get("tilt_deg", 0.0), np.degrees(TILTS), "degrees")),
        1e9 * _within("carrier_ghz", "float", given.get("carrier_ghz", 30.0), np.divide(CARRIERS, 1e9), "GHz"),
        _angles(given.get("beam_angles_deg"), measured),
        int(convert("ahead", "int", given.get("ahead", plain.ahead))),
        gps,
        _pairs("detections", given.get("detections"), steps, None),
        convert("geometry", "str", given.get("geometry", plain.geometry)),
    )
    if not 1 <= options.ahead <= MAX_AHEAD:
        raise BadRequest(f"ahead must be a whole number of snapshots from 1 to {MAX_AHEAD}, got {options.ahead}")
    if options.geometry != LINE:
        raise BadRequest(f"geometry {options.geometry!r}: {LINES_ONLY}")
    return TrackRequest("", measured, convention=_convention(reading), options=options)


def _check_names(given: TrackArguments) -> None:
    """Check that the arguments of `make_track` exist, and that those of a new track are not given for another."""
    unknown = given.keys() - TrackArguments.__annotations__
    if unknown:
        raise TypeError(f"track has no argument {min(unknown)}; there are {', '.join(TrackArguments.__annotations__)}")
    of_new = [name for name, value in given.items() if value is not None and name not in _EACH_TIME]
    if given.get("track") is not None and of_new:
        raise BadRequest(f"{', '.join(of_new)}: of a new track only; leave it out, or leave out track")


def _measured(
    channels: npt.ArrayLike | None, powers: npt.ArrayLike | None, reading: tuple[str | None, str | None]
) -> npt.NDArray[Any]:
    """Return the channels, or the powers, of `make_track` as an array."""
    if (channels is None) == (powers is None):
        raise BadRequest("track takes channels or powers, one of both")
    if channels is not None:
        # The budget is not sent: any noise power leaves the channels unchecked.
        rows = make_request(channels, None, {"noise_power": 1.0}, SchemeChoice(), *reading)[0].channels
        return rows.conj() if _convention(reading) == "direct" else rows  # the server compares it with the track's
    measured = _reals("powers", powers, "(snapshots, users, beams)")
    if measured.ndim != _POWER_AXES or measured.shape[-1] < LEAST_BEAMS:
        raise BadRequest(f"powers must be (snapshots, users, beams), got shape {measured.shape}")
    if (measured < 0).any():
        raise BadRequest(NEGATIVE_POWERS)
    layout, convention = reading
    if convention is not None:
        raise BadRequest(f"convention {convention!r}: beam powers have no phase; leave it out, or give channels")
    if layout not in (None, "skn"):
        raise BadRequest(f"layout {layout!r} of powers: they are (snapshots, users, beams), 'skn'")
    if layout is None and seems_swapped(*measured.shape[1:]):
        raise BadRequest(
            f"powers {measured.shape} are read as {measured.shape[1]} users and {measured.shape[2]} beams; if they are"
            " swapped, pass np.swapaxes(powers, -1, -2); if they are not, state layout='skn'"
        )
    return measured


def _convention(reading: tuple[str | None, str | None]) -> Convention:
    return "direct" if reading[1] == "direct" else "hermitian"


def _within(name: str, annotation: str, value: Any, limits: Sequence[float] | Floats, unit: str) -> Any:
    """Convert a number; one that is not finite would be left out of the header and become the default."""
    number = convert(name, annotation, value)
    if number is not None and not limits[0] <= number <= limits[1]:
        raise BadRequest(f"{name} must be finite, from {limits[0]:.6g} to {limits[1]:.6g} {unit}, got {number:g}")
    return number


def _angles(value: npt.ArrayLike | None, measured: npt.NDArray[Any]) -> tuple[float, ...] | None:
    if value is None:
        return None
    angles = _reals("beam_angles_deg", value, "degrees").ravel()
    if not np.isfinite(angles).all():
        raise BadRequest(f"beam_angles_deg must be finite, got {angles[~np.isfinite(angles)][0]}")
    if np.iscomplexobj(measured):
        raise BadRequest("beam_angles_deg: of beam powers only; leave it out, or give powers")
    if angles.size != measured.shape[-1] or (np.diff(angles) <= 0).any() or np.abs(angles).max() > _RIGHT_ANGLE:
        raise BadRequest(
            f"beam_angles_deg must be {measured.shape[-1]} rising numbers within -90 to 90 degrees, one per beam,"
            f" got {angles}"
        )
    return tuple(angles.tolist())


def _reals(name: str, value: npt.ArrayLike | None, kind: str) -> Floats:
    found: npt.NDArray[Any] = convert(name, "npt.ArrayLike", value)
    if found.dtype.kind not in "iufb":
        raise BadRequest(f"{name} must be real {kind}, got {found.dtype}")
    return np.ascontiguousarray(found, np.float64)


def _pairs(name: str, value: npt.ArrayLike | None, steps: int, count: int | None) -> Floats | None:
    if value is None:
        return None
    found = _reals(name, value, "numbers")
    expected = f"({steps}, {'objects' if count is None else count}, 2)"
    if found.ndim == _PAIR and steps == 1:
        found = found[None]
    fits = found.ndim == _POWER_AXES and found.shape[0] == steps and found.shape[2] == _PAIR
    if fits and found.shape[1] > MAX_OBJECTS:
        raise BadRequest(f"{name}: {found.shape[1]} per snapshot, at most {MAX_OBJECTS}")
    if not fits or (count is not None and found.shape[1] != count):
        raise BadRequest(f"{name} must be {expected}, got shape {found.shape}")
    return found if found.shape[1] else None


def tracked_users_of(reply: Reply) -> TrackedUsers:
    """Make the tracks of a reply.

    Parameters
    ----------
    reply : Reply
        Reply to a `TrackRequest`.

    Returns
    -------
    TrackedUsers
        Tracks with read-only arrays.
    """
    found: dict[str, Any] = dict(reply.arrays)
    for name in ("beam", "next_beams"):
        found[name] = found[name].astype(np.int64) - 1
    for name in ("source", "angle_source", "distance_source", "beam_source", "next_beams_source"):
        names = np.array(reply.info["beam_sources" if "beam" in name else "sources"])
        found[name] = names[found[name].astype(np.int64) - 1]
    return TrackedUsers(str(reply.info["track"]), float(reply.info["expires_s"]), **found)
