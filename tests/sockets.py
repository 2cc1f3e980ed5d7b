"""ZeroMQ contexts that end although a peer is missing."""

from __future__ import annotations

import zmq

LINGER_MS = 1000


def bounded_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Make a context whose sockets wait a second for unsent messages at their end.

    ZeroMQ's own default waits for ever: a test that fails with such messages would hang in the end of its context.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.linger = LINGER_MS
    return context
