"""Send items to a flowgraph, as samples with or without tags, or as PDUs."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from nflae_bridge.live.gnuradio.endpoints import Context, Endpoint, bound_address, open_socket
from nflae_bridge.live.gnuradio.items import OutputItems, Stream
from nflae_bridge.live.gnuradio.pmt import Pair, encode
from nflae_bridge.live.gnuradio.tags import Tag, encode_header

ITEM_KEY = "nflae_item"
# Source of these tags, in the field where GNU Radio's blocks put their own name.
_SRCID = "nflae"

# Queue for one reader: when it is full, a push socket waits and a pub socket discards messages for that reader.
_QUEUE_BYTES = 64 << 20
_MIN_MESSAGES, _MAX_MESSAGES = 4, 1000


class Outlet(ABC):
    """Send the items of one stream by a socket; the subclasses form the messages.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket.
    endpoint : Endpoint
        Output endpoint.
    stream : {"precoders", "labels", "powers"}
        Stream to send.
    max_bytes : int
        Size of the largest message to come.

    Raises
    ------
    NflaeError
        If the address is unusable.
    """

    def __init__(self, context: Context, endpoint: Endpoint, stream: Stream, max_bytes: int) -> None:
        self.endpoint, self.stream = endpoint, stream
        messages = min(_MAX_MESSAGES, max(_MIN_MESSAGES, _QUEUE_BYTES // max(1, max_bytes)))
        self._socket = open_socket(context, endpoint, messages)
        self._message: bytes | None = None
        self._requested = 0

    @property
    def address(self) -> str:
        """Address that the socket is bound or connecting to."""
        return bound_address(self._socket)

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Items that the socket has not taken yet."""

    @abstractmethod
    def put(self, blocks: Sequence[OutputItems]) -> None:
        """Append items, which `advance` sends."""

    @abstractmethod
    def _next_message(self, limit: int) -> bytes:
        """Return a message of at most `limit` of the waiting items."""

    @abstractmethod
    def _remove_sent(self) -> None:
        """Remove the items of the last message, which the socket has taken."""

    def register(self, poller: zmq.Poller) -> None:
        """Register the socket for the event that `advance` needs next."""
        poller.register(
            self._socket, zmq.POLLIN if self.endpoint.kind == "rep" and not self._requested else zmq.POLLOUT
        )

    def advance(self) -> None:
        """Send all messages that can be sent without waiting; by a rep socket those that were requested."""
        while self.waiting:
            if self.endpoint.kind == "rep" and not self._receive_request():
                return
            if self._message is None:
                self._message = self._next_message(self._requested or self.waiting)
            frames = [self.endpoint.key.encode(), self._message] if self.endpoint.key else [self._message]
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._message, self._requested = None, 0
            self._remove_sent()

    def close(self, seconds: float) -> None:
        """Close the socket; messages already sent have `seconds` to leave."""
        self._socket.close(linger=round(1e3 * seconds))

    def _receive_request(self) -> bool:
        """Return whether a request is open; that of a gr-zeromq source holds the most items it accepts, a u32."""
        if not self._requested:
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                return False
            items = struct.unpack("<I", request)[0] if len(request) == 4 else 1
            self._requested = max(1, items)
        return True


@dataclass
class _Rows:
    """Waiting items: values (rows, length), item numbers, and tags with rows as offsets."""

    values: npt.NDArray[Any]
    numbers: npt.NDArray[np.uint64]
    tags: list[Tag]
    sent: int = 0


class StreamOutlet(Outlet):
    """Send items as samples, several per message.

    Parameters
    ----------
    context, endpoint, stream, max_bytes
        As for `Outlet`.
    result_tags : bool
        Add tags that hold the further results of each drop.
    """

    def __init__(
        self, context: Context, endpoint: Endpoint, stream: Stream, max_bytes: int, result_tags: bool = False
    ) -> None:
        super().__init__(context, endpoint, stream, max_bytes)
        self._result_tags = result_tags
        self._blocks: deque[_Rows] = deque()
        self._written = 0
        self._in_message = 0

    @property
    def waiting(self) -> int:
        """Items that the socket has not taken yet."""
        return sum(len(block.values) - block.sent for block in self._blocks)

    def put(self, blocks: Sequence[OutputItems]) -> None:
        """Append items, which `advance` sends."""
        values = np.concatenate([block.rows(self.stream) for block in blocks])
        numbers = [np.arange(block.drops, dtype=np.uint64) + np.uint64(block.number) for block in blocks]
        tags, first = [], 0
        for block in blocks if self.endpoint.tags else ():
            tags += [Tag(tag.offset - block.number + first, tag.key, tag.value, tag.srcid) for tag in block.tags]
            for row, results in enumerate(block.results if self._result_tags else (), first):
                tags += [Tag(row, key, value, _SRCID) for key, value in results.items()]
            first += block.drops
        self._blocks.append(_Rows(values, np.concatenate(numbers), tags))

    def _next_message(self, limit: int) -> bytes:
        block = self._blocks[0]
        start, stop = block.sent, min(block.sent + limit, len(block.values))
        self._in_message = stop - start
        samples = block.values[start:stop].tobytes()
        if not self.endpoint.tags:
            return samples
        shift = self._written - start
        numbers = block.numbers[start:stop]
        # Every message states its item number, so that a lost one shifts nothing.
        numbered = [0, *(1 + np.flatnonzero(np.diff(numbers) != 1)).tolist()]
        tags = [Tag(self._written + row, ITEM_KEY, numbers[row], _SRCID) for row in numbered]
        tags += [
            Tag(tag.offset + shift, tag.key, tag.value, tag.srcid) for tag in block.tags if start <= tag.offset < stop
        ]
        return encode_header(self._written, tags) + samples

    def _remove_sent(self) -> None:
        block = self._blocks[0]
        block.sent += self._in_message
        self._written += self._in_message
        if block.sent == len(block.values):
            self._blocks.popleft()


class PduOutlet(Outlet):
    """Send one PDU per drop: its metadata with the further results, and the values.

    Parameters
    ----------
    context, endpoint, stream, max_bytes
        As for `Outlet`.
    """

    def __init__(self, context: Context, endpoint: Endpoint, stream: Stream, max_bytes: int) -> None:
        super().__init__(context, endpoint, stream, max_bytes)
        self._pdus: deque[bytes] = deque()

    @property
    def waiting(self) -> int:
        """Items that the socket has not taken yet."""
        return len(self._pdus)

    def put(self, blocks: Sequence[OutputItems]) -> None:
        """Append items, which `advance` sends."""
        for block in blocks:
            for row, values in enumerate(block.rows(self.stream)):
                results = block.results[row] if block.results else {}
                metadata = {**block.metadata, ITEM_KEY: np.uint64(block.number + row), **results}
                self._pdus.append(encode(Pair(metadata, values)))

    def _next_message(self, limit: int) -> bytes:
        return self._pdus[0]

    def _remove_sent(self) -> None:
        self._pdus.popleft()
