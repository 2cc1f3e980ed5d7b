"""Check and bind ZeroMQ addresses, and explain the failures."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket as system_sockets
import stat

import zmq

from matlab_io.errors import NflaeError

_REMEDIES = {
    "EADDRINUSE": "it is in use by another program: stop that program, or choose another address",
    "EADDRNOTAVAIL": "this machine has no such address: bind to one of its own, or to tcp://*:PORT, or connect instead",
    "ENODEV": "this machine has no such address: bind to one of its own, or to tcp://*:PORT, or connect instead",
    "EACCES": "permission denied: choose a port above 1023, or a folder with write permission",
    "ENAMETOOLONG": "its path is too long for a socket: choose one of at most 107 characters",
    "ENOENT": "its folder does not exist: create it first",
    "EPROTONOSUPPORT": "this ZeroMQ does not support the protocol: use tcp://HOST:PORT or ipc:///PATH",
}
_MALFORMED = "not an address: write tcp://HOST:PORT or ipc:///PATH"


def is_local(address: str) -> bool:
    """Return whether a socket bound to an address is out of reach of other machines.

    Parameters
    ----------
    address : str
        ZeroMQ address.

    Returns
    -------
    bool
        True for the loopback interface, ``ipc`` and ``inproc``; false for interface names other than ``localhost``.
    """
    transport, _, rest = address.partition("://")
    if transport in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def explain_failure(error: zmq.ZMQError) -> str:
    """Explain why an address cannot be bound or connected to.

    Parameters
    ----------
    error : zmq.ZMQError
        Error of ``bind`` or ``connect``.

    Returns
    -------
    str
        Reason and remedy, without the address.
    """
    return _REMEDIES.get(errno.errorcode.get(error.errno or 0, ""), _MALFORMED)


def is_well_formed(address: str) -> bool:
    """Return whether an address is ``tcp://HOST:PORT`` or ``ipc://FILE``.

    ZeroMQ itself accepts port 80x as 80, and 99999 as 34463, and an address up to a NUL character.

    Parameters
    ----------
    address : str
        ZeroMQ address; the port may be ``*``.

    Returns
    -------
    bool
        True for a well-formed address.
    """
    transport, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    has_port = port == "*" or (port.isascii() and port.isdecimal() and int(port) < 1 << 16)
    return _is_text(address) and bool((transport == "tcp" and host and has_port) or (transport == "ipc" and rest))


def _is_text(address: str) -> bool:
    """Return whether the system can be given an address: without NUL characters and lone surrogates of no byte."""
    try:
        return b"\0" not in os.fsencode(address)
    except UnicodeEncodeError:
        return False


def check_well_formed(address: str) -> None:
    """Check the form of an address.

    Parameters
    ----------
    address : str
        ZeroMQ address.

    Raises
    ------
    NflaeError
        If it is not ``tcp://HOST:PORT`` or ``ipc://FILE``.
    """
    if not is_well_formed(address):
        raise NflaeError(f"{address if address.isprintable() else ascii(address)}: {_MALFORMED}")


def check_connectable(address: str) -> None:
    """Check the form of an address to connect to, whose port is a number from 1.

    Parameters
    ----------
    address : str
        ZeroMQ address.

    Raises
    ------
    NflaeError
        If it is not ``tcp://HOST:PORT`` with a port from 1 to 65535 and one machine as host, or ``ipc://FILE``.
    """
    check_well_formed(address)
    transport, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if transport == "tcp" and ":" in host and "[" not in host:
        raise NflaeError(f"{address}: an IPv6 address has brackets: write tcp://[{host}]:{port}")
    if transport == "tcp" and (port == "*" or int(port) == 0):
        raise NflaeError(f"{address}: port {port} cannot be connected to: give that of the other end, from 1 to 65535")
    if "*" in (host, rest):
        raise NflaeError(f"{address}: * is for binding: give the name or address of the other machine, e.g. 127.0.0.1")


def bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Bind a socket; a file that is not an abandoned socket is never replaced.

    Parameters
    ----------
    socket : zmq.Socket
        Socket to bind.
    address : str
        ZeroMQ address; the port may be ``*``.

    Returns
    -------
    str
        Address with the port that was assigned.

    Raises
    ------
    NflaeError
        If the address cannot be bound; the message names it.
    """
    check_well_formed(address)
    if address.startswith("ipc://"):
        check_replaceable(address, address.removeprefix("ipc://"))
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise NflaeError(f"{address}: {explain_failure(error)}") from None
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def check_replaceable(address: str, path: str) -> None:
    """Check that a path has no file, or a socket without a program; binding deletes the file.

    Parameters
    ----------
    address : str
        ZeroMQ address.
    path : str
        Path in it.

    Raises
    ------
    NflaeError
        If another file, or the socket of a running program, is at the path.
    """
    if path == "*" or path.startswith("@"):  # a file or name of ZeroMQ's own choice; Linux's abstract names
        return
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise NflaeError(f"{address}: {(error.strerror or 'not accessible').lower()}: choose another path") from None
    if not stat.S_ISSOCK(mode):
        raise NflaeError(f"{address}: a file that is not a socket is at this path: choose another path, or remove it")
    if not _is_abandoned(path):
        raise NflaeError(f"{address}: {_REMEDIES['EADDRINUSE']}")


def _is_abandoned(path: str) -> bool:
    """Return whether no program listens at a socket of the file system."""
    with system_sockets.socket(system_sockets.AF_UNIX) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:  # a full backlog, another kind of socket, another account's: a program has it
            pass
    return False


def obstacle(address: str) -> str:
    """Return the reason for which nothing can accept a connection at a path.

    Parameters
    ----------
    address : str
        ZeroMQ address.

    Returns
    -------
    str
        Reason; ``""`` where none is found.
    """
    path = address.removeprefix("ipc://")
    if path == address or path.startswith("@"):
        return ""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISSOCK(mode):
            return "no program listens at the socket at this path" if _is_abandoned(path) else ""
    except FileNotFoundError:
        return "nothing is at this path"
    except OSError as error:
        return (error.strerror or "not accessible").lower()
    return f"a {'folder' if stat.S_ISDIR(mode) else 'file'}, not a socket, is at this path"
