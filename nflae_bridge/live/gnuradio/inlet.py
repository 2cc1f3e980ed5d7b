"""The input: messages of a flowgraph come in, numbered drops go on."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.endpoints import LARGEST_MESSAGE, Context, Endpoint, bound_address, open_socket
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.pmt import Pair, Pmt, PmtError, decode
from nflae_bridge.live.gnuradio.tags import Tag, TagError, decode_header, has_header

# Tells of trouble with a message: what kind it is, and what to do.
Warn = Callable[[str, str], None]

_LARGEST_NUMBER = 2**64 - 1


@dataclass(frozen=True)
class Arrival:
    """Drops that came in one message.

    number: of the first drop, counted from the start of the stream. channels: complex64 (drops, users, antennas).
    tags: with drop numbers for offsets. metadata: a PDU's. fault: why a PDU can't be used; its channels are zero then.
    """

    number: int
    channels: npt.NDArray[np.complex64]
    terms: LinkParameters
    tags: tuple[Tag, ...] = ()
    metadata: Mapping[Pmt, Pmt] = field(default_factory=dict)
    fault: str = ""

    def split(self, drops: int) -> tuple[Arrival, Arrival]:
        """The first ``drops`` drops, and the others."""
        middle = self.number + drops
        head = tuple(tag for tag in self.tags if tag.offset < middle)
        tail = tuple(tag for tag in self.tags if tag.offset >= middle)
        return (
            replace(self, channels=self.channels[:drops], tags=head),
            replace(self, number=middle, channels=self.channels[drops:], tags=tail),
        )


class Inlet:
    """The socket that CSI comes in by.

    terms: what holds unless a PDU says otherwise. resizable: PDUs may have another size than ``terms``.
    messages: most that may wait in the socket; a sender that can wait then does. Raises NflaeError for an address that
    can't be had and for items larger than any message.
    """

    def __init__(
        self,
        context: Context,
        endpoint: Endpoint,
        terms: LinkParameters,
        counts: Counts,
        warn: Warn,
        resizable: bool = False,
        messages: int = 64,
    ) -> None:
        if 8 * terms.length > LARGEST_MESSAGE:
            raise NflaeError(
                f"{terms.antennas} antennas x {terms.users} users: an item of {8 * terms.length >> 20} MiB is more"
                f" than a message may hold ({LARGEST_MESSAGE >> 20} MiB); use nflae precode on a file"
            )
        self.endpoint = endpoint
        self._socket = open_socket(context, endpoint, messages)
        self._terms, self._counts, self._warn, self._resizable = terms, counts, warn, resizable
        self._next: int | None = None
        self._rest: Arrival | None = None
        self._asked = False
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) if endpoint.kind == "req" else None

    @property
    def address(self) -> str:
        """Where it is bound or connecting to."""
        return bound_address(self._socket)

    def start(self) -> None:
        """Let messages come. Until then those of a sender that does not wait are missed, not queued."""
        if self.endpoint.kind == "sub":
            self._socket.subscribe(self.endpoint.key)

    def close(self) -> None:
        """Close the socket; what waits in it is lost."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def gather(self, limit: int, seconds: float, ask: bool = True) -> list[Arrival]:
        """At most ``limit`` drops: those that are there, else the first to come within ``seconds``.

        ask: whether a req socket may ask for more.
        """
        gathered: list[Arrival] = []
        room, deadline = limit, time.monotonic() + seconds
        while room:
            arrival = self._rest or self._receive(room, 0 if gathered else deadline - time.monotonic(), ask)
            self._rest = None
            if arrival is None:
                break
            if len(arrival.channels) > room:
                arrival, self._rest = arrival.split(room)
            gathered.append(arrival)
            room -= len(arrival.channels)
        return gathered

    def _receive(self, wanted: int, seconds: float, ask: bool) -> Arrival | None:
        """The next message that holds drops, or None if none is there within ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            if self.endpoint.kind == "req" and not self._may_answer_come(wanted, ask):
                return None
            if not self._socket.poll(max(0, round(1e3 * (deadline - time.monotonic())))):
                return None
            frames = self._socket.recv_multipart()
            self._asked = False
            try:
                arrival = self._understand(frames)
            except NflaeError as error:
                self._counts.malformed += 1
                self._warn("malformed", f"a message of {len(frames[-1])} bytes is left out: {error}")
                continue
            if len(arrival.channels):
                self._counts.received += len(arrival.channels)
                return arrival

    def _may_answer_come(self, wanted: int, ask: bool) -> bool:
        """Ask, if no question is open; one whose peer went away is asked again."""
        assert self._monitor is not None
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self._asked = False
        if not self._asked and ask:
            try:
                self._socket.send(struct.pack("<I", 1 if self.endpoint.pdu else wanted), zmq.NOBLOCK)
            except zmq.Again:
                return self._await_peer()
            self._asked = True
        return self._asked

    def _await_peer(self) -> bool:
        # A bound req socket whose peer is yet to come.
        self._socket.poll(50, zmq.POLLOUT)
        return False

    def _understand(self, frames: list[bytes]) -> Arrival:
        if self.endpoint.pdu:
            return self._read_pdu(frames[-1])
        return self._read_samples(frames[-1])

    def _read_samples(self, message: bytes) -> Arrival:
        offset: int | None = None
        tags: list[Tag] = []
        at = 0
        if self.endpoint.tags:
            try:
                offset, tags, at = decode_header(message)
            except TagError as error:
                raise NflaeError(f"{error}; if the sink does not pass tags, leave out ',tags' here") from None
        size = 8 * self._terms.length
        drops, left_over = divmod(len(message) - at, size)
        if left_over:
            hint = "; its sink seems to pass tags: add ',tags' here" if not at and has_header(message) else ""
            raise NflaeError(f"its samples are no multiple of an item of {size} bytes{hint}")
        if offset is not None and offset + drops > _LARGEST_NUMBER:
            raise NflaeError(f"its offset {offset} is beyond any count")
        samples = np.frombuffer(message, "<c8", offset=at)
        number = self._number(offset, drops)
        inside = tuple(tag for tag in tags if number <= tag.offset < number + drops)
        return Arrival(number, samples.reshape(drops, self._terms.users, self._terms.antennas), self._terms, inside)

    def _read_pdu(self, message: bytes) -> Arrival:
        try:
            pdu = decode(message)
        except PmtError as error:
            raise NflaeError(f"it is no PMT: {error}") from None
        metadata = _metadata_of(pdu)
        number = self._number(None, 1)
        try:
            terms = self._terms.overruled_by(metadata)
            if not self._resizable and terms.length != self._terms.length:
                raise NflaeError("its size differs from that of the outputs, which are streams")
            channels = _channels_of(pdu.cdr, terms)
        except NflaeError as error:
            nothing = np.zeros((1, self._terms.users, self._terms.antennas), np.complex64)
            return Arrival(number, nothing, self._terms, metadata=metadata, fault=str(error))
        return Arrival(number, channels, terms, metadata=metadata)

    def _number(self, offset: int | None, drops: int) -> int:
        """The number of a message's first drop; keeps count of what lies between two messages."""
        expected = self._next
        number = offset if offset is not None else expected or 0
        if expected is not None and number > expected:
            self._counts.gaps += 1
            self._counts.lost += number - expected
            self._warn("gap", f"{number - expected} items are missing before item {number}")
        elif expected is not None and number < expected:
            self._counts.restarts += 1
            self._warn("restart", f"the sender counts anew, from {number}, where {expected} was next")
        self._next = number + drops
        return number


def _metadata_of(pdu: Pmt) -> Mapping[Pmt, Pmt]:
    """Raises NflaeError for a PMT that is no PDU."""
    if isinstance(pdu, Pair) and isinstance(pdu.cdr, np.ndarray):
        if pdu.car is None:
            return {}
        if isinstance(pdu.car, dict):
            return pdu.car
    raise NflaeError("it is no PDU, a pair of a dictionary and a c32vector")


def _channels_of(samples: npt.NDArray[np.generic], terms: LinkParameters) -> npt.NDArray[np.complex64]:
    if samples.dtype != np.complex64:
        raise NflaeError(f"its samples are {samples.dtype}, not complex64 (a c32vector)")
    if samples.size != terms.length:
        raise NflaeError(f"it has {samples.size} samples, not {terms.antennas} antennas x {terms.users} users")
    return samples.astype(np.complex64, copy=False).reshape(1, terms.users, terms.antennas)
