"""The outputs: answers to drops go out as samples with or without tags, or as PDUs."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import zmq

from nflae_bridge.live.gnuradio.endpoints import Context, Endpoint, bound_address, open_socket
from nflae_bridge.live.gnuradio.pmt import Pair, Pmt, encode
from nflae_bridge.live.gnuradio.tags import Tag, encode_header

What: TypeAlias = Literal["precoders", "labels", "powers"]

ITEM_KEY = "nflae_item"
# Who set our tags, as GNU Radio's blocks sign theirs.
_SOURCE = "nflae"

# What may wait for one reader: then a push socket waits, and a pub socket leaves messages to that reader out.
_QUEUE_BYTES = 64 << 20
_FEWEST_MESSAGES, _MOST_MESSAGES = 4, 1000


@dataclass(frozen=True)
class Answer:
    """The answer to an `Arrival`.

    number: of the first drop. precoders: complex64 (drops, users, antennas). labels: uint8 (drops, users), 1 for near
    field. powers: float32 (drops, users), W. facts: what else is known of each drop, by the names of tags and PDU
    entries; empty if no output wants them. tags, metadata: as they came, tags with drop numbers for offsets.
    """

    number: int
    precoders: npt.NDArray[np.complex64]
    labels: npt.NDArray[np.uint8]
    powers: npt.NDArray[np.float32]
    facts: Sequence[Mapping[str, Pmt]] = ()
    tags: tuple[Tag, ...] = ()
    metadata: Mapping[Pmt, Pmt] = field(default_factory=dict)

    def values(self, what: What) -> npt.NDArray[Any]:
        """One of the three arrays with an item a row: (drops, users x antennas) or (drops, users)."""
        return np.asarray(getattr(self, what)).reshape(len(self.labels), -1)


class Outlet(ABC):
    """A socket that answers go out by; its subclasses make messages of them.

    largest: bytes of the largest message to come. Raises NflaeError for an address that can't be had.
    """

    def __init__(self, context: Context, endpoint: Endpoint, what: What, largest: int) -> None:
        self.endpoint, self.what = endpoint, what
        messages = min(_MOST_MESSAGES, max(_FEWEST_MESSAGES, _QUEUE_BYTES // max(1, largest)))
        self._socket = open_socket(context, endpoint, messages)
        self._message: bytes | None = None
        self._requested = 0

    @property
    def address(self) -> str:
        """Where it is bound or connecting to."""
        return bound_address(self._socket)

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Items put here and not yet handed to the socket."""

    @abstractmethod
    def put(self, answers: Sequence[Answer]) -> None:
        """Take answers over; `advance` sends them."""

    @abstractmethod
    def _take(self, limit: int) -> bytes:
        """A message of at most ``limit`` of the items waiting."""

    @abstractmethod
    def _taken(self) -> None:
        """The last message of `_take` is with the socket."""

    def register(self, poller: zmq.Poller) -> None:
        """Let ``poller`` wait for what `advance` waits for."""
        poller.register(
            self._socket, zmq.POLLIN if self.endpoint.kind == "rep" and not self._requested else zmq.POLLOUT
        )

    def advance(self) -> None:
        """Send what can be sent without waiting; from a rep socket what was asked for."""
        while self.waiting:
            if self.endpoint.kind == "rep" and not self._is_asked():
                return
            if self._message is None:
                self._message = self._take(self._requested or self.waiting)
            frames = [self.endpoint.key.encode(), self._message] if self.endpoint.key else [self._message]
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._message, self._requested = None, 0
            self._taken()

    def close(self, seconds: float) -> None:
        """Close, giving what was sent ``seconds`` to leave."""
        self._socket.close(linger=round(1e3 * seconds))

    def _is_asked(self) -> bool:
        """Whether a request is open. That of a gr-zeromq source holds a u32, the most items it can take."""
        if not self._requested:
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                return False
            asked = struct.unpack("<I", request)[0] if len(request) == 4 else 1
            self._requested = max(1, asked)
        return True


@dataclass
class _Parcel:
    """Rows on their way: values (rows, length), their drop numbers, and tags with rows for offsets."""

    values: npt.NDArray[Any]
    numbers: npt.NDArray[np.uint64]
    tags: list[Tag]
    sent: int = 0


class StreamOutlet(Outlet):
    """Items one after the other, several to a message.

    with_facts: whether tags tell what is known of each drop beyond its number.
    """

    def __init__(
        self, context: Context, endpoint: Endpoint, what: What, largest: int, with_facts: bool = False
    ) -> None:
        super().__init__(context, endpoint, what, largest)
        self._with_facts = with_facts
        self._parcels: deque[_Parcel] = deque()
        self._written = 0
        self._taking = 0

    @property
    def waiting(self) -> int:
        return sum(len(parcel.values) - parcel.sent for parcel in self._parcels)

    def put(self, answers: Sequence[Answer]) -> None:
        values = np.concatenate([answer.values(self.what) for answer in answers])
        numbers = [np.arange(len(answer.labels), dtype=np.uint64) + np.uint64(answer.number) for answer in answers]
        tags, first = [], 0
        for answer in answers if self.endpoint.tags else ():
            tags += [Tag(tag.offset - answer.number + first, tag.key, tag.value, tag.srcid) for tag in answer.tags]
            for row, facts in enumerate(answer.facts if self._with_facts else (), first):
                tags += [Tag(row, key, value, _SOURCE) for key, value in facts.items()]
            first += len(answer.labels)
        self._parcels.append(_Parcel(values, np.concatenate(numbers), tags))

    def _take(self, limit: int) -> bytes:
        parcel = self._parcels[0]
        start, stop = parcel.sent, min(parcel.sent + limit, len(parcel.values))
        self._taking = stop - start
        samples = parcel.values[start:stop].tobytes()
        if not self.endpoint.tags:
            return samples
        shift = self._written - start
        numbers = parcel.numbers[start:stop]
        # Every message says where it is, so that one lost on the way shifts nothing.
        numbered = [0, *(1 + np.flatnonzero(np.diff(numbers) != 1)).tolist()]
        tags = [Tag(self._written + row, ITEM_KEY, numbers[row], _SOURCE) for row in numbered]
        tags += [
            Tag(tag.offset + shift, tag.key, tag.value, tag.srcid) for tag in parcel.tags if start <= tag.offset < stop
        ]
        return encode_header(self._written, tags) + samples

    def _taken(self) -> None:
        parcel = self._parcels[0]
        parcel.sent += self._taking
        self._written += self._taking
        if parcel.sent == len(parcel.values):
            self._parcels.popleft()


class PduOutlet(Outlet):
    """One PDU a drop: its metadata, what is known of it, and the values."""

    def __init__(self, context: Context, endpoint: Endpoint, what: What, largest: int) -> None:
        super().__init__(context, endpoint, what, largest)
        self._pdus: deque[bytes] = deque()

    @property
    def waiting(self) -> int:
        return len(self._pdus)

    def put(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            for row, values in enumerate(answer.values(self.what)):
                facts = answer.facts[row] if answer.facts else {}
                metadata = {**answer.metadata, ITEM_KEY: np.uint64(answer.number + row), **facts}
                self._pdus.append(encode(Pair(metadata, values)))

    def _take(self, limit: int) -> bytes:
        return self._pdus[0]

    def _taken(self) -> None:
        self._pdus.popleft()
