"""Receive the messages of a flowgraph and convert them to numbered items (drops)."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.pmt import Dialect, Pair, Pmt, PmtError, decode
from nflae_bridge.live.gnuradio.sockets.endpoints import MAX_MESSAGE_BYTES, Context, Endpoint
from nflae_bridge.live.gnuradio.sockets.peers import Write
from nflae_bridge.live.gnuradio.sockets.sender import SenderSocket
from nflae_bridge.live.gnuradio.tags import Tag, TagError, decode_header, has_header

T = TypeVar("T")

# Reports a fault of a message: the kind of event, and a text.
Warn = Callable[[str, str], None]

_MAX_NUMBER = 2**64 - 1
# Messages read in one call: with more waiting, signals and readers have their turn first.
_MAX_MESSAGES = 1000
_MAX_REQUESTED = 64  # items of a message that a req socket requests for a recording


class StreamSizeError(NflaeError):
    """Report vectors of another length than the options state."""


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
    run : int
        Number of the sender's connection.
    arrived : float
        Time at which the message was read, on the clock of `time.monotonic`, s.
    header : bytes
        Tag header of the message as received; empty without tags, and for items other than a message's first.
    """

    number: int
    channels: npt.NDArray[np.complex64]
    parameters: LinkParameters
    tags: tuple[Tag, ...] = ()
    metadata: Mapping[Pmt, Pmt] = field(default_factory=dict)
    fault: str = ""
    run: int = 1
    arrived: float = field(default_factory=time.monotonic)
    header: bytes = b""

    def split(self, drops: int) -> tuple[InputItems, InputItems]:
        """Split into the first `drops` items and the others."""
        middle = self.number + drops
        head = tuple(tag for tag in self.tags if tag.offset < middle)
        tail = tuple(tag for tag in self.tags if tag.offset >= middle)
        return (
            replace(self, channels=self.channels[:drops], tags=head),
            replace(self, number=middle, channels=self.channels[drops:], tags=tail, header=b""),
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
    write : callable
        Writes the events of peers.

    Attributes
    ----------
    dialect : {"3.10", "3.9", "3.8"}
        Form of the PMTs that arrive.
    sender : SenderSocket
        Connection to the sender.

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
        write: Write = lambda event, **fields: None,
    ) -> None:
        if 8 * parameters.length > MAX_MESSAGE_BYTES:
            raise NflaeError(
                f"{parameters.antennas} antennas x {parameters.users} users: an item of"
                f" {8 * parameters.length >> 20} MiB is larger than a message may be ({MAX_MESSAGE_BYTES >> 20} MiB);"
                " use nflae precode on a file"
            )
        self.endpoint = endpoint
        self.dialect: Dialect = endpoint.pmt or "3.10"
        self.sender = SenderSocket(context, endpoint, messages, write)
        self._parameters, self._counts, self._warn, self._resizable = parameters, counts, warn, resizable
        self._next: int | None = None
        self._run = 0
        self._previous: tuple[int, int] | None = None
        self._valid_run = 0
        self._requested = 0
        self._rest: InputItems | None = None

    def gather(self, limit: int, request: bool = True) -> list[InputItems]:
        """Return the items that have arrived; with ``latest`` the newest of them only.

        Parameters
        ----------
        limit : int
            Largest number of drops.
        request : bool
            Permit a req socket to request more items.

        Returns
        -------
        list of InputItems
            Items; empty if none has arrived.

        Raises
        ------
        StreamSizeError
            If the sender's vectors have another length than the options state.
        """
        if self.endpoint.latest:
            self.skip_to_newest(request)
            newest, self._rest = self._rest, None
            return [] if newest is None else [newest]
        gathered: list[InputItems] = []
        room = limit
        while room:
            items = self._rest or self._receive(room, request)
            self._rest = None
            if items is None:
                break
            if len(items.channels) > room:
                items, self._rest = items.split(room)
            gathered.append(items)
            room -= len(items.channels)
        return gathered

    def next_message(self) -> InputItems | None:
        """Return all items of the next message, or None if none has arrived; without ``latest``.

        Returns
        -------
        InputItems or None

        Raises
        ------
        StreamSizeError
            As `gather`.
        """
        return self._receive(_MAX_REQUESTED, request=True)

    def read_ahead(self) -> None:
        """Hold the first message before anything can be computed; raises StreamSizeError as `gather`."""
        held = self._rest or self._receive(1, request=False)
        self._rest = held and replace(held, arrived=time.monotonic())  # its latency begins with the computation

    def skip_to_newest(self, request: bool = True) -> None:
        """Read the messages that have arrived, and keep the newest item; for ``latest``.

        Parameters
        ----------
        request : bool
            Permit a req socket to request more items.
        """
        for _ in range(_MAX_MESSAGES):
            items = self._receive(1, request)
            if items is None:
                return
            last = len(items.channels) - 1
            self._counts.skipped += last + (self._rest is not None)
            self._rest = items.split(last)[1]

    def _receive(self, room: int, request: bool) -> InputItems | None:
        """Return the next message that holds items, or None if there is none yet."""
        for _ in range(_MAX_MESSAGES):
            if self.endpoint.kind == "req" and request and not self.sender.request_open:
                self._requested = 1 if self.endpoint.pdu else room
                self.sender.request(struct.pack("<I", self._requested))
            frames = self.sender.receive()
            if frames is None:
                return None
            try:
                items = replace(self._decode(frames), run=self.sender.run)
            except StreamSizeError:
                raise
            except NflaeError as error:
                self._counts.malformed += 1
                self._warn("malformed", f"message of {len(frames[-1])} bytes ignored: {error}")
                continue
            if len(items.channels):
                self._valid_run = self.sender.run
                self._counts.received += len(items.channels)
                return items
        return None

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
                offset, tags, start = self._in_dialect(lambda dialect: decode_header(message, dialect))
            except TagError as error:
                raise NflaeError(f"{error}; if the sink does not pass tags, leave out ',tags' here") from None
        size = 8 * self._parameters.length
        drops, left_over = divmod(len(message) - start, size)
        if left_over:
            hint = "; its sink seems to pass tags: add ',tags' here" if not start and has_header(message) else ""
            if not hint:
                self._check_length((len(message) - start) / 8)
            raise NflaeError(f"the size of its samples is not a multiple of the item size of {size} bytes{hint}")
        if offset is not None and offset + drops > _MAX_NUMBER:
            raise NflaeError(f"its offset {offset} is out of range")
        self._check_vectors(offset, drops)
        samples = np.frombuffer(message, "<c8", offset=start)
        number = self._number(offset, drops)
        own = tuple(tag for tag in tags if number <= tag.offset < number + drops)
        channels = samples.reshape(drops, self._parameters.users, self._parameters.antennas)
        return InputItems(number, channels, self._parameters, own, header=message[:start])

    def _in_dialect(self, read: Callable[[Dialect], T]) -> T:
        """Read PMTs; recognise those of GNU Radio 3.8, by their length, where the option pmt is absent."""
        try:
            return read(self.dialect)
        except NflaeError:
            other: Dialect = "3.10" if self.dialect == "3.8" else "3.8"
            if self.endpoint.pmt:
                raise
            try:
                value = read(other)
            except NflaeError:
                other = self.dialect
            if other == self.dialect:
                raise
        self.dialect = other
        self._warn("pmt_recognised", f"the PMTs that arrive are read as pmt={other}")
        return value

    def _decode_pdu(self, message: bytes) -> InputItems:
        try:
            pdu = self._in_dialect(lambda dialect: decode(message, dialect))
        except PmtError as error:
            raise NflaeError(f"it is not a PMT: {error}") from None
        metadata = _metadata_of(pdu)
        if not {"users", "antennas"} & set(metadata):
            self._check_length(pdu.cdr.size, whole=True)
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

    def _check_length(self, numbers: float, whole: bool = False) -> None:
        """Raise StreamSizeError if a run's first message does not hold items of the size of the options."""
        users, antennas, length = self._parameters.users, self._parameters.antennas, self._parameters.length
        fits = numbers == length if whole else numbers % length == 0
        if self._valid_run == self.sender.run or not numbers or numbers % 1 or fits:
            return
        raise StreamSizeError(
            f"{self.sender.address}: a message holds {numbers:.0f} complex numbers, not"
            f" {'' if whole else 'a multiple of '}--users {users} x --antennas {antennas} = {length};"
            f" {_sizes_for(int(numbers), users, antennas)}"
        )

    def _check_vectors(self, offset: int | None, drops: int) -> None:
        """Raise StreamSizeError if the sender counts fewer vectors than items arrive."""
        length, previous = self._parameters.length, self._previous
        vectors = items = 0
        if self.endpoint.kind == "req" and self._requested < drops:
            vectors, items = self._requested, drops
        elif offset is not None and previous is not None and self._run == self.sender.run:
            vectors, items = offset - previous[0], previous[1]
        self._previous = None if offset is None else (offset, drops)
        if 0 < vectors < items:
            numbers, rest = divmod(items * length, vectors)
            if rest:
                raise StreamSizeError(
                    f"{self.sender.address}: {items} items came where the sender counts {vectors}, or {vectors} were"
                    f" requested; a sender has to send whole vectors of users x antennas = {length} complex numbers,"
                    " and no more than requested"
                )
            raise StreamSizeError(
                f"{self.sender.address}: the sender counts {vectors} vectors in {items * length} complex numbers;"
                f" {_sizes_for(numbers, self._parameters.users, self._parameters.antennas)}"
            )

    def _number(self, offset: int | None, drops: int) -> int:
        """Return the number of a message's first item; count the items missing before it."""
        expected, number = self._next, 0 if offset is None else offset
        if self._run == self.sender.run:
            number = number if offset is not None else expected or 0
        elif expected is None:
            expected = number
            if number:
                self._warn(
                    "late_start", f"the first item received is {number}; those before it are not counted as lost"
                )
        elif offset is None or number < expected:
            self._counts.restarts += 1
            self._warn("restart", f"the sender began anew; its first item here is {number}")
            expected = 0
        self._run = self.sender.run
        if expected is not None and number > expected:
            self._counts.gaps += 1
            self._counts.lost += number - expected
            self._warn("gap", f"{number - expected} items are missing before item {number}")
        elif expected is not None and number < expected:
            self._counts.restarts += 1
            self._warn("restart", f"the sender's offsets begin anew at {number}, where {expected} was next")
        self._next = number + drops
        return number


def _sizes_for(numbers: int, users: int, antennas: int) -> str:
    """Describe the options that fit a vector of as many complex numbers."""
    fits = []
    if not numbers % users:
        fits.append(f"--users {users} --antennas {numbers // users}")
    if not numbers % antennas:
        fits.append(f"--users {numbers // antennas} --antennas {antennas}")
    if fits:
        return f"if that is one vector, {' or '.join(dict.fromkeys(fits))} would fit it"
    return f"a vector's length is users x antennas, and {numbers} is a multiple of neither"


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
