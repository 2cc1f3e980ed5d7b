"""Set up connections to a server, and make and check the messages of both clients."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import explain_failure
from nflae_bridge.live.errors import BadRequest, ConnectionLost, NoAnswer, WireError, error_of_code
from nflae_bridge.live.keys import read_key_pair, read_public_key
from nflae_bridge.live.protocol import PrecodeRequest, Reply, StatusRequest, decode_reply, encode_request
from simulator.downlink.budget import BudgetError, LinkBudget

DEFAULT_TIMEOUT = 30.0  # s
RETRY_SECONDS = 0.1  # pause before a request to a server that is shutting down is sent again
MAX_LOSSES = 3  # connections per request: a frame above the server's limit costs one each time it is sent

_HEARTBEAT_MS = 2_000
_HEARTBEAT_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class ServerAddress:
    """Describe a server and the keys for it.

    Parameters
    ----------
    address : str
        ZeroMQ address.
    timeout : float
        Default time limit of a call, s.
    server_key, client_key : Path or None
        The server's NAME.key and the client's NAME.key_secret; both or neither.

    Raises
    ------
    ValueError
        If the timeout is not positive.
    NflaeError
        If only one key is given.
    """

    address: str
    timeout: float
    server_key: Path | None
    client_key: Path | None

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout must be positive, in seconds, got {self.timeout}")
        if (self.server_key is None) != (self.client_key is None):
            raise NflaeError("server_key (its .key) and client_key (your .key_secret) must be given together")

    def connect(self, socket: zmq.Socket[Any]) -> None:
        """Set the options of a DEALER socket and connect it; raises NflaeError for an unusable address or key."""
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.IPV6, "[" in self.address)
        # Detects a server that vanished without closing the connection (power, network).
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        if self.server_key is not None and self.client_key is not None:
            socket.curve_serverkey = read_public_key(self.server_key)
            socket.curve_publickey, socket.curve_secretkey = read_key_pair(self.client_key)
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            raise NflaeError(f"{self.address}: {explain_failure(error)}") from None

    def no_answer(self, timeout: float) -> NoAnswer:
        """Make the error of a request whose deadline passed after `timeout` seconds."""
        keys = " with this client's key in its --client-keys" if self.server_key else ""
        return NoAnswer(f"{self.address}: no answer within {timeout:g} s; is `nflae serve` running there{keys}?")

    def connection_lost(self) -> ConnectionLost:
        """Make the error of a request that has cost `MAX_LOSSES` connections."""
        return ConnectionLost(
            f"{self.address}: the connection was lost {MAX_LOSSES} times on this request; is it larger than the"
            f" server's --max-message-mb, does the server have {'another' if self.server_key else 'a'} key, or does"
            " it fail?"
        )


def make_request(
    channels: npt.ArrayLike,
    near_field: npt.ArrayLike | None,
    budget: dict[str, float],
    scheme: str,
    refine: int,
) -> PrecodeRequest:
    """Make a request without an identifier.

    Parameters
    ----------
    channels : array_like
        Complex channels, (drops, users, antennas) or (users, antennas).
    near_field : array_like or None
        Given near-field labels, bool (drops, users).
    budget : dict
        Fields of `LinkBudget`.
    scheme : str
        Name of the scheme.
    refine : int
        WMMSE steps after the network.

    Returns
    -------
    PrecodeRequest
        Request.

    Raises
    ------
    BadRequest
        For channels of a wrong type or shape, and for a link budget out of range.
    """
    given = np.asarray(channels)
    if not np.iscomplexobj(given) or given.ndim not in (2, 3) or given.size == 0:
        raise BadRequest(f"channels must be complex (drops, users, antennas), got {given.dtype} of {given.shape}")
    drops = given if given.ndim == 3 else given[None]
    labels = None if near_field is None else np.asarray(near_field, bool).reshape(drops.shape[:2])
    try:
        checked = LinkBudget(**{name: float(value) for name, value in budget.items()})
    except BudgetError as error:
        raise BadRequest(str(error)) from None
    return PrecodeRequest(
        "",
        drops.astype(np.complex64, copy=False),
        checked,
        scheme=scheme,
        refine=refine,
        near_field=labels,
    )


def address_request(request: PrecodeRequest | StatusRequest, request_id: str, deadline: float) -> list[Any]:
    """Encode a request under an identifier.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.
    request_id : str
        Identifier.
    deadline : float
        Deadline on the clock of `time.monotonic`, s.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, StatusRequest):
        return list(encode_request(StatusRequest(request_id)))
    return list(encode_request(replace(request, id=request_id, deadline=max(deadline - time.monotonic(), 1e-3))))


def request_ids() -> Iterator[str]:
    """Yield identifiers that no other client uses."""
    client_id = uuid.uuid4().hex[:12]
    return (f"{client_id}-{number}" for number in count())


def decode_if_valid(frames: list[bytes]) -> Reply | None:
    """Decode a reply.

    Parameters
    ----------
    frames : list of bytes
        Frames of the message.

    Returns
    -------
    Reply or None
        Reply; None for a message outside the protocol, which is ignored.
    """
    try:
        return decode_reply(frames)
    except WireError:
        return None


def raise_error(reply: Reply) -> None:
    """Raise the exception of a reply that holds an error.

    Parameters
    ----------
    reply : Reply
        Reply.

    Raises
    ------
    BridgeError
        If the reply holds an error.
    """
    if reply.error is not None:
        raise error_of_code(reply.error.code, str(reply.error))


def close_sockets(socket: zmq.Socket[Any], events: zmq.Socket[Any]) -> None:
    """Close a socket and its monitor, at once; without effect on closed ones.

    Parameters
    ----------
    socket, events : zmq.Socket
        Socket and its monitor.
    """
    if not socket.closed:
        socket.disable_monitor()
        events.close(linger=0)
        socket.close(linger=0)
