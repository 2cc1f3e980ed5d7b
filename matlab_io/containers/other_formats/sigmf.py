"""Read recordings of channels in SigMF [1]_: ``NAME.sigmf-meta``, a JSON text, and ``NAME.sigmf-data``, complex64.

The namespace ``nflae`` is described in docs/how_to/live/recordings.md. The samples of an item are h_1, h_2, ... h_K, N
numbers each, the memory of MATLAB's N x K array. One annotation describes one message.

References
----------
.. [1] Signal Metadata Format (SigMF), version 1.2, https://sigmf.org
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import Variable
from matlab_io.conventions import check_convention
from matlab_io.errors import MatFileError, reading

__all__ = ["DATA", "META", "Message", "Recording", "is_recording", "link_budget_of", "list_variables", "open_recording"]

DATA, META = ".sigmf-data", ".sigmf-meta"
_NUMBER_BYTES = 8  # of a complex64 number
_BUDGET = ("power", "noise_power", "alpha_c", "min_rate")


@dataclass(frozen=True)
class Message:
    """Describe one message of a recording.

    Parameters
    ----------
    first, items : int
        Number of its first item, counted from 0 in the recording, and of its items.
    seconds : float
        Time of its arrival after the begin of the recording, s.
    header : bytes
        Bytes before its samples, gr-zeromq's tag header; empty without tags.
    request : str
        JSON header of a request to a server; empty for a message of a stream.
    """

    first: int
    items: int
    seconds: float
    header: bytes = b""
    request: str = ""


@dataclass(frozen=True)
class Recording:
    """Describe a recording.

    Parameters
    ----------
    data : pathlib.Path
        File of the samples.
    users, antennas, items : int
        Numbers of users and antennas of an item, and of whole items.
    convention : {"hermitian", "direct"}
        Convention of the channels.
    messages : tuple of Message
        Messages, in order; every item belongs to one.
    notes : tuple of str
        What is missing of a recording that was cut short, one line each.
    """

    data: Path
    users: int
    antennas: int
    items: int
    convention: str
    messages: tuple[Message, ...]
    notes: tuple[str, ...]

    def load(self) -> npt.NDArray[np.complex64]:
        """Return the channels as in the file, (items, users, antennas), a map of the disk."""
        shape = self.items, self.users, self.antennas
        if not self.items:
            return np.empty(shape, np.complex64)
        return np.asarray(np.memmap(self.data, np.dtype("<c8"), "r", shape=shape))

    def link_budget(self) -> tuple[dict[str, float | npt.NDArray[np.float64]], dict[str, str]]:
        """Return the link budget that the requests state, as `link_budget_of` does, noise powers of users x items."""
        common, different = link_budget_of([message.request for message in self.messages])
        found: dict[str, float | npt.NDArray[np.float64]] = {}
        for name, values in common.items():
            found[name] = values[0]
            if len(set(values)) > 1:
                each = np.repeat(np.asarray(values), [message.items for message in self.messages])
                found[name] = np.tile(each, (self.users, 1))  # of both axes: a vector may count users or drops
        return found, different


def link_budget_of(requests: Sequence[str]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the quantities of the link budget that requests state, and those that cannot be used for all of them.

    Parameters
    ----------
    requests : sequence of str
        JSON headers, one per message; empty for a message of a stream.

    Returns
    -------
    common : dict of str to list of float
        ``power``, ``alpha_c`` and ``min_rate``, bps/Hz, as far as every request states the same number, and
        ``noise_power`` as far as every request states one; W, one number per request.
    different : dict of str to str
        Range of each other quantity that some requests state, e.g. ``"0.1 to 0.2"``.
    """
    headers: list[dict[str, Any]] = [json.loads(request or "{}") for request in requests]
    common, different = {}, {}
    for name in _BUDGET if headers else ():
        values = [header.get(name) for header in headers]
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        if len(numbers) == len(values) and (name == "noise_power" or len(set(numbers)) == 1):
            common[name] = numbers
        elif any(value is not None for value in values):
            different[name] = _range_of(values)
    return common, different


def _range_of(values: list[Any]) -> str:
    """Describe numbers of which some are missing or no numbers."""
    numbers = sorted({float(value) for value in values if isinstance(value, int | float)})
    absent = sum(value is None for value in values)
    text = " to ".join(f"{number:g}" for number in (*numbers[:1], *numbers[1:][-1:])) or "no number"
    return f"{text}, {absent} of {len(values)} none" if absent else text


def is_recording(path: Path) -> bool:
    """Return whether a path is that of a SigMF file, by its name.

    Parameters
    ----------
    path : pathlib.Path
        Path.

    Returns
    -------
    bool
    """
    return path.suffix in (DATA, META)


