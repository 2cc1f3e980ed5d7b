"""Receive the events of a ZeroMQ socket's connections such that no thread of ZeroMQ ever waits for their reader.

ZeroMQ's I/O thread, which serves all sockets of a context, writes an event by a blocking send. It waits for ever where
the reader's queue is full (1000 events by default), and where the reader is closed while the socket still has events:
closing a socket only begins its end, so the monitor is stopped first, also where its owner is dropped without a close.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from itertools import count
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

_names = count()


class Monitor:
    """Read the events of a socket's connections; the end of this object stops the monitor.

    Parameters
    ----------
    socket : zmq.Socket
        Socket, before it is bound or connected.
    events : int
        Events to receive, a sum of ``zmq.EVENT_...``.

    Attributes
    ----------
    reader : zmq.Socket
        Socket that becomes readable when an event has occurred.
    """

    def __init__(self, socket: zmq.Socket[bytes], events: int) -> None:
        self.reader: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
        self.reader.rcvhwm = 0
        address = f"inproc://nflae-events-{next(_names)}"
        socket.monitor(address, events)
        self.reader.connect(address)
        self._stop = weakref.finalize(self, _stop, socket, self.reader, os.getpid())

    def read(self) -> Iterator[tuple[int, int]]:
        """Return the events that have occurred and are not read yet, each with its value.

        Yields
        ------
        event : int
            One of ``zmq.EVENT_...``.
        value : int
            Its value: a file descriptor, an error code or an interval, by the kind of event.
        """
        while int(self.reader.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            message: dict[str, Any] = dict(recv_monitor_message(self.reader, zmq.NOBLOCK))
            yield int(message["event"]), int(message["value"])

    def close(self) -> None:
        """Stop the monitor; before its socket is closed."""
        self._stop()


def _stop(socket: zmq.Socket[bytes], reader: zmq.Socket[bytes], process: int) -> None:
    if process != os.getpid():  # in a child of fork ZeroMQ's locks may be held by threads that it lacks
        return
    if not socket.closed:
        socket.disable_monitor()
    reader.close(linger=0)
