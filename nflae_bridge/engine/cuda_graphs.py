"""Compute on a GPU by CUDA graphs, captured once per shape, with asynchronous copies beside them.

A GPU computes few drops in a fraction of the time in which a host launches 300 kernels one by one. A shape is captured
when it comes a second time; large batches alternate between two graphs, so that the channels of one come in and its
precoders go out while the other computes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.device_problem import DeviceProblem
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import compute_amplitude_scale
from simulator.downlink.precoding import ChannelBatch

# (precoder, table): complex64 (drops, users, antennas) and float64 (drops, columns).
Outputs = tuple[Tensor, Tensor]
Compute = Callable[[DeviceProblem], Outputs]
Captured = TypeVar("Captured")

LARGEST = 1024
"""Drops that one graph computes."""
KEPT = 16
"""Graphs kept; each holds the memory of its intermediate results."""
_FEW = 16  # drops whose copies are captured along with the computation
_WARM_UP = 2  # libraries initialise in their first calls, which no graph may hold


class Shape(NamedTuple):
    """Name the properties that a captured graph fixes.

    Attributes
    ----------
    drops, users, antennas
        Size of the batch that the graph computes.
    constrains_near_field, demands_rates
        Whether C3, C4 can bind.
    labelled
        Whether the batch comes with near-field labels.
    on_host
        Whether channels come from the host's memory and the answer goes there.
    refinements
        WMMSE steps.
    """

    drops: int
    users: int
    antennas: int
    constrains_near_field: bool
    demands_rates: bool
    labelled: bool
    on_host: bool
    refinements: int

    @property
    def holds_copies(self) -> bool:
        """Return whether copies from and to the host are part of the graph, by way of pinned memory of its own."""
        return self.on_host and self.drops <= _FEW


class CudaGraphs:
    """Hold the graphs of one GPU by shape; threads may share them.

    Parameters
    ----------
    device
        The GPU.

    Raises
    ------
    NflaeError
        If there is no CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        if not torch.cuda.is_available():
            raise NflaeError("CUDA graphs need a CUDA device, and there is none")
        self.device = device
        self._graphs: dict[Shape, list[_Graph]] = {}
        self._impossible: set[Shape] = set()
        self._lock = threading.Lock()

    def state(self, batch: ChannelBatch, budget: LinkBudget, refinements: int) -> Literal["new", "seen", "impossible"]:
        """Return whether the shape of a batch is new, has been seen, or cannot be captured.

        Parameters
        ----------
        batch, budget, refinements
            As in `run`.

        Returns
        -------
        str
        """
        shape = _shape_of(batch, budget, refinements)
        return "impossible" if shape in self._impossible else "seen" if shape in self._graphs else "new"

    def note(self, batch: ChannelBatch, budget: LinkBudget, refinements: int) -> None:
        """Record that the shape of a batch has been seen; the oldest graphs make room.

        Parameters
        ----------
        batch, budget, refinements
            As in `run`.
        """
        shape = _shape_of(batch, budget, refinements)
        with self._lock:
            if shape not in self._impossible:
                self._add(shape)

    def run(self, compute: Compute, batch: ChannelBatch, budget: LinkBudget, refinements: int) -> Outputs | None:
        """Compute a batch by the graph of its shape, captured if there is none.

        Parameters
        ----------
        compute
            Function to capture: free of transfers to the host, and a function of its `DeviceProblem` and of
            ``refinements`` alone.
        batch
            Channels; those in pinned memory are copied from where they lie.
        budget
            Link budget.
        refinements
            WMMSE steps.

        Returns
        -------
        Outputs or None
            On the device of the channels; None if the shape cannot be captured.
        """
        shape = _shape_of(batch, budget, refinements)
        with self._lock:
            self._add(shape)
            try:
                graphs = self._captured(compute, shape, 2 if len(batch.channels) > shape.drops else 1)
            except RuntimeError:  # an operation that cannot be captured
                del self._graphs[shape]
                self._impossible.add(shape)
                return None
            return self._run(graphs, batch, budget)

    def _add(self, shape: Shape) -> None:
        if shape not in self._graphs:
            self._graphs[shape] = []
            while sum(map(len, self._graphs.values())) > KEPT:
                del self._graphs[next(iter(self._graphs))]

    def _captured(self, compute: Compute, shape: Shape, count: int) -> list[_Graph]:
        graphs = self._graphs[shape]
        while len(graphs) < count:
            # Tensors made under inference mode could not be written to outside of it.
            with torch.inference_mode(False), torch.no_grad():
                graphs.append(_Graph(compute, shape, self.device))
        return graphs[:count]

    def _run(self, graphs: list[_Graph], batch: ChannelBatch, budget: LinkBudget) -> Outputs:
        shape, channels = graphs[0].shape, batch.channels
        if shape.holds_copies:
            return graphs[0].run_with_copies(batch, budget)
        drops = len(channels)
        memory: dict[str, Any] = {"pin_memory": True} if shape.on_host else {"device": self.device}
        precoder, table = (
            torch.empty(drops, *part.shape[1:], dtype=part.dtype, **memory) for part in graphs[0].outputs
        )
        current = torch.cuda.current_stream(self.device)
        staged = shape.on_host and not channels.is_pinned()
        for graph in graphs:
            graph.stream.wait_stream(current)
        for turn, start in enumerate(range(0, drops, shape.drops)):
            stop = min(start + shape.drops, drops)
            near = None if batch.near_field is None else batch.near_field[start:stop]
            part = ChannelBatch(channels[start:stop], near)
            outputs = precoder[start:stop], table[start:stop]
            graphs[turn % len(graphs)].launch(part, budget.slice(start, stop), outputs, staged)
        for graph in graphs:
            if shape.on_host:
                graph.stream.synchronize()
            else:
                current.wait_stream(graph.stream)
        return precoder, table


