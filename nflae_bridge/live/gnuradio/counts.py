"""Count the items that pass a relay, and keep the number of unfinished ones for the next relay."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from matlab_io.errors import NflaeError


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
        Items missing between two messages or before the first of a later run, and the number of such places; for an
        input without tags what a `Journal` shows.
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

    @property
    def unfinished(self) -> int:
        """Items received and neither sent nor discarded."""
        return self.received - self.sent - self.stale - self.skipped


class Journal:
    """Keep the number of unfinished items in a file, which outlives a program that is killed.

    Parameters
    ----------
    path : pathlib.Path
        File, created if it does not exist.

    Attributes
    ----------
    lost : int
        Unfinished items of the program that used the file before.

    Raises
    ------
    NflaeError
        If the file is no journal, is used by another program, or cannot be written.
    """

    _LINE = "nflae stream: {:20d} items unfinished\n"
    _PATTERN = re.compile(rb"nflae stream: +(\d+) items unfinished\n")

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NflaeError(f"{path}: {(error.strerror or str(error)).lower()}; name a file for --journal") from None
        content = os.pread(self._file, 100, 0) if stat.S_ISREG(os.fstat(self._file).st_mode) else b"?"
        found = self._PATTERN.fullmatch(content)
        if content and not found:
            os.close(self._file)
            raise NflaeError(f"{path}: is not a journal of nflae stream, and is left as it is; name another file")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise NflaeError(f"{path}: is the journal of a running nflae stream; name a file for each") from None
        self.lost, self._written = int(found[1]) if found else 0, -1
        self.write(Counts())

    def write(self, counts: Counts) -> None:
        """Write the number of unfinished items if it has changed.

        Parameters
        ----------
        counts : Counts
            Counts of the relay.
        """
        if counts.unfinished != self._written:
            os.pwrite(self._file, self._LINE.format(counts.unfinished).encode(), 0)
            self._written = counts.unfinished

    def close(self) -> None:
        """Close the file, which then belongs to the next program."""
        os.close(self._file)
