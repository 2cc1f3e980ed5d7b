"""An engine's work on a GPU, recorded once for each shape and played back: CUDA graphs, with copies beside them.

For a few drops a GPU computes for a fraction of the time that it takes a host to name 300 kernels one by one. A shape
that comes a second time is recorded; many drops go through two recordings in turn, so that one's channels come in and
its precoders go out while the other computes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nflae_bridge.engine.device_problem import DeviceProblem
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import compute_amplitude_scale
from simulator.downlink.precoding import ChannelBatch

# (precoder, table): complex64 (drops, users, antennas) and float64 (drops, columns).
Outputs = tuple[Tensor, Tensor]
Compute = Callable[[DeviceProblem], Outputs]

LARGEST = 1024  # drops a recording takes
_FEW = 16  # drops whose copies are recorded along with the computing
_KEPT = 16  # recordings; each holds its intermediate results' memory
_REHEARSALS = 2


class Shape(NamedTuple):
    """What a recording can't change: numbers of drops, users and antennas, what binds, who says who is near, and more.

    on_host: the channels come from there and the answer goes there. work: whatever else sets the computation.
    """

    drops: int
    users: int
    antennas: int
    constrains_near_field: bool
    demands_rates: bool
    labelled: bool
    on_host: bool
    work: int

    @property
    def is_whole(self) -> bool:
        """Whether copies from and to the host belong to the recording, by way of memory of its own."""
        return self.on_host and self.drops <= _FEW


class Replays:
    """Recordings by shape, on one GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._recordings: dict[Shape, list[_Recording]] = {}
        self._unrecordable: set[Shape] = set()
        self._mine = threading.Lock()

    def play(self, compute: Compute, batch: ChannelBatch, budget: LinkBudget, work: int) -> Outputs | None:
        """What ``compute`` gives for a batch, on the device its channels are on; None for a shape not seen before.

        compute: asks the host nothing and does as its `DeviceProblem` says and ``work``, which names it. budget: as for every
        scheme. Channels in pinned memory are copied from where they are.
        """
        drops, users, antennas = batch.channels.shape
        shape = Shape(
            _size(drops),
            users,
            antennas,
            budget.constrains_near_field,
            budget.demands_rates,
            batch.near_field is not None,
            batch.channels.device.type == "cpu",
            work,
        )
        with self._mine:
            if shape in self._unrecordable:
                return None
            if shape not in self._recordings:
                self._recordings[shape] = []
                while sum(map(len, self._recordings.values())) > _KEPT:
                    del self._recordings[next(iter(self._recordings))]
                return None
            try:
                recordings = self._recorded(compute, shape, 2 if drops > shape.drops else 1)
            except RuntimeError:  # a network with operations that can't be recorded
                del self._recordings[shape]
                self._unrecordable.add(shape)
                return None
            return self._through(recordings, batch, budget)

    def _recorded(self, compute: Compute, shape: Shape, count: int) -> list[_Recording]:
        recordings = self._recordings[shape]
        while len(recordings) < count:
            # What is recorded under inference mode could not be written to outside of it.
            with torch.inference_mode(False), torch.no_grad():
                recordings.append(_Recording(compute, shape, self.device))
        return recordings[:count]

    def _through(self, recordings: list[_Recording], batch: ChannelBatch, budget: LinkBudget) -> Outputs:
        shape, channels = recordings[0].shape, batch.channels
        if shape.is_whole:
            return recordings[0].play_whole(batch, budget)
        drops = len(channels)
        where: dict[str, Any] = {"pin_memory": True} if shape.on_host else {"device": self.device}
        precoder, table = (
            torch.empty(drops, *part.shape[1:], dtype=part.dtype, **where) for part in recordings[0].outputs
        )
        current = torch.cuda.current_stream(self.device)
        staged = shape.on_host and not channels.is_pinned()
        for recording in recordings:
            recording.stream.wait_stream(current)
        for turn, start in enumerate(range(0, drops, shape.drops)):
            stop = min(start + shape.drops, drops)
            near = None if batch.near_field is None else batch.near_field[start:stop]
            part = ChannelBatch(channels[start:stop], near)
            outputs = precoder[start:stop], table[start:stop]
            recordings[turn % len(recordings)].play(part, budget.slice(start, stop), outputs, staged)
        for recording in recordings:
            if shape.on_host:
                recording.stream.synchronize()
            else:
                current.wait_stream(recording.stream)
        return precoder, table


