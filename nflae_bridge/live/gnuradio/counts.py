"""What went through a relay, and what did not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Items (drops) but for the messages of ``malformed`` and the events of ``gaps`` and ``restarts``.

    received: taken from the input. sent: handed to every output. bad: received, answered by zeros.
    lost, gaps: numbers missing between two messages, and in how many places; only a tagged input shows them.
    restarts: times the sender began to count anew. malformed: messages that held no items. unsent: received, and at
    the end not taken by some output.
    """

    received: int = 0
    sent: int = 0
    bad: int = 0
    lost: int = 0
    gaps: int = 0
    restarts: int = 0
    malformed: int = 0
    unsent: int = 0
