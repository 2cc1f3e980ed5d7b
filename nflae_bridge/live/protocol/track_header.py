"""Define the JSON header of a request to track users."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from matlab_io.errors import NflaeError
from matlab_io.reading.arrays import check_swapped
from nflae_bridge.live.protocol.fields import Convention, Count, Id
from simulator.tracking.result import TRACK_DTYPES

TRACK_NAMES = tuple(TRACK_DTYPES)
MAX_AHEAD = 100
MAX_OBJECTS = 1024  # detected in a snapshot
LEAST_BEAMS = 3
HEIGHTS, TILTS, CARRIERS = (-1e6, 1e6), (-1.5706, 1.5706), (1e6, 1e13)  # m, rad, Hz; least and largest
NEGATIVE_POWERS = "powers: negative values; expected linear powers, not dB: 10 ** (powers / 10)"
LINE = "line"
LINES_ONLY = 'tracks are of linear arrays, "line"; of a panel send one upright column'

if TYPE_CHECKING:
    TrackName = str
else:
    TrackName = Literal[TRACK_NAMES]
_AXES = (
    "shape {} is read as antennas or beams {}, users {}; exchange the first two axes if they are swapped, or state"
    ' "layout": "nks" if they are not'
)
Measure = Literal["complex64", "complex128", "float64"]


class TrackHeader(Struct, tag_field="op", tag="track", forbid_unknown_fields=True, omit_defaults=True):
    """Hold the header of a request to track users through further snapshots.

    Attributes
    ----------
    v, id, convention, deadline_ms, want
        As for `PrecodeHeader`.
    shape : tuple of int
        Antennas or beams, users and, unless it is 1, snapshots.
    layout : {"nks"} or None
        Statement that far more users than antennas are no exchange of axes.
    times : tuple of float, or float
        Times of the snapshots, rising, s; of one snapshot a number will do.
    dtype : str
        complex64 or complex128 of channels; float64 of linear beam powers.
    track : str or None
        Identifier of the track; None begins one.
    gps : bool
        A frame holds satellite positions, 2 x K x S.
    detections : int
        Number D of detected objects, whose angles and distances are in a frame, 2 x D x S.
    geometry, array_height, array_tilt_rad, carrier_hz, beam_angles_deg, ahead
        Array and forecast of a new track, see docs/reference/protocol.md.
    """

    v: Literal[1]
    id: Id
    shape: Annotated[tuple[Count, ...], Meta(min_length=2, max_length=3)]
    times: tuple[float, ...] | float
    dtype: Measure = "complex64"
    layout: Literal["nks"] | None = None
    convention: Convention = "hermitian"
    track: Id | None = None
    gps: bool = False
    detections: Annotated[int, Meta(ge=0, le=MAX_OBJECTS)] = 0
    geometry: Annotated[str, Meta(max_length=60)] | None = None
    array_height: Annotated[float, Meta(ge=HEIGHTS[0], le=HEIGHTS[1])] | None = None
    array_tilt_rad: Annotated[float, Meta(ge=TILTS[0], le=TILTS[1])] | None = None
    carrier_hz: Annotated[float, Meta(ge=CARRIERS[0], le=CARRIERS[1])] | None = None
    beam_angles_deg: tuple[Annotated[float, Meta(ge=-90, le=90)], ...] | None = None
    ahead: Annotated[int, Meta(ge=1, le=MAX_AHEAD)] | None = None
    want: Annotated[tuple[TrackName, ...], Meta(min_length=1)] | None = None
    deadline_ms: Annotated[float, Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if len(self.moments) != self.sizes[0]:
            raise ValueError(f"{len(self.moments)} times for {self.sizes[0]} snapshots: one each")
        late = next((pair for pair in pairwise(self.moments) if not pair[0] < pair[1]), None)
        if late is not None:
            raise ValueError(f"times: {late[1]:g} s is not after {late[0]:g} s, the snapshot before")
        if self.geometry not in (None, LINE):
            raise ValueError(f"geometry {self.geometry!r}: {LINES_ONLY}")
        if self.track is not None:
            of_new = ("geometry", "array_height", "array_tilt_rad", "carrier_hz", "beam_angles_deg", "ahead")
            given = [name for name in of_new if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)}: of a new track only; leave them out, or leave out track")
        elif self.gps and self.array_height is None:
            raise ValueError("gps without the mast's position: add array_height, m")
        if self.layout is None and seems_swapped(*self.sizes[1:]):
            raise ValueError(_AXES.format(list(self.shape), *self.shape[:2]))
        self._check_powers()

    def _check_powers(self) -> None:
        beams = self.shape[0]
        if self.dtype != "float64":
            if self.beam_angles_deg is not None:
                raise ValueError('beam_angles_deg: of beam powers only, "dtype": "float64"')
            return
        if beams < LEAST_BEAMS:
            raise ValueError(f"powers of {beams} beams: at least {LEAST_BEAMS}")
        angles = self.beam_angles_deg
        if angles is not None and (len(angles) != beams or any(a >= b for a, b in pairwise(angles))):
            raise ValueError(f"beam_angles_deg: {len(angles)} values for {beams} beams; one per beam, rising")

    @property
    def moments(self) -> tuple[float, ...]:
        """Times of all snapshots, s."""
        return self.times if isinstance(self.times, tuple) else (self.times,)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Snapshots, users, and antennas or beams."""
        antennas, users, steps = (*self.shape, 1)[:3]
        return steps, users, antennas

    @property
    def frame_bytes(self) -> list[int]:
        """Sizes of the frames after the header."""
        steps, users, antennas = self.sizes
        item = {"complex64": 8, "complex128": 16, "float64": 8}[self.dtype]
        sizes = [steps * users * antennas * item]
        sizes += [16 * users * steps] if self.gps else []
        return sizes + ([16 * self.detections * steps] if self.detections else [])


def seems_swapped(users: int, antennas: int) -> bool:
    """Return whether users and antennas of a track must be named, by the rule of `check_swapped`.

    Parameters
    ----------
    users, antennas : int
        K, and N antennas or beams.

    Returns
    -------
    bool
    """
    try:
        check_swapped((users, antennas), users, antennas)
    except NflaeError:
        return True
    return False
