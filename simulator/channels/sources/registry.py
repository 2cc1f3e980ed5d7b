"""Register channel sources under the names that the command line and Python use.

    channels("umi", drops=20, users=4, antennas=64)                  # (20, 4, 64) complex64
    channels("quadriga", file="chan.mat", subcarriers=12, bandwidth=20e6)

A source is a function ``(Request) -> ChannelSet`` decorated with ``@register(...)``. A module in this package is found
without further registration, one in another package by an entry point in the group ``nflae.sources``, whose name
counts then. Whatever a source's own convention, its output is in the package's convention: row k of a
drop is h_k, with y_k = h_k^H x. A source whose native channels are those of y = H x conjugates them once, where its
docstring states it.

Some sources generate channels; others read a file, in which users and antennas are given. In both, a draw of a wideband
channel at F subcarriers makes F consecutive drops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from matlab_io.errors import NflaeError
from simulator.plugins import Registry

if TYPE_CHECKING:  # the help page of nflae simulate lists the sources without numpy
    import numpy as np
    import numpy.typing as npt

    from simulator.sensors.recording import Recording

Channels: TypeAlias = "npt.NDArray[np.complex64]"

_TEXTS = ("seed", "file", "receive_antennas", "array", "sensors")  # fields without a positive number
_PACKAGE = "simulator.channels.sources"


@dataclass(frozen=True)
class Request:
    """Describe the channels requested of a source; None leaves a value to the source or to its file.

    Parameters
    ----------
    drops, users, antennas
        Their numbers. With subcarriers, ``drops`` counts draws, each of which makes one drop per subcarrier.
    array
        Array of the base station: "ula", or a panel such as "upa:16x16", see `simulator.geometry.panels.parse_panel`.
    seed
        Equal seeds give equal channels.
    carrier
        Carrier frequency, Hz.
    bandwidth, subcarriers
        Bandwidth B, Hz, and number F of subcarriers, spaced evenly over B around the carrier (see
        `shared.frequency_response.subcarrier_offsets`); without them the channel at the carrier alone.
    file
        Input of a source that reads a file or folder.
    base_station
        Base station, counted from 1, where a file holds several.
    slot_seconds
        Slot duration, s, of a source whose users move.
    receive_antennas
        Use of the receive antennas of users that have several: "each", "strongest" or "eigen", as in
        `matlab_io.reading.receive_antennas.combine`.
    slots
        Number of snapshots of one sequence in which the users of a statistical model move; its drops are snapshots.
    speed
        Speed of these users, m/s.
    sensors
        Whether the users' beam powers and positions, pictures, radar maps and points are to be recorded.
    """

    drops: int | None = None
    users: int | None = None
    antennas: int | None = None
    seed: int = 0
    carrier: float | None = None
    bandwidth: float | None = None
    subcarriers: int | None = None
    file: Path | None = None
    base_station: int | None = None
    slot_seconds: float | None = None
    receive_antennas: str | None = None
    slots: int | None = None
    speed: float | None = None
    array: str | None = None
    sensors: bool = False

    def size(self) -> tuple[int, int, int]:
        """Return drops, users and antennas of a source without sizes of its own: 100, 10 and 256 by default."""
        return self.drops or 100, self.users or 10, self.antennas or 256


@dataclass(frozen=True)
class ChannelSet:
    """Hold the channels of a source, as blocks of drops, with the metadata of a channel file.

    Parameters
    ----------
    drops, users, antennas
        Their total numbers.
    blocks
        Iterator over complex64 arrays (n, users, antennas), row k = h_k, ``drops`` drops in total; consumed once.
    metadata
        Further variables of a channel file, in MATLAB order (K x S): user positions, carrier_hz, ...;
        ``noise_power`` (W) for a sensible signal-to-noise ratio at a power of 1 W.
    remark
        Short description of the channels for the user of the command line.
    recording
        What the sensors recorded, if that was requested.
    """

    drops: int
    users: int
    antennas: int
    blocks: Iterator[Channels]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""
    recording: Recording | None = None


Draw = Callable[[Request], ChannelSet]


@dataclass(frozen=True)
class Source:
    """Describe one entry of the registry.

    Parameters
    ----------
    name
        Registered name.
    options
        Fields of `Request`, apart from ``seed`` and ``file``, that the source supports.
    reads
        Description of its input, or "" for a source that generates channels.
    draw
        Function that draws the channels.
    """

    name: str
    options: frozenset[str]
    reads: str
    draw: Draw


_BY_FUNCTION: dict[Draw, Source] = {}


def _adopt(name: str, found: Any) -> Source:
    source = found if isinstance(found, Source) else _BY_FUNCTION.get(found)
    if source is None:
        raise TypeError("it is neither decorated with @register nor a Source")
    return replace(source, name=name)


REGISTRY: Registry[Source] = Registry(_PACKAGE, "nflae.sources", "source", _adopt)


def register(name: str, options: Collection[str], reads: str = "") -> Callable[[Draw], Draw]:
    """Register the decorated function as a channel source.

    Parameters
    ----------
    name, options, reads
        As in `Source`.

    Returns
    -------
    Callable
        Decorator that returns its function unchanged.
    """

    def enter(function: Draw) -> Draw:
        _BY_FUNCTION[function] = Source(name, frozenset(options), reads, function)
        REGISTRY.add(name, _BY_FUNCTION[function])
        return function

    return enter


def source_names() -> list[str]:
    """Return the names of all sources, sorted."""
    return REGISTRY.names()


def draw(name: str, request: Request) -> ChannelSet:
    """Draw channels from a source.

    Parameters
    ----------
    name
        Registered name of the source.
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels with their metadata.

    Raises
    ------
    NflaeError
        For an unknown source (with the list of names), a request outside the source's range, a missing package, and
        a file without the data needed.
    MatFileError
        For a damaged file.
    """
    source = REGISTRY.load(name)
    if source.reads and request.file is None:
        raise NflaeError(f"source {name} reads {source.reads}: name it, {name}:PATH")
    if not source.reads and request.file is not None:
        raise NflaeError(f"source {name} generates its channels and reads no file: leave out {request.file}")
    _check_numbers(request)
    for option in fields(request):
        if option.name in source.options | {"seed", "file"} or getattr(request, option.name) == option.default:
            continue
        supported = ", ".join(option_label(each) for each in sorted(source.options))
        raise NflaeError(f"source {name} takes no {option_label(option.name)}: it takes {supported}")
    return source.draw(request)


def channels(name: str, *, file: str | os.PathLike[str] | None = None, **request: Any) -> Channels:
    """Draw all channels of a source as one array.

    Parameters
    ----------
    name
        Registered name of the source.
    file
        Input of a source that reads a file or folder.
    **request
        Further fields of `Request`.

    Returns
    -------
    ndarray
        complex64 (drops, users, antennas), row k = h_k with y_k = h_k^H x.

    Raises
    ------
    NflaeError, MatFileError
        As `draw`.
    """
    import numpy as np

    return np.concatenate(list(draw(name, Request(file=None if file is None else Path(file), **request)).blocks))


def sequence_variables(slot_seconds: float) -> dict[str, Any]:
    """Return the variables of a channel file whose drops are the snapshots of one sequence.

    Parameters
    ----------
    slot_seconds
        Time between snapshots, s.

    Returns
    -------
    dict
        ``nflae_info.drop_axis``, ``"time"``, and ``slot_seconds``.
    """
    return {"nflae_info": {"drop_axis": "time"}, "slot_seconds": slot_seconds}


def option_label(option: str) -> str:
    """Return a field name of `Request` as shown in messages: ``base_station`` becomes ``base station``.

    Parameters
    ----------
    option
        Field name.

    Returns
    -------
    str
        Label.
    """
    return option.replace("_", " ")


def _check_numbers(request: Request) -> None:
    for option in (each.name for each in fields(request) if each.name not in _TEXTS):
        value = getattr(request, option)
        if value is not None and not 0 < value < float("inf"):
            raise NflaeError(f"{option_label(option)} has to be a positive number, got {value}")
    if (request.subcarriers or 1) > 1 and request.bandwidth is None:
        raise NflaeError(
            f"{request.subcarriers} subcarriers need a bandwidth: give --bandwidth-mhz too (Python: bandwidth, Hz)"
        )
    if request.bandwidth is not None and (request.subcarriers or 1) == 1:
        raise NflaeError("a bandwidth without subcarriers has no effect: give --subcarriers too (Python: subcarriers)")
