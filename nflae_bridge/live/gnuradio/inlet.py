"""Receive the messages of a flowgraph and convert them to numbered items (drops)."""

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
from nflae_bridge.live.gnuradio.endpoints import MAX_MESSAGE_BYTES, Context, Endpoint, bound_address, open_socket
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.pmt import Pair, Pmt, PmtError, decode
from nflae_bridge.live.gnuradio.tags import Tag, TagError, decode_header, has_header

# Reports a fault of a message: the kind of event, and a text.
Warn = Callable[[str, str], None]

_MAX_NUMBER = 2**64 - 1
_CONNECT_POLL_MS = 50


@dataclass(frozen=True)
class InputItems:
    """Hold the items of one message.

    Parameters
    ----------
    number : int
        Number of the first item, counted from the start of the stream.
    channels : numpy.ndarray
        Channels, complex64 (drops, users, antennas).
    parameters : LinkParameters
        Size and link budget of the items.
    tags : tuple of Tag
        Tags, with item numbers as offsets.
    metadata : mapping
        Metadata of a PDU.
    fault : str
        Reason why a PDU is unusable; its channels are zero then.
    """

    number: int
    channels: npt.NDArray[np.complex64]
    parameters: LinkParameters
    tags: tuple[Tag, ...] = ()
    metadata: Mapping[Pmt, Pmt] = field(default_factory=dict)
    fault: str = ""

    def split(self, drops: int) -> tuple[InputItems, InputItems]:
        """Split into the first `drops` items and the others."""
        middle = self.number + drops
        head = tuple(tag for tag in self.tags if tag.offset < middle)
        tail = tuple(tag for tag in self.tags if tag.offset >= middle)
        return (
            replace(self, channels=self.channels[:drops], tags=head),
            replace(self, number=middle, channels=self.channels[drops:], tags=tail),
        )


