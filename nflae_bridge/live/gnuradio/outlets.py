"""Send items to a flowgraph, as samples with or without tags, or as PDUs."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.computation.items import ALWAYS_TAGGED, OutputItems, Stream
from nflae_bridge.live.gnuradio.pmt import Dialect, Pair, Pmt, encode
from nflae_bridge.live.gnuradio.sockets.endpoints import Context, Endpoint, attach, bound_address, open_socket
from nflae_bridge.live.gnuradio.sockets.peers import PeerLog, PeerMonitor, Write
from nflae_bridge.live.gnuradio.sockets.replies import ReplySocket
from nflae_bridge.live.gnuradio.sockets.sender import Run
from nflae_bridge.live.gnuradio.tags import Tag, encode_header

ITEM_KEY = "nflae_item"
# Source of these tags, in the field where GNU Radio's blocks put their own name.
_SRCID = "nflae"

# Queue for one reader: when it is full, a push socket waits and a pub socket discards messages for that reader.
_QUEUE_BYTES = 64 << 20
_MIN_MESSAGES, _MAX_MESSAGES = 4, 1000


class Outlet(ABC):
    """Send the items of one stream by a socket; the subclasses form the messages.

    Items of a run whose sender has left go to readers that had connected before, not to later ones; without such a
    reader they are discarded. Items of the last run that no reader has yet connected for wait for one.

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
    write : callable
        Writes the events of peers.

    Raises
    ------
    NflaeError
        If the address is unusable.
    """

    # The answer without items.
    empty: bytes = b""

    def __init__(
        self,
        context: Context,
        endpoint: Endpoint,
        stream: Stream,
        max_bytes: int,
        write: Write = lambda event, **fields: None,
    ) -> None:
        self.endpoint, self.stream, self._write = endpoint, stream, write
        messages = min(_MAX_MESSAGES, max(_MIN_MESSAGES, _QUEUE_BYTES // max(1, max_bytes)))
        self._socket = open_socket(context, endpoint, messages)
        self._replies = ReplySocket(context, self._socket) if endpoint.kind == "rep" else None
        self._peers = PeerMonitor(self._socket, endpoint, PeerLog(endpoint, write))
        self._message: bytes | None = None
        self._dialect: Dialect = "3.10"
        self._last_reader = -math.inf
        self._unread_run = 0
        try:
            attach(self._socket, endpoint)
        except NflaeError:
            self.close(0)
            raise

    @property
    def address(self) -> str:
        """Address that the socket is bound or connecting to."""
        return bound_address(self._socket)

    @property
    def has_reader(self) -> bool:
        """True while a reader is connected."""
        return bool(self._peers.joined)

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Items that the socket has not taken yet."""

    @property
    @abstractmethod
    def _run(self) -> int:
        """Run of the next waiting item."""

    @abstractmethod
    def _put(self, blocks: Sequence[OutputItems]) -> None:
        """Append items, which `advance` sends."""

    @abstractmethod
    def _next_message(self, limit: int) -> bytes:
        """Return a message of at most `limit` of the waiting items, all of one run."""

    @abstractmethod
    def _remove_sent(self) -> None:
        """Remove the items of the last message, which the socket has taken."""

    @abstractmethod
    def _discard(self, run: int) -> int:
        """Remove the waiting items of a run; return their number."""

    def put(self, blocks: Sequence[OutputItems], dialect: Dialect = "3.10") -> None:
        """Append items, which `advance` sends.

        Parameters
        ----------
        blocks : sequence of OutputItems
            Items.
        dialect : {"3.10", "3.9", "3.8"}
            Form of the PMTs, unless the endpoint states one.
        """
        self._dialect = self.endpoint.pmt or dialect
        self._put(blocks)

    def register(self, poller: zmq.Poller) -> None:
        """Register for the events of peers, for requests, and for the next message that waits."""
        poller.register(self._peers.monitor, zmq.POLLIN)
        if self._replies is not None:
            if not self._replies.full:
                poller.register(self._socket, zmq.POLLIN)
        elif self.waiting:
            poller.register(self._socket, zmq.POLLOUT)

    def sender_left(self, run: int, began: float) -> None:
        """Record that the sender of a run has left; items that no reader has connected for in that run wait for one.

        Parameters
        ----------
        run : int
            Number of the run.
        began : float
            Time at which it began, on the clock of `time.monotonic`, s.
        """
        if self._last_reader < began:
            self._unread_run = run

    def follow(self) -> None:
        """Read the events of peers, and requests."""
        self._peers.read()
        if self._replies is not None:
            if self.endpoint.bind:
                self._replies.joined(self._peers.new)
            self._replies.read()
            prompted = self._replies.prompt(self.empty)
            if prompted:
                self._write("prompted", readers=prompted, message="an empty answer to readers that sent no request")
        if self._peers.joined:
            self._last_reader = time.monotonic()

    def accepts(self, run: Run) -> bool:
        """Return whether items of a run may be sent, or wait for a reader.

        Parameters
        ----------
        run : Run
            Run of the sender.

        Returns
        -------
        bool
            False if they are to be discarded.
        """
        if run.ended is None:
            return True
        if self.endpoint.kind == "pub" and self._peers.joined:
            return max(self._peers.joined.values()) < run.ended  # a pub socket sends to all readers
        if any(joined < run.ended for joined in self._peers.joined.values()):
            return True
        return run.is_last and run.number == self._unread_run

    def advance(self, run_of: Callable[[int], Run] = Run) -> int:
        """Send all messages that can be sent without waiting; by a rep socket those that were requested.

        Parameters
        ----------
        run_of : callable
            Returns the `Run` of a number.

        Returns
        -------
        int
            Items discarded, because the sender and all readers of their run have left.
        """
        discarded = 0
        while self.waiting:
            run = run_of(self._run)
            if not self.accepts(run):
                self._message = None
                discarded += self._discard(run.number)
            elif not self._send_next(run):
                break
        return discarded

    def close(self, seconds: float) -> None:
        """Close the socket; messages already sent have `seconds` to leave. Open requests are answered without items."""
        if self._replies is not None:
            self._replies.release(self.empty)
        self._peers.close()
        self._socket.close(linger=round(1e3 * seconds))

    def _send_next(self, run: Run) -> bool:
        """Send the next message; return whether the socket has taken it."""
        if self._replies is not None:
            anyone = run.ended is None or run.number == self._unread_run
            request = self._replies.next_request(math.inf if anyone else run.ended or 0.0)
            if request is None:
                return False
            if self._replies.answer(request, self._next_message(request.items)):
                self._remove_sent()
            return True
        if self._message is None:
            self._message = self._next_message(self.waiting)
        frames = [self.endpoint.key.encode(), self._message] if self.endpoint.key else [self._message]
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._message = None
        self._remove_sent()
        return True


