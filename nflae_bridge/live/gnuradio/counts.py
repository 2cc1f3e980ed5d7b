"""Count the items that pass a relay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Hold the counts of a relay; the unit is items (drops) unless stated.

    Parameters
    ----------
    received : int
        Taken from the input.
    sent : int
        Handed to every output.
    bad : int
        Received and answered by zeros.
    lost, gaps : int
        Items missing between two messages, and the number of such places; known for a tagged input only.
    restarts : int
        Times that the sender's offsets began anew.
    malformed : int
        Messages that held no items.
    unsent : int
        Received, and at the end not taken by every output.
    """

    received: int = 0
    sent: int = 0
    bad: int = 0
    lost: int = 0
    gaps: int = 0
    restarts: int = 0
    malformed: int = 0
    unsent: int = 0