class Inlet:
    """Receive CSI from a socket.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket.
    endpoint : Endpoint
        Input endpoint.
    parameters : LinkParameters
        Size and link budget, unless a PDU states others.
    counts : Counts
        Counts to update.
    warn : callable
        Reports faults of messages.
    resizable : bool
        Accept PDUs of another size than `parameters`.
    messages : int
        Largest number of messages queued in the socket; then a sender that can wait does.

    Raises
    ------
    NflaeError
        If the address is unusable, or an item larger than any message.
    """

    def __init__(
        self,
        context: Context,
        endpoint: Endpoint,
        parameters: LinkParameters,
        counts: Counts,
        warn: Warn,
        resizable: bool = False,
        messages: int = 64,
    ) -> None:
        if 8 * parameters.length > MAX_MESSAGE_BYTES:
            raise NflaeError(
                f"{parameters.antennas} antennas x {parameters.users} users: an item of"
                f" {8 * parameters.length >> 20} MiB is larger than a message may be ({MAX_MESSAGE_BYTES >> 20} MiB);"
                " use nflae precode on a file"
            )
        self.endpoint = endpoint
        self._socket = open_socket(context, endpoint, messages)
        self._parameters, self._counts, self._warn, self._resizable = parameters, counts, warn, resizable
        self._next: int | None = None
        self._rest: InputItems | None = None
        self._request_open = False
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) if endpoint.kind == "req" else None

    @property
    def address(self) -> str:
        """Address that the socket is bound or connecting to."""
        return bound_address(self._socket)

    def start(self) -> None:
        """Subscribe, where the socket is a sub; until then the messages of a pub socket are missed, not queued."""
        if self.endpoint.kind == "sub":
            self._socket.subscribe(self.endpoint.key)

    def close(self) -> None:
        """Close the socket; its queued messages are lost."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def gather(self, limit: int, seconds: float, request: bool = True) -> list[InputItems]:
        """Return the items that have arrived, or the first to arrive within a time limit.

        Parameters
        ----------
        limit : int
            Largest number of drops.
        seconds : float
            Time limit, s.
        request : bool
            Permit a req socket to request more items.

        Returns
        -------
        list of InputItems
            Items; empty if none arrived.
        """
        gathered: list[InputItems] = []
        room, deadline = limit, time.monotonic() + seconds
        while room:
            items = self._rest or self._receive(room, 0 if gathered else deadline - time.monotonic(), request)
            self._rest = None
            if items is None:
                break
            if len(items.channels) > room:
                items, self._rest = items.split(room)
            gathered.append(items)
            room -= len(items.channels)
        return gathered

    def _receive(self, room: int, seconds: float, request: bool) -> InputItems | None:
        """Return the next message that holds items, or None if none arrives within the time."""
        deadline = time.monotonic() + seconds
        while True:
            if self.endpoint.kind == "req" and not self._ensure_request(room, request):
                return None
            if not self._socket.poll(max(0, round(1e3 * (deadline - time.monotonic())))):
                return None
            frames = self._socket.recv_multipart()
            self._request_open = False
            try:
                items = self._decode(frames)
            except NflaeError as error:
                self._counts.malformed += 1
                self._warn("malformed", f"message of {len(frames[-1])} bytes ignored: {error}")
                continue
            if len(items.channels):
                self._counts.received += len(items.channels)
                return items

    def _ensure_request(self, room: int, request: bool) -> bool:
        """Send a request if none is open or its peer has disconnected; return whether one is open."""
        assert self._monitor is not None
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self._request_open = False
        if not self._request_open and request:
            try:
                self._socket.send(struct.pack("<I", 1 if self.endpoint.pdu else room), zmq.NOBLOCK)
            except zmq.Again:  # a bound req socket without a peer
                self._socket.poll(_CONNECT_POLL_MS, zmq.POLLOUT)
                return False
            self._request_open = True
        return self._request_open

    def _decode(self, frames: list[bytes]) -> InputItems:
        if self.endpoint.pdu:
            return self._decode_pdu(frames[-1])
        return self._decode_samples(frames[-1])

    def _decode_samples(self, message: bytes) -> InputItems:
        offset: int | None = None
        tags: list[Tag] = []
        start = 0
        if self.endpoint.tags:
            try:
                offset, tags, start = decode_header(message)
            except TagError as error:
                raise NflaeError(f"{error}; if the sink does not pass tags, leave out ',tags' here") from None
        size = 8 * self._parameters.length
        drops, left_over = divmod(len(message) - start, size)
        if left_over:
            hint = "; its sink seems to pass tags: add ',tags' here" if not start and has_header(message) else ""
            raise NflaeError(f"the size of its samples is not a multiple of the item size of {size} bytes{hint}")
        if offset is not None and offset + drops > _MAX_NUMBER:
            raise NflaeError(f"its offset {offset} is out of range")
        samples = np.frombuffer(message, "<c8", offset=start)
        number = self._number(offset, drops)
        own = tuple(tag for tag in tags if number <= tag.offset < number + drops)
        channels = samples.reshape(drops, self._parameters.users, self._parameters.antennas)
        return InputItems(number, channels, self._parameters, own)

    def _decode_pdu(self, message: bytes) -> InputItems:
        try:
            pdu = decode(message)
        except PmtError as error:
            raise NflaeError(f"it is not a PMT: {error}") from None
        metadata = _metadata_of(pdu)
        number = self._number(None, 1)
        try:
            parameters = self._parameters.updated(metadata)
            if not self._resizable and parameters.length != self._parameters.length:
                raise NflaeError("its size differs from that of the outputs, which are streams")
            channels = _channels_of(pdu.cdr, parameters)
        except NflaeError as error:
            zeros = np.zeros((1, self._parameters.users, self._parameters.antennas), np.complex64)
            return InputItems(number, zeros, self._parameters, metadata=metadata, fault=str(error))
        return InputItems(number, channels, parameters, metadata=metadata)

    def _number(self, offset: int | None, drops: int) -> int:
        """Return the number of a message's first item; count the items missing before it."""
        expected = self._next
        number = offset if offset is not None else expected or 0
        if expected is not None and number > expected:
            self._counts.gaps += 1
            self._counts.lost += number - expected
            self._warn("gap", f"{number - expected} items are missing before item {number}")
        elif expected is not None and number < expected:
            self._counts.restarts += 1
            self._warn("restart", f"the sender's offsets begin anew at {number}, where {expected} was next")
        self._next = number + drops
        return number


def _metadata_of(pdu: Pmt) -> Mapping[Pmt, Pmt]:
    """Return the dictionary of a PDU; raise NflaeError for another PMT."""
    if isinstance(pdu, Pair) and isinstance(pdu.cdr, np.ndarray):
        if pdu.car is None:
            return {}
        if isinstance(pdu.car, dict):
            return pdu.car
    raise NflaeError("it is not a PDU, a pair of a dictionary and a c32vector")


def _channels_of(samples: npt.NDArray[np.generic], parameters: LinkParameters) -> npt.NDArray[np.complex64]:
    if samples.dtype != np.complex64:
        raise NflaeError(f"its samples are {samples.dtype}, not complex64 (a c32vector)")
    if samples.size != parameters.length:
        raise NflaeError(
            f"it has {samples.size} samples, not {parameters.antennas} antennas x {parameters.users} users"
        )
    return samples.astype(np.complex64, copy=False).reshape(1, parameters.users, parameters.antennas)
