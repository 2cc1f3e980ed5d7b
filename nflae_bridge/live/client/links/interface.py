"""Define the interface between a client's connection and the socket that it uses."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Protocol

from nflae_bridge.live.errors import BridgeError
from nflae_bridge.live.protocol.headers import Frame


class Link(Protocol):
    """Exchange messages with one server, and connect to it again after a loss; no method blocks but those with a time.

    Attributes
    ----------
    established : bool
        The handshake with the server has succeeded.
    accepted : bool
        The last attempt to connect has reached a program, of whatever kind.
    """

    established: bool
    accepted: bool

    def can_send(self) -> bool:
        """Return whether a message can be sent."""

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message; return False if no server is connected."""

    def receive(self, seconds: float) -> list[Frame] | None:
        """Return the next message, None if there is none within a time, s."""

    def wait(self, seconds: float) -> None:
        """Wait until a message can be sent or received, at most a time, s."""

    def loss(self) -> str | None:
        """Return the loss of the connection since the last call, as `Connection.loss` does."""

    def give_up(self) -> None:
        """Connect no more until `reset`."""

    def reset(self) -> None:
        """Replace the connection by a new one; what is unsent is discarded."""

    def close(self) -> None:
        """Disconnect at once; what is unsent is discarded."""


UNKNOWN_PEER = "the program at this address is not `nflae serve`: check host and port"


def no_socket(address: str, error: OSError) -> BridgeError:
    """Make the error of a socket that the system does not provide.

    Parameters
    ----------
    address : str
        Address to connect to.
    error : OSError
        Error of the system.

    Returns
    -------
    BridgeError
        Exception to raise.
    """
    is_full = error.errno in (errno.EMFILE, errno.ENFILE)
    remedy = ": close files and clients that are not in use, or raise `ulimit -n`" if is_full else ""
    return BridgeError(f"{address}: no socket to connect by: {(error.strerror or str(error)).lower()}{remedy}")


def mismatch(has_keys: bool) -> str:
    """Return the reason for which the handshakes of client and server do not fit.

    Parameters
    ----------
    has_keys : bool
        The client has keys.

    Returns
    -------
    str
        Reason and remedy.
    """
    if has_keys:
        return "the server has no keys, or is not `nflae serve`: leave out server_key and client_key"
    return "the server requires keys, or is not `nflae serve`: give server_key and client_key"
