"""Parse the endpoints of a stream, ``KIND:ADDRESS[,OPTION...]``, and open their ZeroMQ sockets.

Input kinds are ``pull``, ``sub`` and ``req``, output kinds ``push``, ``pub`` and ``rep``: each meets the gr-zeromq
block of the opposite name. By default inputs connect and outputs bind, because gr-zeromq's sinks bind and its sources
connect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import bind, explain_failure, is_well_formed

Socket: TypeAlias = "zmq.Socket[bytes]"
Context: TypeAlias = "zmq.Context[Socket]"

INPUT_KINDS = {"pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.REQ}
OUTPUT_KINDS = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.REP}

# No message of a flowgraph comes near this size; ZeroMQ disconnects a sender that announces more.
MAX_MESSAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class Endpoint:
    """Describe one end of a ZeroMQ connection.

    Parameters
    ----------
    kind : {"pull", "sub", "req", "push", "pub", "rep"}
        Kind of socket.
    address : str
        ZeroMQ address, e.g. ``tcp://127.0.0.1:5556``.
    bind : bool
        Bind instead of connect.
    tags : bool
        Samples follow gr-zeromq's tag header.
    pdu : bool
        Messages are PDUs (serialised PMTs) instead of samples.
    key : str
        Frame sent before each message of pub, and the subscription of sub; empty for no such frame.
    """

    kind: str
    address: str
    bind: bool
    tags: bool = False
    pdu: bool = False
    key: str = ""

    @property
    def is_input(self) -> bool:
        """True where messages are received."""
        return self.kind in INPUT_KINDS

    def __str__(self) -> str:
        options = [name for name in ("tags", "pdu") if getattr(self, name)] + ([f"key={self.key}"] if self.key else [])
        return ",".join([f"{self.kind}:{self.address}", "bind" if self.bind else "connect", *options])


def parse_endpoint(text: str, is_input: bool) -> Endpoint:
    """Parse an endpoint.

    Parameters
    ----------
    text : str
        ``KIND:ADDRESS[,OPTION...]``.
    is_input : bool
        Selects the kinds that are allowed.

    Returns
    -------
    Endpoint
        Endpoint.

    Raises
    ------
    ValueError
        If the text has another form; the message states the form.
    """
    kinds = INPUT_KINDS if is_input else OUTPUT_KINDS
    kind, _, rest = text.partition(":")
    address, *options = rest.split(",")
    if kind not in kinds or "://" not in address:
        example = f"{next(iter(kinds))}:tcp://127.0.0.1:5556"
        raise ValueError(f"{text!r}: expected KIND:ADDRESS, KIND one of {', '.join(kinds)}; for instance {example}")
    if not is_well_formed(address):
        raise ValueError(f"{text!r}: an address is tcp://HOST:PORT, PORT at most 65535 or * for any, or ipc://FILE")
    bind, flags, key = not is_input, {"tags": False, "pdu": False}, ""
    for option in options:
        if option in ("bind", "connect"):
            bind = option == "bind"
        elif option in flags:
            flags[option] = True
        elif option.startswith("key=") and kind in ("pub", "sub"):
            key = option.removeprefix("key=")
        else:
            known = "bind, connect, tags, pdu" + (", key=TEXT" if kind in ("pub", "sub") else "")
            raise ValueError(f"{text!r}: no option {option!r} for {kind}; the options are {known}")
    if all(flags.values()):
        raise ValueError(f"{text!r}: PDUs carry metadata instead of tags; leave out tags or pdu")
    return Endpoint(kind, address, bind, key=key, **flags)


def open_socket(context: Context, endpoint: Endpoint, messages: int) -> Socket:
    """Open the socket of an endpoint; a sub socket has no subscription yet.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket.
    endpoint : Endpoint
        Endpoint to bind or to connect.
    messages : int
        Largest number of queued messages in each direction.

    Returns
    -------
    zmq.Socket
        Socket.

    Raises
    ------
    NflaeError
        If the address is unusable; the message names it.
    """
    kind = (INPUT_KINDS | OUTPUT_KINDS)[endpoint.kind]
    socket = context.socket(kind)
    socket.set_hwm(messages)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    if kind == zmq.REQ:
        # Permits a second request after the peer of the first has disconnected; see `Inlet`.
        socket.setsockopt(zmq.REQ_RELAXED, 1)
        socket.setsockopt(zmq.REQ_CORRELATE, 1)
    try:
        if endpoint.bind:
            bind(socket, endpoint.address)
        else:
            socket.connect(endpoint.address)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise NflaeError(f"{endpoint.address}: {explain_failure(error)}") from None
    except NflaeError:
        socket.close(linger=0)
        raise
    return socket


def bound_address(socket: Socket) -> str:
    """Return the address of a socket, with the port that ``tcp://127.0.0.1:*`` was assigned.

    Parameters
    ----------
    socket : zmq.Socket
        Bound or connected socket.

    Returns
    -------
    str
        ZeroMQ address.
    """
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)
