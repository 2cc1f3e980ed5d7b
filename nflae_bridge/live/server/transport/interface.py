"""Define the interface between the server loop and the sockets of its clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.server.transport.key_guard import KeyGuard

Delivery = Literal["sent", "disconnected", "unread"]


class Gate(Protocol):
    """Decide on messages before they are received."""

    def admit(self, message: list[Frame], size: int) -> bool:
        """Return whether to receive a large frame.

        Parameters
        ----------
        message : list of bytes or memoryview
            Identity of the client, and the frames that have arrived.
        size : int
            Size of the next frame, bytes.

        Returns
        -------
        bool
            False for a refusal, which has been answered.
        """

    def reject(self, message: list[Frame], error: WireError) -> None:
        """Answer a message that is not received completely with an error.

        Parameters
        ----------
        message : list of bytes or memoryview
            Identity of the client, and the frames that have arrived.
        error : WireError
            Fault.
        """

    def disconnected(self, identity: bytes) -> None:
        """Note that a peer is gone."""


class Transport(Protocol):
    """Exchange messages with clients; all methods but `wake` and `is_connected` belong to one thread."""

    addresses: list[str]
    guard: KeyGuard | None

    def open(self, gate: Gate) -> None:
        """Begin to deliver messages."""

    def wake(self) -> None:
        """Have `receive` return."""

    def is_connected(self, identity: bytes) -> bool:
        """Return False for a client that is known to be gone."""

    def receive(self, timeout: float) -> list[list[Frame]]:
        """Return messages, each after the identity of its client, after at most `timeout` seconds."""

    def send(self, envelope: Sequence[Frame], frames: Sequence[Frame]) -> Delivery:
        """Send an answer without blocking, or discard it.

        Parameters
        ----------
        envelope : sequence of bytes or memoryview
            Identity of the client, and the rest of the request's envelope.
        frames : sequence of bytes or memoryview
            Frames of the answer.

        Returns
        -------
        {"sent", "disconnected", "unread"}
            ``unread`` if the client leaves too many answers unread.
        """

    def close(self, linger: float) -> None:
        """Close the sockets; answers already sent have `linger` seconds to leave."""
