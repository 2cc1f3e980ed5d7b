"""A TCP peer that greets as another kind of ZeroMQ socket and leaves the end of the connection to the client.

A real socket may close first, and libzmq then reports a lost connection or nothing instead of the reason.
"""

from __future__ import annotations

import socket
import threading
from typing import Self


class RawPeer:
    """Greet every connection with a security mechanism and, with NULL, a type of socket."""

    def __init__(self, mechanism: bytes, kind: bytes = b"ROUTER") -> None:
        self._greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)
        named = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
        self._ready = b"\x04" + bytes([len(named)]) + named if mechanism == b"NULL" else b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._held: list[socket.socket] = []

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._held.append(connection)
            connection.sendall(self._greeting + self._ready)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()
