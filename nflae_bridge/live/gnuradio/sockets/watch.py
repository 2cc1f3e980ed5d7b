"""Notice the end of a program that listens at an address, by a connection that carries no data.

After the end of a sender the system goes on to deliver what it has sent, and its connection is closed after that only:
not before the messages are read, which may wait for a reader. A connection without data is closed at once.
"""

from __future__ import annotations

import select
import socket
import time

from nflae_bridge.live.gnuradio.sockets.zmtp import open_connection

# ZeroMQ closes a connection without a handshake after 30 s; it is replaced before.
_AGE_SECONDS = 20.0
_CONNECT_SECONDS = 0.2
_CLOSED = getattr(select, "POLLRDHUP", select.POLLHUP) | select.POLLHUP | select.POLLERR


class ListenerWatch:
    """Hold a connection to the program at an address.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` or ``ipc://FILE``.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._opened = time.monotonic()
        self._connection = _connected(address)

    def is_gone(self) -> bool:
        """Return whether the program has ended; False where the connection could not be made."""
        if self._connection is None:
            return False
        poller = select.poll()
        poller.register(self._connection, _CLOSED)
        if poller.poll(0):
            return True
        if time.monotonic() - self._opened < _AGE_SECONDS:
            return False
        successor = _connected(self._address)
        if successor is None:
            return True
        self._connection.close()
        self._connection, self._opened = successor, time.monotonic()
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connected(address: str) -> socket.socket | None:
    try:
        return open_connection(address, _CONNECT_SECONDS)
    except (OSError, ValueError):
        return None
