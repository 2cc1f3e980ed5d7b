"""Encode and decode the requests to track users."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.binary import DTYPES, little_endian, read_array
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.messages import TrackOptions, TrackRequest
from nflae_bridge.live.protocol.track_header import LINE, NEGATIVE_POWERS, TRACK_NAMES, TrackHeader, seems_swapped


def encode_track(request: TrackRequest) -> list[Frame]:
    """Encode a request to track users.

    Parameters
    ----------
    request : TrackRequest
        Request.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    options = request.options
    is_new = options.track is None
    header = TrackHeader(
        1,
        request.id,
        request.channels.shape[::-1],
        options.times,
        dtype=request.channels.dtype.name,  # type: ignore[arg-type]
        layout="nks" if seems_swapped(*request.channels.shape[1:]) else None,
        convention=request.convention,
        track=options.track,
        gps=options.gps is not None,
        detections=0 if options.detections is None else options.detections.shape[1],
        want=None if request.want == TRACK_NAMES else request.want,
        deadline_ms=None if request.deadline == math.inf else 1e3 * request.deadline,
        geometry=options.geometry if is_new and options.geometry != LINE else None,
        array_height=options.height if is_new else None,
        array_tilt_rad=options.tilt if is_new else None,
        carrier_hz=options.carrier if is_new else None,
        beam_angles_deg=options.beam_angles if is_new else None,
        ahead=options.ahead if is_new else None,
    )
    measured = (request.channels, options.gps, options.detections)
    return [msgspec.json.encode(header), *(little_endian(each) for each in measured if each is not None)]


def decode_track(header: TrackHeader, frames: Sequence[Frame]) -> TrackRequest:
    """Decode a request to track users; its arrays are views of the frames.

    Parameters
    ----------
    header : TrackHeader
        Its header.
    frames : sequence of bytes or memoryview
        All frames, as many as the header announces.

    Returns
    -------
    TrackRequest

    Raises
    ------
    WireError
        ``bad_request``, with the name of the frame or field.
    """
    steps, users, antennas = header.sizes
    measured = "powers" if header.dtype == "float64" else "channels"
    if measured == "powers" and header.convention != "hermitian":
        raise WireError("bad_request", f"convention {header.convention}: powers have no phase; leave it out")
    channels = read_array(frames[1], measured, DTYPES[header.dtype], (steps, users, antennas))
    if measured == "powers" and (channels < 0).any():
        raise WireError("bad_request", NEGATIVE_POWERS)
    rest, real = list(frames[2:]), DTYPES["float64"]
    gps = read_array(rest.pop(0), "gps", real, (steps, users, 2)) if header.gps else None
    if gps is not None and np.isinf(gps).any():
        raise WireError("bad_request", "gps holds Inf: NaN where missing")
    found = read_array(rest.pop(0), "detections", real, (steps, header.detections, 2)) if header.detections else None
    want = TRACK_NAMES if header.want is None else header.want
    if len(set(want)) != len(want):
        raise WireError("bad_request", "want names an array twice")
    default = TrackOptions(header.moments)
    options = TrackOptions(
        header.moments,
        header.track,
        header.array_height,
        default.tilt if header.array_tilt_rad is None else header.array_tilt_rad,
        default.carrier if header.carrier_hz is None else header.carrier_hz,
        header.beam_angles_deg,
        default.ahead if header.ahead is None else header.ahead,
        gps,
        found,
        LINE if header.geometry is None else header.geometry,
    )
    deadline = math.inf if header.deadline_ms is None else header.deadline_ms / 1e3
    return TrackRequest(
        header.id, np.asarray(channels), convention=header.convention, want=want, deadline=deadline, options=options
    )
