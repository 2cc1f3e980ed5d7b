"""From channel file to result file, a block of drops at a time: read, check, precode, write.

While blocks are computed others are read ahead and written behind; memory holds a few, whatever the file's size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from matlab_io import ChannelFile, ResultFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.prefetch import prefetch_map
from nflae_bridge.files.validation import BadDrop, Channels, fault_of, good_drops
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import Precoding, Scheme
from simulator.downlink.problem import ChannelBatch
from simulator.downlink.result_arrays import result_arrays

OnBadDrop = Literal["error", "skip"]

_MOST_WORKERS = 4
_READ_AHEAD = 2


@dataclass(frozen=True)
class Block:
    """Drops ``start`` ... ``start + len(good) - 1`` of a file.

    good: bool (drops,), those that can be precoded for. channels: complex64 (good drops, users, antennas).
    """

    start: int
    good: npt.NDArray[np.bool_]
    channels: Channels


@dataclass
class Summary:
    """What came out, added up over blocks."""

    drops: int = 0
    skipped: int = 0
    users: int = 0
    near_field_users: int = 0
    sum_rate: float = 0.0
    infeasible: int = 0
    fallback: int = 0
    seconds: float = 0.0

    def add(self, good: npt.NDArray[np.bool_], results: Mapping[str, npt.NDArray[Any]]) -> None:
        """Count a block in. good: as in `Block`; results: as `result_arrays` gives them."""
        self.drops += len(good)
        self.skipped += int((~good).sum())
        self.users += results["near_field"][good].size
        self.near_field_users += int(results["near_field"].sum())
        self.sum_rate += float(results["sum_rate"][good].sum())
        self.infeasible += int((~results["feasible"][good]).sum())
        self.fallback += int(results["fallback"].sum())

    @property
    def mean_sum_rate(self) -> float:
        """Mean over the drops precoded for, bps/Hz; NaN if there are none."""
        served = self.drops - self.skipped
        return self.sum_rate / served if served else float("nan")


def blocks(file: ChannelFile, stop: int, batch: int, on_bad_drop: OnBadDrop) -> Iterator[Block]:
    """Drops 0 ... stop-1 of a file in blocks of ``batch``, checked, see `read_block`."""
    for start in range(0, stop, batch):
        yield read_block(file, start, min(start + batch, stop), on_bad_drop)


def read_block(file: ChannelFile, start: int, stop: int, on_bad_drop: OnBadDrop) -> Block:
    """Drops start ... stop-1 of a file, checked.

    Raises NflaeError for the first drop with NaN, Inf or an all-zero user, unless ``on_bad_drop`` is ``skip``.
    """
    channels = file.read(start, stop)
    good = good_drops(channels)
    if good.all():
        return Block(start, good, channels)
    if on_bad_drop == "error":
        first = int(np.flatnonzero(~good)[0])
        raise NflaeError(f"{describe(file, fault_of(channels[first], start + first))}")
    return Block(start, good, channels[good])


def describe(file: ChannelFile, bad: BadDrop) -> str:
    """A bad drop in one line, counted as MATLAB counts."""
    return (
        f"{file.path}: {file.variable}: {drop_name(file, bad.drop)}, {bad.describe(first=1)}; correct the channels, or"
        " leave such drops out with --on-bad-drop skip"
    )


def drop_name(file: ChannelFile, drop: int) -> str:
    """``drop 7``, or with two drop axes ``drop 2, subcarrier 3``; ``drop`` counted from 0, the name from 1."""
    letters = [letter for letter in file.layout if letter in "sf"]
    if not letters:
        return "drop 1"
    indices = np.unravel_index(drop, file.drop_axes, order="F")
    place = {letter: int(index) + 1 for letter, index in zip(letters, indices, strict=True)}
    names = {"s": "drop", "f": "subcarrier"}
    return ", ".join(f"{names[letter]} {place[letter]}" for letter in "sf" if letter in place)


def precode_file(
    file: ChannelFile,
    results: ResultFile,
    scheme: Scheme,
    budget: LinkBudget,
    device: torch.device,
    batch: int,
    on_bad_drop: OnBadDrop,
    advance: Callable[[int, str], None],
) -> Summary:
    """Precode every drop of ``file`` into ``results``.

    One thread reads, others compute, this one writes, all in the drops' order. advance(done, note) is called after each
    block. Skipped drops get NaN for numbers and false for flags. Raises NflaeError for a bad drop (see `read_block`)
    and where a scheme's answer is not finite.
    """

    def read(start: int) -> Block:
        return read_block(file, start, min(start + batch, file.drops), on_bad_drop)

    def compute(block: Block) -> tuple[int, npt.NDArray[np.bool_], dict[str, npt.NDArray[Any]]]:
        answer = precode(scheme, block.channels, budget, device)
        unusable = np.flatnonzero(~torch.isfinite(answer.sum_rate).cpu().numpy())
        if len(unusable):
            drop = block.start + int(np.flatnonzero(block.good)[unusable[0]])
            raise NflaeError(
                f"{file.path}: {file.variable}: {drop_name(file, drop)}: the rates come out as no finite numbers;"
                " are the channels scaled beyond reason for this power and noise?"
            )
        return block.start, block.good, result_arrays(answer, block.good)

    summary, began = Summary(), time.perf_counter()
    with (
        _workers(device) as workers,
        prefetch_map(read, range(0, file.drops, batch), ahead=_READ_AHEAD) as read_ahead,
        prefetch_map(compute, read_ahead, workers, ahead=workers + 1) as computed,
    ):
        for start, good, arrays in computed:
            results.write(start, arrays)
            summary.add(good, arrays)
            summary.seconds = time.perf_counter() - began
            advance(summary.drops, f"{summary.mean_sum_rate:.2f} bps/Hz")
    return summary


@contextmanager
def _workers(device: torch.device) -> Iterator[int]:
    """How many blocks to compute at a time.

    A processor's cores get blocks of their own: sharing the many small operations on one block gains less. A GPU is
    busy with one.
    """
    if device.type != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    workers = min(threads, _MOST_WORKERS)
    torch.set_num_threads(threads // workers)
    try:
        yield workers
    finally:
        torch.set_num_threads(threads)


def precode(scheme: Scheme, channels: Channels, budget: LinkBudget, device: torch.device) -> Precoding:
    """A scheme's answer for channels (drops, users, antennas), computed on ``device``; for no drops, of no drops."""
    if not len(channels):
        return _no_answers(*channels.shape[1:])
    return scheme(ChannelBatch(torch.from_numpy(channels).to(device)), budget)


def _no_answers(users: int, antennas: int) -> Precoding:
    a_user = torch.empty(0, users, dtype=torch.float64)
    a_drop = torch.empty(0, dtype=torch.float64)
    return Precoding(
        precoder=torch.empty(0, users, antennas, dtype=torch.complex64),
        power=a_user,
        uplink_power=a_user,
        feasible=a_drop.bool(),
        fallback=a_drop.bool(),
        find_labels=lambda: (a_user.bool(), a_user),
        find_sinr=lambda: a_user,
    )
