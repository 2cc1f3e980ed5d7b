"""ZeroMQ addresses: who can reach one, and why one can't be had."""

from __future__ import annotations

import errno
import ipaddress

import zmq

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