def open_recording(path: Path) -> Recording:
    """Read the description of a recording.

    Parameters
    ----------
    path : pathlib.Path
        Either of its files.

    Returns
    -------
    Recording

    Raises
    ------
    MatFileError
        If a file is missing, or does not describe channels.
    """
    meta, data = path.with_suffix(META), path.with_suffix(DATA)
    with reading(data):
        size = data.stat().st_size
    with reading(meta):
        described = json.loads(meta.read_text())
        parts = described["global"], described["annotations"]
    if not isinstance(parts[0], dict) or not isinstance(parts[1], list):
        raise MatFileError(f"{meta}: global has to be an object and annotations a list, as SigMF states")
    stated, annotations = parts
    users, antennas = _size(meta, stated, "nflae:users"), _size(meta, stated, "nflae:antennas")
    if stated.get("core:datatype") != "cf32_le":
        raise MatFileError(f"{meta}: core:datatype is {stated.get('core:datatype')!r}, expected 'cf32_le'")
    convention = stated.get("nflae:convention", "hermitian")
    with reading(meta):
        check_convention(convention)
        messages = [_message(entry, users * antennas) for entry in annotations if "nflae:seconds" in entry]
    item_bytes = _NUMBER_BYTES * users * antennas
    items, left = divmod(size, item_bytes)
    kept, notes = _present(messages, items)
    if left:
        notes.append(f"{data}: the last item is cut short and left out: {left} of {item_bytes} bytes")
    return Recording(data, users, antennas, items, convention, tuple(kept), tuple(notes))


def list_variables(path: Path) -> list[Variable]:
    """List what a recording holds as variables: the channels, and the texts that state their reading.

    Parameters
    ----------
    path : pathlib.Path
        Either of its files.

    Returns
    -------
    list of Variable
        ``H``, N x K x items, ``layout`` and ``convention``, and the link budget that the requests state.
    """
    found = open_recording(path)
    if not found.items:
        raise MatFileError(f"{found.data}: holds no whole item of {found.antennas} x {found.users} complex numbers")
    texts = [Variable(name, (1, len(text)), "char", False) for name, text in stated_texts(found).items()]
    budget = found.link_budget()[0].items()
    numbers = [Variable(name, np.shape(values) or (1, 1), "double", False) for name, values in budget]
    return [Variable("H", (found.antennas, found.users, found.items), "single", True), *texts, *numbers]


def stated_texts(recording: Recording) -> dict[str, str]:
    """Return the texts that a recording states about its channels.

    Parameters
    ----------
    recording : Recording
        Recording.

    Returns
    -------
    dict of str to str
        ``layout`` and ``convention``.
    """
    return {"layout": "nks", "convention": recording.convention}


def _size(meta: Path, stated: dict[str, Any], name: str) -> int:
    value = stated.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 31:
        raise MatFileError(
            f"{meta}: global {name} is {'missing' if value is None else repr(value)}, expected a whole number from 1;"
            f" without it give the {DATA} file with --shape ANTENNASxUSERSxDROPS"
        )
    return value


def _message(entry: dict[str, Any], length: int) -> Message:
    """Return the message that an annotation describes."""
    first, off = divmod(int(entry["core:sample_start"]), length)
    items, over = divmod(int(entry["core:sample_count"]), length)
    if off or over or first < 0 or items < 1:
        raise MatFileError(
            f"annotation at sample {entry['core:sample_start']}: is not on whole items of {length} samples"
        )
    header = base64.b64decode(entry.get("nflae:header", ""), validate=True)
    return Message(first, items, float(entry["nflae:seconds"]), header, str(entry.get("nflae:request", "")))


def _present(messages: list[Message], items: int) -> tuple[list[Message], list[str]]:
    """Return messages of exactly the items that the file has, and what is missing."""
    messages = sorted(messages, key=lambda message: message.first)
    due = max((message.first + message.items for message in messages), default=0)
    if items < due:
        whole = [message for message in messages if message.first < items]
        if whole:  # a request states the number of its items, and is sent whole or not at all
            last = replace(whole[-1], items=min(whole[-1].items, items - whole[-1].first))
            whole = whole[:-1] if last.request and last != whole[-1] else [*whole[:-1], last]
        return whole, [f"cut short: {items} of {due} items are present"]
    if items == due:
        return messages, []
    seconds = messages[-1].seconds if messages else 0.0
    rest = [Message(number, 1, seconds) for number in range(due, items)]
    return [*messages, *rest], [f"not completed: items {due + 1} to {items} have neither times nor tags"]
