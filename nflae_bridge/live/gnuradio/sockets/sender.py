"""Receive the messages of one sender at a time, and notice its end.

ZeroMQ hides the loss of a connection: messages of a sender that was started anew follow those of its former run without
a mark. Here every connection has a socket of its own. It is replaced when its sender has left and all its messages are
read, so each message belongs to a known run; a sender that connects before that is admitted to the next socket. The end
of a sender comes behind its messages: while a second one waits, those of the first are read ahead.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.sockets.admission import Admission
from nflae_bridge.live.gnuradio.sockets.endpoints import Context, Endpoint, Socket, attach, bound_address, open_socket
from nflae_bridge.live.gnuradio.sockets.peers import PeerLog, PeerMonitor, Write
from nflae_bridge.live.gnuradio.sockets.watch import ListenerWatch

# Pause before an attempt to connect is repeated; after a refusal, which a new attempt rarely changes, a longer one.
_RETRY_SECONDS, _REFUSED_SECONDS = 0.05, 1.0
# Of the messages read ahead; systems queue no more for a connection, unless they are set to.
_MAX_AHEAD_BYTES = 32 << 20
# Time of one turn of reading ahead, and for the next message to arrive in it.
_AHEAD_SECONDS, _AHEAD_PAUSE_MS = 0.02, 2


@dataclass(frozen=True)
class Run:
    """Describe a run of the sender: one connection.

    Parameters
    ----------
    number : int
        Number of the run.
    ended : float or None
        Time at which its sender left, on the clock of `time.monotonic`, s; None while it is connected.
    is_last : bool
        No later run has begun.
    """

    number: int
    ended: float | None = None
    is_last: bool = True


class SenderSocket:
    """Hold the socket of the present connection.

    Parameters
    ----------
    context : zmq.Context
        Context of the sockets.
    endpoint : Endpoint
        Input endpoint.
    messages : int
        Largest number of messages queued in the socket.
    write : callable
        Writes the events of peers.

    Attributes
    ----------
    run : int
        Number of connections so far; senders that are connected at a time count as one.
    ended : dict of int to float
        Time at which each of the last runs ended, on the clock of `time.monotonic`, s.
    began : float
        Time at which the present run began, s.
    request_open : bool
        A req socket has sent a request and awaits its answer.
    address : str
        Address that the socket is bound or connecting to.

    Raises
    ------
    NflaeError
        If the address is unusable.
    """

    def __init__(self, context: Context, endpoint: Endpoint, messages: int, write: Write) -> None:
        self.run = 0
        self.began = time.monotonic()
        self.ended: dict[int, float] = {}
        self._context, self._endpoint, self._messages = context, endpoint, messages
        self._log = PeerLog(endpoint, write)
        self._subscribed = self._unbound = self._run_known = False
        self._retry_at: float | None = None
        self._ahead: deque[list[bytes]] = deque()
        self._ahead_bytes = 0
        self.request_open = False
        self._watch: ListenerWatch | None = None
        self._admission = Admission(context) if endpoint.bind else None
        self._socket, self._peers = self._open()
        try:
            attach(self._socket, endpoint)
        except NflaeError:
            self.close()
            raise
        # The port that ``*`` was assigned is kept by later sockets.
        self.address = bound_address(self._socket)
        self._endpoint = replace(endpoint, address=self.address)

    @property
    def connected(self) -> bool:
        """True while a sender is connected."""
        return bool(self._peers.joined)

    @property
    def _is_over(self) -> bool:
        """True when all senders of this socket have left."""
        return self._peers.left and not self._peers.joined

    def run_of(self, number: int) -> Run:
        """Return the state of a run.

        Parameters
        ----------
        number : int
            Number of the run.

        Returns
        -------
        Run
            State.
        """
        if number == self.run:
            return Run(number, self.ended.get(number))
        return Run(number, self.ended.get(number, -math.inf), is_last=False)

    def subscribe(self) -> None:
        """Subscribe, where the socket is a sub; until then the messages of a pub socket are missed, not queued."""
        self._subscribed = True
        if self._endpoint.kind == "sub":
            self._socket.subscribe(self._endpoint.key)

    def register(self, poller: zmq.Poller, messages: bool) -> None:
        """Register for events.

        Parameters
        ----------
        poller : zmq.Poller
            Poller.
        messages : bool
            Register for messages as well as for the events of peers.
        """
        poller.register(self._peers.monitor, zmq.POLLIN)
        if self._admission is not None:
            poller.register(self._admission.requests, zmq.POLLIN)
        if messages:
            poller.register(self._socket, zmq.POLLIN)

    def follow(self) -> None:
        """Read the events of peers, admit a sender, and make another attempt to connect where one is due."""
        self._peers.read()
        if self._peers.new:
            self._began()
        if self.run not in self.ended and (self._is_over or (self._watch is not None and self._watch.is_gone())):
            self.ended[self.run] = time.monotonic()
            self.ended.pop(self.run - 8, None)
        if self._admission is not None:
            if self._is_over and not self._unbound:
                # The next sender waits until the messages of this one are read.
                self._socket.unbind(self.address)
                self._unbound = True
            if not self._is_over:
                self._admission.read()
                must_read = self.connected and self._admission.is_awaited
                self._admission.admit(self.connected, not must_read or self._read_ahead())
        if self._retry_at is not None:
            if time.monotonic() >= self._retry_at:
                self._replace()
        elif self._peers.failed and not (self._endpoint.bind or self._peers.left or self.connected):
            refused = not self._log.is_news("refused")
            self._retry_at = time.monotonic() + (_REFUSED_SECONDS if refused else _RETRY_SECONDS)

    def receive(self) -> list[bytes] | None:
        """Return the frames of the next message of the present run, or None if there is none yet.

        After the last message of a run whose sender has left, the socket is replaced.
        """
        is_over = self._is_over
        try:
            frames = self._next()
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EFSM):
                raise
            if is_over:
                self._replace()
            return None
        self.request_open = False
        if not self._run_known:
            self.follow()  # the connection was made after the events were read last, and before this message
        return frames

    def _next(self) -> list[bytes]:
        """Return the next message; raise ZMQError if there is none."""
        if not self._ahead:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        frames = self._ahead.popleft()
        self._ahead_bytes -= sum(map(len, frames))
        return frames

    def _read_ahead(self) -> bool:
        """Read messages for a moment; return whether all that have arrived are read, or as many as are held."""
        end = time.monotonic() + _AHEAD_SECONDS
        while self._ahead_bytes < _MAX_AHEAD_BYTES:
            if not self._socket.poll(_AHEAD_PAUSE_MS):
                return True
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self._ahead.append(frames)
            self._ahead_bytes += sum(map(len, frames))
            if time.monotonic() > end:
                return False
        return True

    def request(self, frame: bytes) -> None:
        """Send a request to the sender, if one is connected and no request is open."""
        if self.connected and not self.request_open:
            self._socket.send(frame, zmq.NOBLOCK)
            self.request_open = True

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def close(self) -> None:
        """Close the socket; its queued messages are lost."""
        self._close_connection()
        if self._admission is not None:
            self._admission.close()

    def _close_connection(self) -> None:
        self._stop_watching()
        self._peers.close()
        self._socket.close(linger=0)

    def _began(self) -> None:
        is_second = self._run_known or len(self._peers.joined) > 1
        if not self._run_known:
            self._run_known = True
            self.run += 1
            self.began = time.monotonic()
        if not self._endpoint.bind:
            self._stop_watching()
            self._watch = ListenerWatch(self.address)
        if is_second:
            self._log("second_sender", message="items of two senders are mixed; connect one at a time")

    def _replace(self) -> None:
        self._close_connection()
        self._socket, self._peers = self._open()
        self._retry_at, self.request_open = None, False
        self._unbound = self._run_known = False
        try:
            attach(self._socket, self._endpoint)
        except NflaeError:  # the port is not free again yet
            self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _open(self) -> tuple[Socket, PeerMonitor]:
        socket = open_socket(self._context, self._endpoint, self._messages, reconnect=False)
        if self._subscribed and self._endpoint.kind == "sub":
            socket.subscribe(self._endpoint.key)
        if self._admission is not None:
            self._admission.protect(socket)
        return socket, PeerMonitor(socket, self._endpoint, self._log)
