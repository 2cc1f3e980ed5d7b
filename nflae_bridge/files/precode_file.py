"""From channel file to result file, a block of drops at a time: read, check, precode, write.

While blocks are computed others are read ahead and written behind; memory holds a few, whatever the file's size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io import ChannelFile, ResultFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import Block, OnBadDrop, drop_name, read_block
from nflae_bridge.files.prefetch import prefetch_map
from nflae_bridge.files.validation import Channels
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme, result_arrays

_MOST_WORKERS = 4
_READ_AHEAD = 2


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
        answer = precode_channels(scheme, block.channels, budget, device)
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


def precode_channels(scheme: Scheme, channels: Channels, budget: LinkBudget, device: torch.device) -> Precoding:
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
        compute_labels=lambda: (a_user.bool(), a_user),
        compute_sinr=lambda: a_user,
    )
