"""Define the interface between the server loop and the sockets of its clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.zmtp import FrameGate
from nflae_bridge.live.server.transport.key_guard import KeyGuard

Delivery = Literal["sent", "disconnected", "unread"]


class Gate(FrameGate, Protocol):
    """Decide on messages before they are received, and note the end of their peers."""

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
