"""Convert results to items, tags and PDU metadata of GNU Radio, by the result schema."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from matlab_io.result import RESULT_ARRAYS, Result
from nflae_bridge.live.gnuradio.pmt import Pmt
from nflae_bridge.live.gnuradio.tags import Tag

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.inlet import InputItems

Stream: TypeAlias = Literal["precoders", "labels", "powers"]

# Array of the result schema that each output stream carries.
STREAM_ARRAYS: dict[Stream, str] = {"precoders": "precoder", "labels": "near_field", "powers": "power"}
# Tag of the method by which the channels of an item were predicted.
METHOD_KEY = "nflae_method"
# Arrays of a track that tags and PDU metadata carry, as nflae_NAME, and their types there; sources are text.
TRACK_DTYPES: dict[str, type[np.generic]] = {
    **dict.fromkeys(("x", "height", "position_std", "angle_deg", "angle_std_deg", "distance"), np.float32),
    **dict.fromkeys(("distance_resolved", "in_sight"), np.uint8),
    **dict.fromkeys(("beam", "next_beams"), np.int32),
}
TRACK_SOURCE = "source"
# Tags on every output with tags.
ALWAYS_TAGGED = (METHOD_KEY, *(f"nflae_{name}" for name in (*TRACK_DTYPES, TRACK_SOURCE)))
# Arrays that tags and PDU metadata carry, as nflae_NAME.
METADATA_ARRAYS = ("near_field", "near_field_score", "power", "sinr", "rate", "sum_rate", "feasible", "fallback")

_SCHEMA = {entry.name: entry for entry in RESULT_ARRAYS}


@dataclass(frozen=True)
class OutputItems:
    """Hold the items and the metadata that answer a block of input items.

    Parameters
    ----------
    number : int
        Number of the first item in the input stream.
    values : dict
        Items of each stream: ``precoders`` complex64 (drops, users, antennas), ``labels`` uint8 (drops, users), 1 for
        near field, ``powers`` float32 (drops, users), W.
    results : sequence of mapping
        Further results per drop by the names of tags and PDU entries; empty if no output carries them.
    tags : tuple of Tag
        Tags of the input, with item numbers as offsets.
    metadata : mapping
        Metadata of the input's PDU.
    run : int
        Number of the sender's connection.
    """

    number: int
    values: dict[Stream, npt.NDArray[Any]]
    results: Sequence[Mapping[str, Pmt]] = ()
    tags: tuple[Tag, ...] = ()
    metadata: Mapping[Pmt, Pmt] = field(default_factory=dict)
    run: int = 1

    @property
    def drops(self) -> int:
        """Number of items."""
        return len(self.values["labels"])

    def rows(self, stream: Stream) -> npt.NDArray[Any]:
        """Return the items of one stream, one per row."""
        return self.values[stream].reshape(self.drops, -1)


def item_numbers(items: Sequence[InputItems]) -> list[int]:
    """Return the number of every item.

    Parameters
    ----------
    items : sequence of InputItems
        Blocks of items.

    Returns
    -------
    list of int
    """
    return [block.number + row for block in items for row in range(len(block.channels))]


def first_items(items: Sequence[InputItems], drops: int) -> list[InputItems]:
    """Return the first items.

    Parameters
    ----------
    items : sequence of InputItems
        Blocks of items.
    drops : int
        Number of items to return, at most all.

    Returns
    -------
    list of InputItems
    """
    first = []
    for block in items:
        if drops > 0:
            first.append(block if len(block.channels) <= drops else block.split(drops)[0])
        drops -= len(block.channels)
    return first


def item_dtype(name: str) -> np.dtype[Any]:
    """Return the type in which GNU Radio streams and PMTs carry an array of the result schema.

    Parameters
    ----------
    name : str
        Name of the array.

    Returns
    -------
    numpy.dtype
        complex64, float32, or uint8 for labels.
    """
    return np.dtype({"c": np.complex64, "f": np.float32, "b": np.uint8}[_SCHEMA[name].dtype.kind])


def item_bytes(stream: Stream, users: int, antennas: int) -> int:
    """Return the size of an item.

    Parameters
    ----------
    stream : {"precoders", "labels", "powers"}
        Output stream.
    users, antennas : int
        Size of a drop.

    Returns
    -------
    int
        Bytes.
    """
    name = STREAM_ARRAYS[stream]
    return math.prod(_SCHEMA[name].shape(1, users, antennas)) * item_dtype(name).itemsize


def zero_items(drops: int, users: int, antennas: int) -> dict[Stream, npt.NDArray[Any]]:
    """Return items of zeros for all streams.

    Parameters
    ----------
    drops, users, antennas : int
        Number of items, and size of a drop.

    Returns
    -------
    dict
        Arrays by stream, see `OutputItems`.
    """
    return {
        stream: np.zeros(_SCHEMA[name].shape(drops, users, antennas), item_dtype(name))
        for stream, name in STREAM_ARRAYS.items()
    }


def result_metadata(result: Result, drop: int) -> dict[str, Pmt]:
    """Return the results of a drop as tags and PDU metadata carry them.

    Parameters
    ----------
    result : Result
        Results of a batch.
    drop : int
        Index of the drop.

    Returns
    -------
    dict
        PMT values by name: one per drop as a Python number or bool, one per user as a uniform vector.
    """
    found: dict[str, Pmt] = {}
    for name in METADATA_ARRAYS:
        value = getattr(result, _SCHEMA[name].field)[drop]
        found[f"nflae_{name}"] = value.astype(item_dtype(name)) if _SCHEMA[name].axes else value.item()
    return found
