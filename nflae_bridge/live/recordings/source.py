"""Read the messages of a recording for a replay."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.containers.other_formats.sigmf import Message, is_recording, open_recording
from matlab_io.errors import MatFileError

_WAIT_SECONDS = 0.05


class RecordedMessages:
    """Hold the messages of a SigMF recording or of a ``.mat`` file.

    A file of channels without ``message`` and ``seconds`` has one message per drop, all of them due at once.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Attributes
    ----------
    users, antennas, items : int
        Size of an item, and number of items.
    convention : str
        Convention of the channels.
    messages : list of Message
        Messages.
    notes : tuple of str
        What is missing of the recording.
    lateness : float
        Delay of the last message behind its time, s.

    Raises
    ------
    MatFileError
        If the file holds no channels.
    """

    def __init__(self, path: Path) -> None:
        self.lateness = 0.0
        self.notes: tuple[str, ...] = ()
        if is_recording(path):
            try:
                recording = open_recording(path)
            except MatFileError as error:
                raise _without_options(error) from None
            self.users, self.antennas, self.items = recording.users, recording.antennas, recording.items
            self.convention, self.messages = recording.convention, list(recording.messages)
            self.notes = recording.notes
            channels = recording.load()
            self._read: Callable[[int, int], npt.NDArray[np.complex64]] = lambda start, stop: channels[start:stop]
            return
        from matlab_io import open_channels

        try:
            file = open_channels(path)
        except MatFileError as error:
            raise _without_options(error) from None
        self.users, self.antennas, self.items = file.users, file.antennas, file.drops
        self.convention = file.convention
        self.messages = _messages(path, file.version, file.drops)
        direct = file.convention == "direct"
        self._read = lambda start, stop: file.read(start, stop).conj() if direct else file.read(start, stop)

    def scheduled(
        self, keep_timing: bool, stopping: Callable[[], bool]
    ) -> Iterator[tuple[Message, npt.NDArray[np.complex64]]]:
        """Yield the messages with their channels, each when it is due.

        Parameters
        ----------
        keep_timing : bool
            Wait for the time of each message after the first; otherwise all are due at once.
        stopping : callable
            Ends the replay where it returns true.

        Yields
        ------
        tuple of Message and numpy.ndarray
            Channels as recorded, complex64 (items, users, antennas).
        """
        began = time.monotonic()
        for message in self.messages:
            due = began + (message.seconds - self.messages[0].seconds if keep_timing else 0.0)
            while not stopping() and (left := due - time.monotonic()) > 0:
                time.sleep(min(left, _WAIT_SECONDS))
            if stopping():
                return
            self.lateness = time.monotonic() - due if keep_timing else 0.0
            yield message, self._read(message.first, message.first + message.items)


def _without_options(error: MatFileError) -> MatFileError:
    """Return an error without the clauses that advise options, of which a replay has none for channels."""
    text = str(error)
    kept = re.split(r"\s*[;(][^;(]*--[a-z]", text)[0]
    if kept == text:
        return error
    return MatFileError(
        f"{kept}; a replay takes recordings, and files that state the reading as text variables layout and convention"
        " (nflae inspect lists the readings)"
    )


def _messages(path: Path, version: str, drops: int) -> list[Message]:
    """Return the messages of a ``.mat`` file."""
    from matlab_io.containers.contents import find_arrays, list_variables, read_text

    beside = find_arrays(path, lambda name: name in ("message", "seconds"))
    if set(beside) != {"message", "seconds"} or {array.size for array in beside.values()} != {drops}:
        return [Message(number, 1, 0.0) for number in range(drops)]
    numbers, seconds = beside["message"].ravel(), beside["seconds"].ravel()
    starts = [0, *(1 + np.flatnonzero(np.diff(numbers))).tolist()]
    texts = [""] * len(starts)
    if "requests" in {variable.name for variable in list_variables(path, version)}:
        texts = read_text(path, version, "requests").split("\n")
    return [
        Message(start, stop - start, float(seconds[start]), request=text)
        for start, stop, text in zip(starts, [*starts[1:], drops], texts, strict=True)
    ]