def _size(drops: int) -> int:
    """The drops of the recording for so many: at most an eighth more, in steps of an eighth of a power of two."""
    step = max(1, (1 << (drops - 1).bit_length()) // 16)
    return min(LARGEST, -(-drops // step) * step)


class _Recording:
    """A graph, the memory it reads and writes, and the stream it runs on."""

    def __init__(self, compute: Compute, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.asked = _unasked(shape, device)
        self.sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.entrance = torch.empty_like(self.asked.channels, device="cpu", pin_memory=True) if shape.on_host else None
        self._filled: tuple[float, ...] | None = None
        self.graph = torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(device))
        with _single_precision_on_matrix_units():
            with torch.cuda.stream(self.stream):
                for _ in range(_REHEARSALS):
                    computed = compute(self.asked)
            self.stream.synchronize()
            self.exits: list[Tensor] = []
            if shape.is_whole and self.entrance is not None:
                self.exits = [torch.empty_like(part, device="cpu", pin_memory=True) for part in computed]
                self.entrance.copy_(self.asked.channels)
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                if shape.is_whole and self.entrance is not None:
                    self.asked.channels.copy_(self.entrance, non_blocking=True)
                self.outputs = compute(self.asked)
                for ours, theirs in zip(self.exits, self.outputs, strict=False):
                    ours.copy_(theirs, non_blocking=True)

    def play_whole(self, batch: ChannelBatch, budget: LinkBudget) -> Outputs:
        """The answer to a batch on the host, of a recording that holds the copies too."""
        drops = len(batch.channels)
        assert self.entrance is not None
        self.entrance[:drops].copy_(batch.channels)
        self._fill(budget, drops)
        self._label(batch, budget)
        self.graph.replay()
        torch.cuda.current_stream(self.asked.channels.device).synchronize()
        precoder, table = self.exits
        return precoder[:drops].clone(), table[:drops].clone()

    def play(self, batch: ChannelBatch, budget: LinkBudget, outputs: Outputs, staged: bool) -> None:
        """Bring a batch in, compute, and take its answer to ``outputs``; all of it is only begun.

        staged: by way of pinned memory, from which copies don't hold up the host.
        """
        drops, channels = len(batch.channels), batch.channels
        if staged:
            assert self.entrance is not None
            self.sent.synchronize()
            channels = self.entrance[:drops].copy_(channels)
        with torch.cuda.stream(self.stream):
            self.asked.channels[:drops].copy_(channels, non_blocking=True)
            self.sent.record()
            self._fill(budget, drops)
            self._label(batch, budget)
            self.graph.replay()
            for ours, theirs in zip(outputs, self.outputs, strict=True):
                ours.copy_(theirs[:drops], non_blocking=True)

    def _fill(self, budget: LinkBudget, drops: int) -> None:
        """Put the budget where the graph reads it, unless it is there already."""
        values = (budget.power, budget.noise_power, budget.alpha_c, budget.min_rate)
        numbers = tuple(float(value) for value in values if not isinstance(value, Tensor))
        if len(numbers) == len(values):
            if numbers != self._filled:
                self.asked.amplitude_scale.fill_(math.sqrt(numbers[0] / numbers[1]))
                self.asked.alpha_c.fill_(numbers[2])
                self.asked.min_rate.fill_(numbers[3])
                self._filled = numbers
            return
        self._filled = None
        self.asked.amplitude_scale[:drops] = compute_amplitude_scale(budget, self.asked.amplitude_scale.device)
        self.asked.alpha_c[:drops] = per_drop(budget.alpha_c, self.asked.amplitude_scale)
        self.asked.min_rate[:drops] = per_drop(budget.min_rate, self.asked.amplitude_scale)

    def _label(self, batch: ChannelBatch, budget: LinkBudget) -> None:
        """Put the labels that came with the batch where the graph reads them, if shares are limited at all."""
        if batch.near_field is None or self.asked.near_field is None or not self.shape.constrains_near_field:
            return
        drops, device = len(batch.near_field), self.asked.alpha_c.device
        limited = per_drop(budget.alpha_c, self.asked.alpha_c).unsqueeze(-1) < 1
        self.asked.near_field[:drops] = batch.near_field.to(device) & limited


def _unasked(shape: Shape, device: torch.device) -> DeviceProblem:
    """Memory for what is asked; until then of random channels, and so are drops beyond those that come."""
    generator = torch.Generator().manual_seed(0)
    size = (shape.drops, shape.users, shape.antennas)
    one = torch.ones(shape.drops, dtype=torch.float64, device=device)
    alpha_c, min_rate = one.clone(), 0 * one
    # Where nobody's share is limited nobody counts as near, whatever labels come with the batch.
    counted = shape.labelled or not shape.constrains_near_field
    return DeviceProblem(
        torch.randn(size, dtype=torch.complex64, generator=generator).to(device),
        one,
        alpha_c,
        min_rate,
        Limits(alpha_c if shape.constrains_near_field else None, min_rate if shape.demands_rates else None),
        torch.zeros(size[:2], dtype=torch.bool, device=device) if counted else None,
    )


@contextmanager
def _single_precision_on_matrix_units() -> Iterator[None]:
    """TF32 for the network's float32 products; those that rates hang on are in double. Recorded, it stays."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
