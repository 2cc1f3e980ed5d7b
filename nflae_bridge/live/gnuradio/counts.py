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
        Items missing between two messages or before the first of a later run, and the number of such places; known for
        a tagged input only.
    restarts : int
        Times that the sender began anew.
    stale : int
        Received, and discarded because the sender and all readers of that run had left.
    skipped : int
        Received, and discarded for newer ones (``latest``).
    substituted : int
        Computed by the fallback in the absence of the server.
    held, filled : int
        With a prediction: precoded for the last usable item itself; unusable, and precoded for what the others predict.
    histories : int
        Times that the history of a prediction began anew because its items were no sequence.
    malformed : int
        Messages that held no items.
    unsent : int
        Received, and at the end not taken by every output.
    lag_ms : float
        Largest time from the arrival of an item to its answer since the last status line, ms.
    """

    received: int = 0
    sent: int = 0
    bad: int = 0
    lost: int = 0
    gaps: int = 0
    restarts: int = 0
    stale: int = 0
    skipped: int = 0
    substituted: int = 0
    held: int = 0
    filled: int = 0
    histories: int = 0
    malformed: int = 0
    unsent: int = 0
    lag_ms: float = 0.0
