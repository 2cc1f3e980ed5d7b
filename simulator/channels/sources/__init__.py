"""The registry of channel sources: one file a source, one name for the command line and for Python.

    channels("umi", drops=20, users=4, antennas=64)                  # (20, 4, 64) complex64
    channels("quadriga", file="chan.mat", subcarriers=12, bandwidth=20e6)

A source is a function ``(Request) -> Drawn`` decorated with ``@register(...)``; a file put into this package is found
by itself. What sources share is in `paths`, `by_user` and `recorded`. Whatever a source's own convention, what leaves
it is ours: row k of a drop is h_k, with y_k = h_k^H x. A source that gives y = H x conjugates once, where its docstring
says so.

Some sources generate; others read a file, in which users and antennas are given. In both a draw of a wideband channel
at F subcarriers makes F drops, one after the other.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError

Channels = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Request:
    """What is asked of a source; None: what the source, or its file, says.

    drops, users, antennas: how many. With subcarriers, ``drops`` counts draws, each of which makes one drop a
        subcarrier.
    seed: the same seed gives the same channels.
    carrier: Hz.
    bandwidth, subcarriers: F subcarriers evenly over B Hz around the carrier, see `paths.subcarrier_offsets`; without
        them the channel at the carrier alone.
    file: what a source that reads is to read.
    base_station: which, counted from 1, where a file holds several.
    slot_seconds: from one slot to the next, s, of a source whose users move.
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

    def size(self) -> tuple[int, int, int]:
        """Drops, users and antennas of a source that is free to choose: 100, 10 and 256 unless asked otherwise."""
        return self.drops or 100, self.users or 10, self.antennas or 256


@dataclass(frozen=True)
class Drawn:
    """Channels as they come, and what is known of them.

    drops, users, antennas: their number, all in all.
    blocks: arrays (n, users, antennas) complex64, row k = h_k, of ``drops`` drops together; to be gone through once.
    known: further facts as variables for a file, in MATLAB's order (K x S): where users stand, carrier_hz, ...;
        ``noise_power`` (W) if power 1 W is to meet a sensible signal-to-noise ratio.
    remark: a few words for the user on what was drawn.
    """

    drops: int
    users: int
    antennas: int
    blocks: Iterator[Channels]
    known: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""


Draw = Callable[[Request], Drawn]


@dataclass(frozen=True)
class Source:
    """One entry of the registry.

    takes: the fields of `Request`, seed aside, that mean something to it. reads: what it reads, or "" if it generates.
    """

    name: str
    takes: frozenset[str]
    reads: str
    draw: Draw


_SOURCES: dict[str, Source] = {}


def register(name: str, takes: Collection[str], reads: str = "") -> Callable[[Draw], Draw]:
    """Enter a source into the registry under ``name``; the arguments are `Source`'s."""

    def enter(function: Draw) -> Draw:
        _SOURCES[name] = Source(name, frozenset(takes), reads, function)
        return function

    return enter


def source_names() -> list[str]:
    """All sources' names, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_SOURCES)


def draw(name: str, request: Request) -> Drawn:
    """What a source gives.

    Raises NflaeError, one line, for an unknown source (with the list of them), a request it can't meet, a package it
    needs that isn't installed, and for whatever its file lacks; MatFileError for a damaged file.
    """
    names = source_names()
    if name not in names:
        raise NflaeError(f"unknown source {name!r}: there are {', '.join(names)}")
    source = _SOURCES[name]
    if source.reads and request.file is None:
        raise NflaeError(f"source {name} reads {source.reads}: name it, {name}:PATH")
    if not source.reads and request.file is not None:
        raise NflaeError(f"source {name} generates its channels and reads no file: leave out {request.file}")
    _check_numbers(request)
    for option in fields(request):
        if option.name in source.takes | {"seed", "file"} or getattr(request, option.name) == option.default:
            continue
        takes = ", ".join(words(taken) for taken in sorted(source.takes))
        raise NflaeError(f"source {name} takes no {words(option.name)}: it takes {takes}")
    return source.draw(request)


def channels(name: str, *, file: str | os.PathLike[str] | None = None, **asked: Any) -> Channels:
    """A source's channels as one array, (drops, users, antennas) complex64, row k = h_k with y_k = h_k^H x.

    file: for a source that reads; the other keywords are the fields of `Request`. Raises as `draw` does.
    """
    request = Request(file=None if file is None else Path(file), **asked)
    return np.concatenate(list(draw(name, request).blocks))


def words(option: str) -> str:
    """A field of `Request` as a user reads it: ``base_station`` -> ``base station``."""
    return option.replace("_", " ")


def _check_numbers(request: Request) -> None:
    for option in ("drops", "users", "antennas", "subcarriers", "base_station", "carrier", "bandwidth", "slot_seconds"):
        value = getattr(request, option)
        if value is not None and not 0 < value < float("inf"):
            raise NflaeError(f"{words(option)} has to be a positive number, got {value}")
    if (request.subcarriers or 1) > 1 and request.bandwidth is None:
        raise NflaeError(f"{request.subcarriers} subcarriers need a bandwidth to lie in: give it too")
    if request.bandwidth is not None and (request.subcarriers or 1) == 1:
        raise NflaeError("a bandwidth without subcarriers changes nothing: say how many subcarriers lie in it")
