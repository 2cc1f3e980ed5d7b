"""Find the kind of a ZeroMQ socket at an address, for messages about refused connections.

References
----------
ZMTP 3.0, https://rfc.zeromq.org/spec/23/: greeting, NULL mechanism, READY command.
"""

from __future__ import annotations

import socket

_SECONDS = 0.3
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_NAME = b"\x0bSocket-Type"


def socket_type_at(address: str) -> str:
    """Return the kind of the ZeroMQ socket that listens at an address.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` or ``ipc://FILE``.

    Returns
    -------
    str
        Kind, e.g. ``PUB``; empty if it is not found within a moment.
    """
    try:
        with open_connection(address, _SECONDS) as connection:
            connection.sendall(_GREETING)  # and no READY, which would be refused before the other one is sent
            return _socket_type(connection)
    except (OSError, ValueError):
        return ""


def open_connection(address: str, seconds: float) -> socket.socket:
    """Connect to a ZeroMQ address without ZeroMQ.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` or ``ipc://FILE``.
    seconds : float
        Time limit, s.

    Returns
    -------
    socket.socket
        Connection.

    Raises
    ------
    OSError, ValueError
        If nothing accepts the connection, or the address is of another form.
    """
    transport, _, rest = address.partition("://")
    if transport == "ipc":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        connection.connect(rest)
        return connection
    host, _, port = rest.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), seconds)


def _socket_type(connection: socket.socket) -> str:
    """Return the property Socket-Type of the READY command."""
    received = b""
    while True:
        _, found, value = received.partition(_NAME)
        if found and len(value) >= 4:
            length = int.from_bytes(value[:4], "big")
            if len(value) >= 4 + length:
                return value[4 : 4 + length].decode("ascii", "replace")
        more = connection.recv(256)
        if not more or len(received) > 1024:
            return ""
        received += more
