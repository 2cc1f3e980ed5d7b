"""Parse the endpoints of a stream, ``KIND:ADDRESS[,OPTION...]``, and open their ZeroMQ sockets.

Input kinds are ``pull``, ``sub`` and ``req``, output kinds ``push``, ``pub`` and ``rep``: each meets the gr-zeromq
block of the opposite name. By default inputs connect and outputs bind, because gr-zeromq's sinks bind and its sources
connect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import bind, check_connectable, explain_failure, is_well_formed
from nflae_bridge.live.gnuradio.pmt import DIALECTS, Dialect

Socket: TypeAlias = "zmq.Socket[bytes]"
Context: TypeAlias = "zmq.Context[Socket]"

INPUT_KINDS = {"pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.REQ}
OUTPUT_KINDS = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.ROUTER}

# No message of a flowgraph comes near this size; ZeroMQ disconnects a sender that announces more.
MAX_MESSAGE_BYTES = 64 << 20

# GNU Radio's block at the other end, by the kind of socket here.
BLOCKS = {
    "pull": "ZMQ PUSH Sink",
    "sub": "ZMQ PUB Sink",
    "req": "ZMQ REP Sink",
    "push": "ZMQ PULL Source",
    "pub": "ZMQ SUB Source",
    "rep": "ZMQ REQ Source",
}

# A host that vanished is noticed after some 25 s. ZeroMQ's heartbeats would disconnect peers that do not read for long.
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 3}
_NEVER_MS = 10**8


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
    latest : bool
        Take the newest item only; inputs.
    pmt : {"3.10", "3.9", "3.8", ""}
        Form of the PMTs, see `nflae_bridge.live.gnuradio.pmt`; empty for the form of the input, or that of 3.10.5.
    """

    kind: str
    address: str
    bind: bool
    tags: bool = False
    pdu: bool = False
    key: str = ""
    latest: bool = False
    pmt: Dialect | Literal[""] = ""

    @property
    def is_input(self) -> bool:
        """True where messages are received."""
        return self.kind in INPUT_KINDS

    def __str__(self) -> str:
        options = [name for name in ("tags", "pdu", "latest") if getattr(self, name)]
        options += [f"{name}={getattr(self, name)}" for name in ("key", "pmt") if getattr(self, name)]
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
        If the text has another form, or the address cannot be connected to; the message states the form.
    """
    kinds = INPUT_KINDS if is_input else OUTPUT_KINDS
    kind, _, rest = text.partition(":")
    address, *options = rest.split(",")
    if kind not in kinds or "://" not in address:
        example = f"{next(iter(kinds))}:tcp://127.0.0.1:5556"
        raise ValueError(f"{text!r}: expected KIND:ADDRESS, KIND one of {', '.join(kinds)}; for instance {example}")
    if not is_well_formed(address):
        raise ValueError(f"{text!r}: an address is tcp://HOST:PORT, PORT at most 65535 or * for any, or ipc://FILE")
    endpoint = _with_options(Endpoint(kind, address, bind=not is_input), options, text)
    if not endpoint.bind:
        try:
            check_connectable(address)
        except NflaeError as error:
            raise ValueError(f"{text!r}: {error}; or add ,bind") from None
    return endpoint


def _with_options(endpoint: Endpoint, options: list[str], text: str) -> Endpoint:
    """Return the endpoint with the options after its address; raise ValueError for an unknown one."""
    values: dict[str, Any] = {}
    flags = ("tags", "pdu", *(("latest",) if endpoint.is_input else ()))
    for option in options:
        name, _, value = option.partition("=")
        if option in ("bind", "connect"):
            if values.get("bind", option == "bind") != (option == "bind"):
                raise ValueError(f"{text!r}: an end either binds or connects; leave out bind or connect")
            values["bind"] = option == "bind"
        elif option in flags:
            values[option] = True
        elif value and name == "key" and endpoint.kind in ("pub", "sub"):
            values["key"] = value
        elif name == "pmt" and value in DIALECTS:
            values["pmt"] = value
        else:
            named = (*(("key=TEXT",) if endpoint.kind in ("pub", "sub") else ()), f"pmt={'|'.join(DIALECTS)}")
            known = ", ".join(("bind", "connect", *flags, *named))
            raise ValueError(f"{text!r}: no option {option!r} for {endpoint.kind}; the options are {known}")
    found = replace(endpoint, **values)
    if found.tags and found.pdu:
        raise ValueError(f"{text!r}: PDUs carry metadata instead of tags; leave out tags or pdu")
    if found.pmt and not (found.tags or found.pdu):
        raise ValueError(f"{text!r}: pmt={found.pmt} is for PDUs and tags; add pdu or tags, or leave it out")
    return found


def open_socket(context: Context, endpoint: Endpoint, messages: int, reconnect: bool = True) -> Socket:
    """Make the socket of an endpoint, not yet bound or connected; a sub socket has no subscription yet.

    A rep endpoint has a ROUTER socket, which distinguishes its readers.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket.
    endpoint : Endpoint
        Endpoint to bind or to connect.
    messages : int
        Largest number of queued messages in each direction.
    reconnect : bool
        Connect again after the loss of a connection.

    Returns
    -------
    zmq.Socket
        Socket.
    """
    kind = (INPUT_KINDS | OUTPUT_KINDS)[endpoint.kind]
    socket = context.socket(kind)
    socket.set_hwm(messages)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    for option, value in _KEEPALIVE.items():
        socket.setsockopt(option, value)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if not endpoint.is_input:
        # Queues hold messages for connected peers only, not for the next one.
        socket.setsockopt(zmq.IMMEDIATE, 1)
    if not reconnect:
        # ZeroMQ's own value for "never" discards the messages that have arrived.
        socket.setsockopt(zmq.RECONNECT_IVL, _NEVER_MS)
    return socket


def attach(socket: Socket, endpoint: Endpoint) -> None:
    """Bind or connect the socket of an endpoint.

    Parameters
    ----------
    socket : zmq.Socket
        Socket.
    endpoint : Endpoint
        Endpoint to bind or to connect.

    Raises
    ------
    NflaeError
        If the address is unusable; the message names it.
    """
    try:
        if endpoint.bind:
            bind(socket, endpoint.address)
        else:
            socket.connect(endpoint.address)
    except zmq.ZMQError as error:
        raise NflaeError(f"{endpoint.address}: {explain_failure(error)}") from None


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
