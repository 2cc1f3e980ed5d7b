"""ZeroMQ addresses: who can reach one, and why one can't be had."""

from __future__ import annotations

import errno
import ipaddress
import socket as system_sockets

import zmq

from matlab_io.errors import NflaeError

_ADVICE = {
    "EADDRINUSE": "it is in use by another program: stop that one, or choose another address",
    "EADDRNOTAVAIL": "this machine has no such address: bind to one it has, or to tcp://*:PORT, or connect instead",
    "ENODEV": "this machine has no such address: bind to one it has, or to tcp://*:PORT, or connect instead",
    "EACCES": "permission denied: choose a port above 1023, or a folder you may write to",
    "ENOENT": "its folder does not exist: make it first",
    "EPROTONOSUPPORT": "not a protocol that ZeroMQ has here: use tcp://HOST:PORT or ipc:///PATH",
}
_OTHERWISE = "not an address: write tcp://HOST:PORT or ipc:///PATH"


def stays_on_this_machine(address: str) -> bool:
    """Whether nobody on another machine can reach a socket bound to this ZeroMQ address."""
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


def why_unusable(error: zmq.ZMQError) -> str:
    """What is wrong with an address that can't be bound or connected to, and what to do."""
    return _ADVICE.get(errno.errorcode.get(error.errno or 0, ""), _OTHERWISE)


def is_well_formed(address: str) -> bool:
    """Whether it is ``tcp://HOST:PORT`` or ``ipc://FILE``. ZeroMQ itself takes port 80x for 80 and 99999 for 34463."""
    transport, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    tcp = transport == "tcp" and host and (port == "*" or (port.isdecimal() and int(port) < 1 << 16))
    return bool(tcp) or (transport == "ipc" and bool(rest))


def require_well_formed(address: str) -> None:
    """Raises NflaeError, naming the address, if it isn't one."""
    if not is_well_formed(address):
        raise NflaeError(f"{address}: {_OTHERWISE}")


def bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Bind, and return the address that it came to: ``tcp://127.0.0.1:*`` gets a port.

    Raises NflaeError, naming the address, if it can't be had.
    """
    require_well_formed(address)
    if address.startswith("ipc://") and _somebody_listens(address.removeprefix("ipc://")):
        raise NflaeError(f"{address}: {_ADVICE['EADDRINUSE']}")  # ZeroMQ would take the file from that program
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise NflaeError(f"{address}: {why_unusable(error)}") from None
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _somebody_listens(path: str) -> bool:
    with system_sockets.socket(system_sockets.AF_UNIX) as trial:
        try:
            trial.connect(path)
        except OSError:
            return False
        return True
