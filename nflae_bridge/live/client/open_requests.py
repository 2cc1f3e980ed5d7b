"""Hold the open requests of a client for asyncio: those that wait, and those that are sent and not answered yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nflae_bridge.live.client.connection import MAX_LOSSES, Connection
from nflae_bridge.live.client.links import Link
from nflae_bridge.live.client.requests import Deadline, payload_bytes
from nflae_bridge.live.errors import BridgeError
from nflae_bridge.live.protocol.messages import PrecodeRequest, Reply, StatusRequest

__all__ = ["OpenRequest", "OpenRequests"]

# Outstanding requests: two of the server's micro-batches, and few enough not to fill its queue.
_MAX_OUTSTANDING = 128
_MAX_OUTSTANDING_BYTES = 32 << 20


@dataclass(eq=False)
class OpenRequest:
    """Hold a request without an answer yet.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.
    deadline : Deadline
        Deadline of the call.
    reply : asyncio.Future
        Reply to come; done before that if the call has ended otherwise.
    losses : int
        Connections lost while it was sent.
    """

    request: PrecodeRequest | StatusRequest
    deadline: Deadline
    reply: asyncio.Future[Reply]
    losses: int = 0

    @property
    def size(self) -> int:
        """Size of its channels, bytes."""
        return payload_bytes(self.request)


@dataclass
class OpenRequests:
    """Hold requests by their identifiers, in the order of the calls.

    Parameters
    ----------
    waiting, sent : dict
        Requests that are not sent, and those that are.
    """

    waiting: dict[str, OpenRequest] = field(default_factory=dict)
    sent: dict[str, OpenRequest] = field(default_factory=dict)

    def fail(self, error: BridgeError) -> None:
        """End all calls by an error.

        Parameters
        ----------
        error : BridgeError
            The error.
        """
        for opened in (*self.sent.values(), *self.waiting.values()):
            if not opened.reply.done():
                opened.reply.set_exception(error)

    def resolve(self, reply: Reply) -> None:
        """End the call that a reply answers, if there is one.

        Parameters
        ----------
        reply : Reply
            The reply.
        """
        opened = self.sent.pop(reply.id or "", None)
        if opened is not None and not opened.reply.done():
            opened.reply.set_result(reply)

    def count_loss(self, lost: Callable[[], BridgeError]) -> None:
        """Count the loss of a connection, and end a call that has lost too many.

        Parameters
        ----------
        lost : callable
            Makes the error that ends the call.
        """
        # A frame that the server does not accept costs every request its connection: only the largest is given up.
        largest = max((opened.size for opened in self.sent.values()), default=0)
        for opened in self.sent.values():
            opened.losses += 1
            if opened.losses >= MAX_LOSSES and opened.size == largest and not opened.reply.done():
                opened.reply.set_exception(lost())

    def requeue(self) -> None:
        """Let the requests that were sent wait again, before all others; those whose calls have ended are dropped."""
        both = self.sent | self.waiting
        self.waiting = {name: opened for name, opened in both.items() if not opened.reply.done()}
        self.sent = {}

    def send(self, connection: Connection[Link]) -> None:
        """Send the requests that wait, as many as the connection takes and the limits of outstanding ones allow.

        Parameters
        ----------
        connection : Connection
            The connection.
        """
        outstanding = sum(opened.size for opened in self.sent.values())
        while self.waiting and len(self.sent) < _MAX_OUTSTANDING and connection.link.can_send():
            request_id, opened = next(iter(self.waiting.items()))
            if self.sent and outstanding + opened.size > _MAX_OUTSTANDING_BYTES:
                return
            if not opened.reply.done():
                if not connection.send_request(opened.request, request_id, opened.deadline):
                    return
                self.sent[request_id] = opened
                outstanding += opened.size
            del self.waiting[request_id]