def graph_size(drops: int) -> int:
    """Return the size of the graph for a batch: at most an eighth more, in steps of an eighth of a power of two.

    Parameters
    ----------
    drops
        Drops of the batch.

    Returns
    -------
    int
        At most `LARGEST`.
    """
    step = max(1, (1 << (drops - 1).bit_length()) // 16)
    return min(LARGEST, -(-drops // step) * step)


def capture(
    compute: Callable[[], Captured],
    stream: torch.cuda.Stream,
    prepare: Callable[[Captured], None] = lambda _: None,
    finish: Callable[[Captured], None] = lambda _: None,
) -> tuple[torch.cuda.CUDAGraph, Captured]:
    """Capture a computation as a CUDA graph.

    Parameters
    ----------
    compute
        The computation, run a few times before it is captured.
    stream
        Stream to run and capture it on.
    prepare
        Function of the results of those runs, called before the capture.
    finish
        Function of the captured results, captured too.

    Returns
    -------
    graph : torch.cuda.CUDAGraph
        The graph.
    outputs : Captured
        The results, overwritten at each replay.

    Raises
    ------
    RuntimeError
        If an operation cannot be captured.
    """
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            computed = compute()
    stream.synchronize()
    prepare(computed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        outputs = compute()
        finish(outputs)
    return graph, outputs


class _Graph:
    """Hold a graph, the memory it reads and writes, and the stream it runs on."""

    def __init__(self, compute: Compute, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._problem = _allocate(shape, device)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        channels = self._problem.channels
        self._staging = torch.empty_like(channels, device="cpu", pin_memory=True) if shape.on_host else None
        if shape.holds_copies and self._staging is not None:
            self._staging.copy_(channels)
        self._results: list[Tensor] = []
        self._filled: tuple[float, ...] | None = None
        self.stream.wait_stream(torch.cuda.current_stream(device))
        with _tf32_products():
            self._graph, self.outputs = capture(
                lambda: self._compute(compute), self.stream, self._allocate_results, self._copy_results
            )

    def _compute(self, compute: Compute) -> Outputs:
        if self.shape.holds_copies and self._staging is not None:
            self._problem.channels.copy_(self._staging, non_blocking=True)
        return compute(self._problem)

    def _allocate_results(self, computed: Outputs) -> None:
        if self.shape.holds_copies:
            self._results = [torch.empty_like(part, device="cpu", pin_memory=True) for part in computed]

    def _copy_results(self, computed: Outputs) -> None:
        for result, part in zip(self._results, computed, strict=False):
            result.copy_(part, non_blocking=True)

    def run_with_copies(self, batch: ChannelBatch, budget: LinkBudget) -> Outputs:
        """Compute a batch in the host's memory by a graph that holds the copies."""
        drops = len(batch.channels)
        assert self._staging is not None
        self._staging[:drops].copy_(batch.channels)
        self._fill(budget, drops)
        self._label(batch, budget)
        self._graph.replay()
        torch.cuda.current_stream(self._problem.channels.device).synchronize()
        precoder, table = self._results
        return precoder[:drops].clone(), table[:drops].clone()

    def launch(self, batch: ChannelBatch, budget: LinkBudget, outputs: Outputs, staged: bool) -> None:
        """Start copying a batch in, computing, and copying its answer to ``outputs``.

        With ``staged`` the channels pass through pinned memory, from which copies do not block the host.
        """
        drops, channels = len(batch.channels), batch.channels
        if staged:
            assert self._staging is not None
            self._copied.synchronize()
            channels = self._staging[:drops].copy_(channels)
        with torch.cuda.stream(self.stream):
            self._problem.channels[:drops].copy_(channels, non_blocking=True)
            self._copied.record()
            self._fill(budget, drops)
            self._label(batch, budget)
            self._graph.replay()
            for output, part in zip(outputs, self.outputs, strict=True):
                output.copy_(part[:drops], non_blocking=True)

    def _fill(self, budget: LinkBudget, drops: int) -> None:
        """Write the budget into the graph's memory, unless it lies there already."""
        problem = self._problem
        values = (budget.power, budget.noise_power, budget.alpha_c, budget.min_rate)
        numbers = tuple(float(value) for value in values if not isinstance(value, Tensor))
        if len(numbers) == len(values):
            if numbers != self._filled:
                problem.amplitude_scale.fill_(math.sqrt(numbers[0] / numbers[1]))
                problem.alpha_c.fill_(numbers[2])
                problem.min_rate.fill_(numbers[3])
                self._filled = numbers
            return
        self._filled = None
        problem.amplitude_scale[:drops] = compute_amplitude_scale(budget, problem.amplitude_scale.device)
        problem.alpha_c[:drops] = per_drop(budget.alpha_c, problem.amplitude_scale)
        problem.min_rate[:drops] = per_drop(budget.min_rate, problem.amplitude_scale)

    def _label(self, batch: ChannelBatch, budget: LinkBudget) -> None:
        """Write the batch's labels into the graph's memory, where C3 can bind."""
        problem = self._problem
        if batch.near_field is None or problem.near_field is None or not self.shape.constrains_near_field:
            return
        drops, device = len(batch.near_field), problem.alpha_c.device
        limited = per_drop(budget.alpha_c, problem.alpha_c).unsqueeze(-1) < 1
        problem.near_field[:drops] = batch.near_field.to(device) & limited


def _shape_of(batch: ChannelBatch, budget: LinkBudget, refinements: int) -> Shape:
    drops, users, antennas = batch.channels.shape
    return Shape(
        graph_size(drops),
        users,
        antennas,
        budget.constrains_near_field,
        budget.demands_rates,
        batch.near_field is not None,
        batch.channels.device.type == "cpu",
        refinements,
    )


def _allocate(shape: Shape, device: torch.device) -> DeviceProblem:
    """Allocate a graph's inputs; random channels fill them, also drops beyond those of a batch."""
    generator = torch.Generator().manual_seed(0)
    size = (shape.drops, shape.users, shape.antennas)
    one = torch.ones(shape.drops, dtype=torch.float64, device=device)
    alpha_c, min_rate = one.clone(), 0 * one
    # Without C3 no user counts as near-field, whatever labels come with the batch.
    given = shape.labelled or not shape.constrains_near_field
    return DeviceProblem(
        torch.randn(size, dtype=torch.complex64, generator=generator).to(device),
        one,
        alpha_c,
        min_rate,
        Limits(alpha_c if shape.constrains_near_field else None, min_rate if shape.demands_rates else None),
        torch.zeros(size[:2], dtype=torch.bool, device=device) if given else None,
    )


@contextmanager
def _tf32_products() -> Iterator[None]:
    """Compute float32 products in TF32: the network's; those that rates depend on are in double."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
