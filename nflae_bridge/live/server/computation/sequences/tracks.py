"""Keep the tracks of clients between their requests, in bounded number and memory, for a limited time."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.messages import TrackOptions, TrackRequest
from nflae_bridge.live.server.computation.answer import Answer, Arrays
from nflae_bridge.live.server.computation.micro_batches import Job
from simulator.geometry.arrays import UniformLinearArray
from simulator.tracking.arrays import track_arrays
from simulator.tracking.result import source_names
from simulator.tracking.tracker import Observations, Tracker

_LIMIT = 256  # tracks
_SECONDS = 300.0  # without a snapshot
_KEPT_BYTES = 64 << 10  # of an answer that is kept for its repetition


@dataclass
class _Entry:
    client: bytes
    tracker: Tracker
    used: float
    convention: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    last: tuple[str, tuple[float, ...]] | None = None  # request and times of the last answer
    arrays: Arrays | None = None  # the last answer, unless it is large


class Tracks:
    """Keep tracks; safe between threads.

    Where there are too many, the oldest one of the client that has most is given up.

    Parameters
    ----------
    limit : int
        Largest number.
    seconds : float
        Time after the last snapshot for which a track is kept, s.
    clock : callable
        Returns the time, s.
    """

    def __init__(
        self, limit: int = _LIMIT, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._seconds, self._clock = limit, seconds, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def answer(self, job: Job) -> Answer:
        """Answer a job with a `TrackRequest`, as `advance` does; a fault is its outcome.

        Parameters
        ----------
        job : Job
            Job.

        Returns
        -------
        Answer
        """
        began, request = time.perf_counter(), job.request
        assert isinstance(request, TrackRequest)
        try:
            arrays, info = self.advance(job.client, request)
        except WireError as fault:
            return Answer(job, fault, time.perf_counter() - began)
        return Answer(job, arrays, time.perf_counter() - began, info=info)

    def advance(self, client: bytes, request: TrackRequest) -> tuple[Arrays, dict[str, Any]]:
        """Track the users of a request through its snapshots.

        Parameters
        ----------
        client : bytes
            Identity of the client.
        request : TrackRequest
            Request. One that has been answered already, and is the last of its track, gets the same answer.

        Returns
        -------
        arrays : dict
            Arrays of the answer by name, snapshots first.
        info : dict
            Identifier of the track, the time until it expires, and the names of sources.

        Raises
        ------
        WireError
            ``no_track`` for one that has expired; ``bad_request`` for times that do not rise, and for another number
            of users, antennas or beams, or convention, than those of the track.
        """
        name, entry = self._find(client, request)
        if request.convention != entry.convention:
            raise WireError(
                "bad_request",
                f"convention {request.convention}: this track has {entry.convention}; state that in every request",
            )
        with entry.lock:
            if entry.last == (request.id, request.options.times) and entry.arrays is not None:
                arrays = entry.arrays
            else:
                arrays = self._advance(entry.tracker, request)
                size = sum(values.nbytes for values in arrays.values())
                entry.last = request.id, request.options.times
                entry.arrays = arrays if size <= _KEPT_BYTES else None
        with self._lock:
            entry.used = self._clock()
            if request.options.track is None:
                self._keep(name, entry)
            elif name in self._entries:
                self._entries.move_to_end(name)
        info = {"track": name, "expires_s": self._seconds, **_names(request)}
        return {wanted: arrays[wanted] for wanted in request.want}, info

    def _find(self, client: bytes, request: TrackRequest) -> tuple[str, _Entry]:
        name, now = request.options.track, self._clock()
        with self._lock:
            while self._entries:
                oldest, entry = next(iter(self._entries.items()))
                if now - entry.used <= self._seconds:
                    break
                del self._entries[oldest]
            if name is None:
                return secrets.token_hex(12), _Entry(client, _tracker(request), now, request.convention)
            if name not in self._entries:
                raise WireError(
                    "no_track",
                    f"track {name[:40]!r} is unknown or has expired, after {self._seconds:g} s without a snapshot;"
                    " begin one by a request without track",
                )
            return name, self._entries[name]

    def _keep(self, name: str, entry: _Entry) -> None:
        if len(self._entries) >= self._limit:
            most, _ = Counter(each.client for each in self._entries.values()).most_common(1)[0]
            del self._entries[next(key for key, each in self._entries.items() if each.client == most)]
        self._entries[name] = entry

    def _advance(self, tracker: Tracker, request: TrackRequest) -> Arrays:
        options, seen = request.options, _observations(request)
        try:
            return track_arrays(tracker.advance(np.array(options.times), seen))
        except ValueError as error:
            raise WireError("bad_request", str(error)) from None


def trial_request(users: int, antennas: int) -> TrackRequest:
    """Return a request by which the time of tracks is measured.

    Parameters
    ----------
    users, antennas : int
        Size of a snapshot.

    Returns
    -------
    TrackRequest
        Request.
    """
    phases = np.random.default_rng(0).random((1, users, antennas))
    return TrackRequest("", np.exp(2j * np.pi * phases).astype(np.complex64), options=TrackOptions((0.0,)))


def _tracker(request: TrackRequest) -> Tracker:
    options = request.options
    array = UniformLinearArray(request.channels.shape[-1], options.carrier, options.height or 0.0, options.tilt)
    angles = options.beam_angles
    return Tracker(array, options.ahead, sines=None if angles is None else np.sin(np.radians(angles)))


def _observations(request: TrackRequest) -> Observations:
    options, found = request.options, request.options.detections
    objects = None
    if found is not None:
        distance = np.where(found[..., 1] > 0, found[..., 1], np.inf)
        objects = np.stack([np.radians(found[..., 0]), distance], -1)
    if request.is_powers:
        return Observations(powers=request.channels, gps=options.gps, detections=objects)
    channels = np.array(request.channels, np.complex64)  # in memory that can be written, as PyTorch requires
    if request.convention == "direct":
        np.conjugate(channels, channels)
    return Observations(torch.from_numpy(channels), gps=options.gps, detections=objects)


def _names(request: TrackRequest) -> dict[str, Any]:
    return {key: names.split(",") for key, names in source_names(request.is_powers).items()}