@dataclass
class _Rows:
    """Waiting items: values (rows, length), item numbers, and tags with rows as offsets."""

    values: npt.NDArray[Any]
    numbers: npt.NDArray[np.uint64]
    tags: list[Tag]
    run: int
    sent: int = 0


class StreamOutlet(Outlet):
    """Send items as samples, several per message.

    Parameters
    ----------
    context, endpoint, stream, max_bytes, write
        As for `Outlet`.
    result_tags : bool
        Add tags that hold the further results of each drop.
    """

    def __init__(
        self,
        context: Context,
        endpoint: Endpoint,
        stream: Stream,
        max_bytes: int,
        result_tags: bool = False,
        write: Write = lambda event, **fields: None,
    ) -> None:
        self._result_tags = result_tags
        self._blocks: deque[_Rows] = deque()
        self._written = 0
        self._in_message = 0
        # GNU Radio's source throws an exception at a message without the header.
        self.empty = encode_header(0, []) if endpoint.tags else b""
        super().__init__(context, endpoint, stream, max_bytes, write)

    @property
    def waiting(self) -> int:
        """Items that the socket has not taken yet."""
        return sum(len(block.values) - block.sent for block in self._blocks)

    @property
    def _run(self) -> int:
        return self._blocks[0].run

    def _put(self, blocks: Sequence[OutputItems]) -> None:
        for run, group in groupby(blocks, key=lambda block: block.run):
            self._blocks.append(self._rows(list(group), run))

    def _rows(self, blocks: Sequence[OutputItems], run: int) -> _Rows:
        values = np.concatenate([block.rows(self.stream) for block in blocks])
        numbers = [np.arange(block.drops, dtype=np.uint64) + np.uint64(block.number) for block in blocks]
        tags, first = [], 0
        for block in blocks if self.endpoint.tags else ():
            tags += [Tag(tag.offset - block.number + first, tag.key, tag.value, tag.srcid) for tag in block.tags]
            for row, results in enumerate(block.results, first):
                kept = results if self._result_tags else {key: results[key] for key in ALWAYS_TAGGED if key in results}
                tags += [Tag(row, key, value, _SRCID) for key, value in kept.items()]
            first += block.drops
        return _Rows(values, np.concatenate(numbers), tags, run)

    def _discard(self, run: int) -> int:
        discarded = self.waiting
        while self._blocks and self._blocks[0].run == run:
            self._blocks.popleft()
        return discarded - self.waiting

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
        return encode_header(self._written, tags, self._dialect) + samples

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
    context, endpoint, stream, max_bytes, write
        As for `Outlet`.
    """

    # GNU Radio's block logs these bytes as an invalid PMT, and sends its request again.
    empty = b"\xff"

    def __init__(
        self,
        context: Context,
        endpoint: Endpoint,
        stream: Stream,
        max_bytes: int,
        write: Write = lambda event, **fields: None,
    ) -> None:
        self._pdus: deque[tuple[int, Pmt]] = deque()
        super().__init__(context, endpoint, stream, max_bytes, write)

    @property
    def waiting(self) -> int:
        """Items that the socket has not taken yet."""
        return len(self._pdus)

    @property
    def _run(self) -> int:
        return self._pdus[0][0]

    def _put(self, blocks: Sequence[OutputItems]) -> None:
        for block in blocks:
            for row, values in enumerate(block.rows(self.stream)):
                results = block.results[row] if block.results else {}
                metadata = {**block.metadata, ITEM_KEY: np.uint64(block.number + row), **results}
                self._pdus.append((block.run, Pair(metadata, values)))

    def _next_message(self, limit: int) -> bytes:
        return encode(self._pdus[0][1], self._dialect)

    def _remove_sent(self) -> None:
        self._pdus.popleft()

    def _discard(self, run: int) -> int:
        discarded = self.waiting
        while self._pdus and self._pdus[0][0] == run:
            self._pdus.popleft()
        return discarded - self.waiting
