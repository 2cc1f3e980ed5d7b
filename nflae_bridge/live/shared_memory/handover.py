"""Hand the descriptor of a segment from a client to a server, over a Unix socket with an abstract name.

One connection carries one segment: a message with the descriptor to the server, and a JSON message back. The end of the
connection is the end of the segment, so that a process that dies leaves none behind.
"""

from __future__ import annotations

import os
import socket as sockets
import struct

import msgspec

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.headers import VERSION, ErrorDescription

HELLO = b'{"v":1}'
"""Message that carries a descriptor."""

_MAX_REPLY_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")  # process, account, group


class HandoverReply(msgspec.Struct, omit_defaults=True):
    """Hold the answer to a segment.

    Parameters
    ----------
    v : int
        Version of the protocol.
    ok : bool
        The server has mapped the segment.
    segment : str
        Name of the segment in requests, which only its client receives.
    error : ErrorDescription or None
        Reason of a refusal.
    """

    v: int
    ok: bool
    segment: str = ""
    error: ErrorDescription | None = None


_DECODER = msgspec.json.Decoder(HandoverReply)


def peer_of(connection: sockets.socket) -> tuple[int, int]:
    """Return the process at the other end of a Unix socket, as the kernel has recorded it.

    Parameters
    ----------
    connection : socket.socket
        Connected Unix socket.

    Returns
    -------
    process, account : int
        Identifiers of the process and of its user.
    """
    raw = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
    process, account, _ = _CREDENTIALS.unpack(raw)
    return process, account


def hand_over(name: str, descriptor: int, timeout: float) -> tuple[sockets.socket, str]:
    """Hand a segment to a server.

    Parameters
    ----------
    name : str
        Abstract name of the server's socket.
    descriptor : int
        File descriptor of the segment.
    timeout : float
        Longest wait for the answer, s.

    Returns
    -------
    connection : socket.socket
        Connection that keeps the segment.
    segment : str
        Name of the segment in requests.

    Raises
    ------
    OSError
        If no server of this host has the name, or it does not answer in time.
    WireError
        If the server refuses the segment, or the socket is another account's.
    """
    connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout)
        connection.connect("\0" + name)
        if peer_of(connection)[1] != os.geteuid():
            raise WireError("bad_reply", "the server runs under another account")
        sockets.send_fds(connection, [HELLO], [descriptor])
        reply = _DECODER.decode(connection.recv(_MAX_REPLY_BYTES))
        if not reply.ok:
            fault = reply.error or ErrorDescription("bad_reply", "no reason")
            raise WireError(fault.code, fault.message)
        return connection, reply.segment
    except msgspec.MsgspecError as cause:
        connection.close()
        raise WireError("bad_reply", f"not an answer of this protocol ({cause})") from None
    except BaseException:
        connection.close()
        raise


def take_over(connection: sockets.socket) -> int:
    """Receive the descriptor of a client.

    Parameters
    ----------
    connection : socket.socket
        Connection on which its message has arrived.

    Returns
    -------
    int
        File descriptor, to be closed by the caller.

    Raises
    ------
    WireError
        ``bad_request``, for a message of another form.
    OSError
        If the connection has ended.
    """
    message, descriptors, flags, _ = sockets.recv_fds(connection, len(HELLO) + 1, 2)
    if not message and not descriptors:
        raise ConnectionResetError
    if len(descriptors) == 1 and message == HELLO and not flags & sockets.MSG_CTRUNC:
        return descriptors[0]
    for descriptor in descriptors:
        os.close(descriptor)
    raise WireError("bad_request", f"send {HELLO.decode()} with one file descriptor, that of a segment")


def encode_handover(segment: str = "", error: WireError | None = None) -> bytes:
    """Encode the answer to a segment.

    Parameters
    ----------
    segment : str
        Name of the segment.
    error : WireError, optional
        Reason of a refusal.

    Returns
    -------
    bytes
        Message.
    """
    described = None if error is None else ErrorDescription(error.code, str(error))
    return msgspec.json.encode(HandoverReply(VERSION, error is None, segment, described))
