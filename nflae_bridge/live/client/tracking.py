"""Make the requests of both clients for tracks, and the results of the answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.client.requests import Deadline, SchemeChoice, convert, make_request
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.messages import PrecodeRequest, Reply, StatusRequest, TrackOptions, TrackRequest
from nflae_bridge.live.protocol.track_header import LEAST_BEAMS, MAX_AHEAD

__all__ = ["AsyncTrackCalls", "TrackCalls", "TrackedUsers"]

Floats = npt.NDArray[np.float64]
_POWER_AXES, _PAIR = 3, 2


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

    @classmethod
    def of(cls, reply: Reply) -> TrackedUsers:
        """Make the result of a reply to a `TrackRequest`."""
        found: dict[str, Any] = dict(reply.arrays)
        for name in ("beam", "next_beams"):
            found[name] = found[name].astype(np.int64) - 1
        for name in ("source", "angle_source", "distance_source", "beam_source", "next_beams_source"):
            names = np.array(reply.info["beam_sources" if "beam" in name else "sources"])
            found[name] = names[found[name].astype(np.int64) - 1]
        return cls(str(reply.info["track"]), float(reply.info["expires_s"]), **found)


def make_track(
    channels: npt.ArrayLike | None,
    times: npt.ArrayLike,
    powers: npt.ArrayLike | None,
    reading: tuple[str | None, str | None],
    given: dict[str, Any],
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
    given : dict
        Further arguments of `TrackCalls.track`.

    Returns
    -------
    TrackRequest

    Raises
    ------
    BadRequest
        For an argument of a wrong type, shape or range.
    """
    measured = _measured(channels, powers, reading)
    steps, users = measured.shape[:2]
    moments = np.atleast_1d(_reals("times", times, "numbers of seconds"))
    if moments.shape != (steps,) or not np.isfinite(moments).all() or (np.diff(moments) <= 0).any():
        raise BadRequest(f"times must be {steps} finite rising numbers of seconds, one per snapshot, got {moments}")
    gps = _pairs("gps", given["gps"], steps, users)
    if given["track"] is None and gps is not None and given["array_height"] is None:
        raise BadRequest("gps without the mast's position: give array_height, m")
    angles = given["beam_angles_deg"]
    options = TrackOptions(
        tuple(moments.tolist()),
        convert("track", "str | None", given["track"]),
        convert("array_height", "float | None", given["array_height"]),
        math.radians(convert("tilt_deg", "float", given["tilt_deg"])),
        1e9 * convert("carrier_ghz", "float", given["carrier_ghz"]),
        None if angles is None else tuple(_reals("beam_angles_deg", angles, "degrees").ravel().tolist()),
        int(convert("ahead", "int", given["ahead"])),
        gps,
        _pairs("detections", given["detections"], steps, None),
    )
    if not 1 <= options.ahead <= MAX_AHEAD:
        raise BadRequest(f"ahead must be a whole number of snapshots from 1 to {MAX_AHEAD}, got {options.ahead}")
    return TrackRequest("", measured, options=options)


def _measured(
    channels: npt.ArrayLike | None, powers: npt.ArrayLike | None, reading: tuple[str | None, str | None]
) -> npt.NDArray[Any]:
    """Return the channels, or the powers, of `make_track` as an array."""
    if (channels is None) == (powers is None):
        raise BadRequest("track takes channels or powers, one of both")
    if channels is not None:
        # The budget is not sent: any noise power leaves the channels unchecked.
        return make_request(channels, None, {"noise_power": 1.0}, SchemeChoice(), *reading)[0].channels
    measured = _reals("powers", powers, "(snapshots, users, beams)")
    if measured.ndim != _POWER_AXES or measured.shape[-1] < LEAST_BEAMS:
        raise BadRequest(f"powers must be (snapshots, users, beams), got shape {measured.shape}")
    return measured


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
    if not fits or (count is not None and found.shape[1] != count):
        raise BadRequest(f"{name} must be {expected}, got shape {found.shape}")
    return found if found.shape[1] else None


