"""Where a stream comes from or goes to: ``KIND:ADDRESS[,OPTION...]``, and the ZeroMQ socket for it.

Input kinds are ``pull``, ``sub`` and ``req``, output kinds ``push``, ``pub`` and ``rep``: each meets the gr-zeromq
block of the opposite name. Without being told, inputs connect and outputs bind, because gr-zeromq's sinks bind and its
sources connect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import bind, is_well_formed, why_unusable

Socket: TypeAlias = "zmq.Socket[bytes]"
Context: TypeAlias = "zmq.Context[Socket]"

INPUT_KINDS = {"pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.REQ}
OUTPUT_KINDS = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.REP}

# No message of a flowgraph comes near this; a sender that claims more is cut off.
LARGEST_MESSAGE = 64 << 20


@dataclass(frozen=True)
class Endpoint:
    """One end of a ZeroMQ connection.

    kind: pull, sub, req, push, pub or rep. address: ZeroMQ's, e.g. tcp://127.0.0.1:5556. bind: else connect.
    tags: samples come with gr-zeromq's tag header. pdu: messages are PDUs (serialised PMTs) instead of samples.
    key: of pub and sub, the frame sent before each message and filtered by; empty: no such frame.
    """

    kind: str
    address: str
    bind: bool
    tags: bool = False
    pdu: bool = False
    key: str = ""

    @property
    def is_input(self) -> bool:
        return self.kind in INPUT_KINDS

    def __str__(self) -> str:
        options = [name for name in ("tags", "pdu") if getattr(self, name)] + ([f"key={self.key}"] if self.key else [])
        return ",".join([f"{self.kind}:{self.address}", "bind" if self.bind else "connect", *options])


def parse_endpoint(text: str, is_input: bool) -> Endpoint:
    """The endpoint that ``text`` describes. Raises ValueError, saying what is expected."""
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
            raise ValueError(f"{text!r}: no option {option!r} for {kind}; there are {known}")
    if all(flags.values()):
        raise ValueError(f"{text!r}: PDUs carry metadata instead of tags; leave out tags or pdu")
    return Endpoint(kind, address, bind, key=key, **flags)


def open_socket(context: Context, endpoint: Endpoint, messages: int) -> Socket:
    """A socket for an endpoint, bound or connecting, that queues at most ``messages`` messages each way.

    A sub socket has no subscription yet. Raises NflaeError for an address that can't be had.
    """
    kind = (INPUT_KINDS | OUTPUT_KINDS)[endpoint.kind]
    socket = context.socket(kind)
    socket.set_hwm(messages)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
    if kind == zmq.REQ:
        # Lets a request be made again once the peer that had the first is gone; see `Inlet`.
        socket.setsockopt(zmq.REQ_RELAXED, 1)
        socket.setsockopt(zmq.REQ_CORRELATE, 1)
    try:
        if endpoint.bind:
            bind(socket, endpoint.address)
        else:
            socket.connect(endpoint.address)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise NflaeError(f"{endpoint.address}: {why_unusable(error)}") from None
    except NflaeError:
        socket.close(linger=0)
        raise
    return socket


def bound_address(socket: Socket) -> str:
    """Where a socket ended up, for addresses with a port left open (``tcp://127.0.0.1:*``)."""
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)
