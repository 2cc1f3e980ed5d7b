"""Define the exceptions of the live interfaces: one class per error code of the wire, on one base."""

from __future__ import annotations

from matlab_io.errors import NflaeError

__all__ = [
    "BadChannels",
    "BadRequest",
    "BridgeError",
    "ConnectionLost",
    "Expired",
    "NoAnswer",
    "NoTrack",
    "ServerBusy",
    "ServerFault",
    "ServerStopping",
    "TooLarge",
    "WireError",
    "error_of_code",
]


class WireError(NflaeError):
    """Report a message that cannot be served or decoded, by its error code on the wire.

    Parameters
    ----------
    code : str
        Error code of docs/reference/protocol.md.
    message : str
        One line that states the fault.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BridgeError(NflaeError):
    """Report a request without a result; base of the errors of both clients.

    Attributes
    ----------
    code : str
        Error code of docs/reference/protocol.md, or ``no_answer``, ``connection_lost`` or ``error`` for faults on the
        client's side.
    """

    code = "error"


class BadRequest(BridgeError, ValueError):
    """Report a field or a number of the request outside the protocol's rules."""

    code = "bad_request"


class BadChannels(BridgeError, ValueError):
    """Report NaN, Inf or an all-zero user among the channels; drop, user and antenna are counted from 1."""

    code = "bad_channels"


class TooLarge(BridgeError, ValueError):
    """Report more users, drops or bytes than the server accepts in one request; send fewer drops at a time."""

    code = "too_large"


class ServerBusy(BridgeError):
    """Report a queue on the server that was full until the deadline; the clients repeat a request until then."""

    code = "busy"


class ServerStopping(BridgeError):
    """Report a server that is shutting down without a successor before the deadline."""

    code = "stopping"


class ServerFault(BridgeError):
    """Report a fault of the server during the computation; its log has the traceback."""

    code = "internal"


class Expired(BridgeError, TimeoutError):
    """Report a deadline that passed while the request waited in the server's queue."""

    code = "expired"


class NoTrack(BridgeError, LookupError):
    """Report a track that the server does not keep, because it has expired; begin one without an identifier."""

    code = "no_track"


class NoAnswer(BridgeError, TimeoutError):
    """Report a deadline that passed without an answer."""

    code = "no_answer"


class ConnectionLost(BridgeError, ConnectionError):
    """Report a connection that was lost each time the request was sent, or that the server refuses."""

    code = "connection_lost"


_ERRORS = {
    error.code: error
    for error in (BadRequest, BadChannels, TooLarge, ServerBusy, ServerStopping, ServerFault, Expired, NoTrack)
}


def error_of_code(code: str, message: str) -> BridgeError:
    """Make the exception of an error code that a server sent.

    Parameters
    ----------
    code : str
        Error code of docs/reference/protocol.md; an unknown one gives `ServerFault`.
    message : str
        Message of the server.

    Returns
    -------
    BridgeError
        Exception to raise.
    """
    return _ERRORS.get(code, ServerFault)(message)
