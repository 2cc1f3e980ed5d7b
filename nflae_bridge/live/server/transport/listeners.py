"""Listen on the addresses of a server, written as ZeroMQ's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket as sockets
import struct

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import check_replaceable, check_well_formed, explain_failure

_BACKLOG = 128
_LONGEST_PATH = 107  # bytes, of a socket file
_SIOCGIFADDR = 0x8915


class Listener:
    """Listen on an address.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT``, with ``*`` for all hosts or any free port, or ``ipc://FILE``.

    Attributes
    ----------
    socket : socket.socket
        Non-blocking listening socket.
    address : str
        Address with the port that was assigned.

    Raises
    ------
    NflaeError
        If the address cannot be bound; the message names it.
    """

    def __init__(self, address: str) -> None:
        check_well_formed(address)
        transport, _, rest = address.partition("://")
        self._file: str | None = None
        try:
            if transport == "ipc":
                self.socket = self._listen_on_file(address, rest)
                self.address = address
            else:
                self.socket, self.address = _listen_on_port(rest)
        except OSError as error:
            raise _unusable(address, error) from None
        self.socket.setblocking(False)

    def _listen_on_file(self, address: str, path: str) -> sockets.socket:
        check_replaceable(address, path)
        if not path.startswith("@"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        socket = sockets.socket(sockets.AF_UNIX)
        try:
            socket.bind(_name_of(path))
            socket.listen(_BACKLOG)
        except BaseException:
            socket.close()
            raise
        self._file = None if path.startswith("@") else path
        return socket

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close()
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._file)


def check_bindable(address: str) -> tuple[str, int]:
    """Check that an address can be bound; no file is made or removed, and no connection is accepted.

    Parameters
    ----------
    address : str
        As for `Listener`.

    Returns
    -------
    place : str
        IP address to bind, or the path of the socket.
    port : int
        TCP port; 0 for any free one, and without one.

    Raises
    ------
    NflaeError
        If the address cannot be bound; the message names it.
    """
    check_well_formed(address)
    transport, _, rest = address.partition("://")
    try:
        if transport == "tcp":
            with _bound_to_port(rest) as trial:
                return str(trial.getsockname()[0]), 0 if rest.endswith((":*", ":0")) else int(trial.getsockname()[1])
        elif rest.startswith("@"):
            with sockets.socket(sockets.AF_UNIX) as trial:
                trial.bind(_name_of(rest))
        elif rest != "*":
            check_replaceable(address, rest)
            folder = os.path.dirname(rest) or "."
            os.stat(folder)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "no write permission")
            if len(os.fsencode(rest)) > _LONGEST_PATH:
                raise OSError(errno.ENAMETOOLONG, "too long")
            return os.path.realpath(rest), 0
    except OSError as error:
        raise _unusable(address, error) from None
    return rest, 0


def _unusable(address: str, error: OSError) -> NflaeError:
    number = error.errno or errno.ENAMETOOLONG  # Python reports that one without a number
    return NflaeError(f"{address}: {explain_failure(zmq.ZMQError(number))}")


def _name_of(path: str) -> str:
    """Return the name of a socket file, or of an abstract socket, as the system takes it."""
    return "\0" + path[1:] if path.startswith("@") else path


def _bound_to_port(rest: str) -> sockets.socket:
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    if host == "*":
        host = "0.0.0.0"
    elif host in (name for _, name in sockets.if_nameindex()):
        host = _interface_address(host)
    try:
        found = sockets.getaddrinfo(host, 0 if port == "*" else int(port), type=sockets.SOCK_STREAM)
    except (sockets.gaierror, UnicodeError):
        raise OSError(errno.ENODEV, "no such host") from None
    family, _, _, _, where = found[0]
    socket = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        socket.bind(where)
    except BaseException:
        socket.close()
        raise
    return socket


def _listen_on_port(rest: str) -> tuple[sockets.socket, str]:
    socket = _bound_to_port(rest)
    try:
        socket.listen(_BACKLOG)
    except BaseException:
        socket.close()
        raise
    bound = socket.getsockname()
    shown = f"[{bound[0]}]" if socket.family == sockets.AF_INET6 else bound[0]
    return socket, f"tcp://{shown}:{bound[1]}"


def _interface_address(name: str) -> str:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as socket:
        answer = fcntl.ioctl(socket, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
    return sockets.inet_ntoa(answer[20:24])