class TrackCalls:
    """Add the calls for tracks to the blocking client."""

    _server: ServerAddress

    def _call(self, request: PrecodeRequest | StatusRequest, deadline: Deadline) -> Reply:
        raise NotImplementedError

    def track(
        self,
        channels: npt.ArrayLike | None = None,
        times: npt.ArrayLike = 0.0,
        *,
        powers: npt.ArrayLike | None = None,
        track: str | None = None,
        gps: npt.ArrayLike | None = None,
        detections: npt.ArrayLike | None = None,
        array_height: float | None = None,
        tilt_deg: float = 0.0,
        carrier_ghz: float = 30.0,
        beam_angles_deg: npt.ArrayLike | None = None,
        ahead: int = 3,
        layout: str | None = None,
        convention: str | None = None,
        timeout: float | None = None,
    ) -> TrackedUsers:
        """Track users through further snapshots, as ``nflae track`` does; the server keeps the state between calls.

        Parameters
        ----------
        channels, layout, convention : array_like, str
            Complex (snapshots, users, antennas) of a linear array, or of the axes of `layout`; NaN where missing.
        times : array_like
            Times of the snapshots, after those of the calls before, s.
        powers : array_like, optional
            Linear beam powers (snapshots, users, beams) instead of channels.
        track : str, optional
            `TrackedUsers.track` of the last call; None begins a track.
        gps : array_like, optional
            Satellite positions, x and height, (snapshots, users, 2), m; NaN where missing.
        detections : array_like, optional
            Angle from the array's normal, degrees, and distance, m, of detected objects, (snapshots, objects, 2).
        array_height, tilt_deg, carrier_ghz, beam_angles_deg, ahead
            Of a new track: height of the array's centre, m, its down-tilt and carrier, the angles of the beams of
            powers, evenly spaced in the sine by default, and the snapshots for which beams are forecast.
        timeout : float, optional
            As for `Client.precode`.

        Returns
        -------
        TrackedUsers

        Raises
        ------
        BridgeError
            As for `Client.precode`; `NoTrack` for a track that has expired.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        request = make_track(channels, times, powers, (layout, convention), _further(locals()))
        return TrackedUsers.of(self._call(request, deadline))


class AsyncTrackCalls:
    """Add the calls for tracks to the client for asyncio; the calls of one track have to follow one another."""

    _server: ServerAddress

    async def _call(self, request: PrecodeRequest | StatusRequest, deadline: Deadline) -> Reply:
        raise NotImplementedError

    async def track(
        self,
        channels: npt.ArrayLike | None = None,
        times: npt.ArrayLike = 0.0,
        *,
        powers: npt.ArrayLike | None = None,
        track: str | None = None,
        gps: npt.ArrayLike | None = None,
        detections: npt.ArrayLike | None = None,
        array_height: float | None = None,
        tilt_deg: float = 0.0,
        carrier_ghz: float = 30.0,
        beam_angles_deg: npt.ArrayLike | None = None,
        ahead: int = 3,
        layout: str | None = None,
        convention: str | None = None,
        timeout: float | None = None,
    ) -> TrackedUsers:
        """Track users through further snapshots; the server keeps the state between calls.

        Parameters
        ----------
        channels, times, powers, track, gps, detections, array_height, tilt_deg, carrier_ghz, beam_angles_deg, ahead, \
        layout, convention, timeout
            As for `Client.track`.

        Returns
        -------
        TrackedUsers

        Raises
        ------
        BridgeError
            As for `Client.track`.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        request = make_track(channels, times, powers, (layout, convention), _further(locals()))
        return TrackedUsers.of(await self._call(request, deadline))


_FURTHER = ("track", "gps", "detections", "array_height", "tilt_deg", "carrier_ghz", "beam_angles_deg", "ahead")


def _further(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call that are neither measurements, times nor their reading."""
    return {name: arguments[name] for name in _FURTHER}
