"""Compute on a GPU by CUDA graphs, captured once per shape, with asynchronous copies beside them.

A GPU computes few drops in a fraction of the time in which a host launches 300 kernels one by one. A shape is captured
when it comes a second time; large batches alternate between two graphs, so that the channels of one come in and its
precoders go out while the other computes.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.cuda_graphs import recording
from nflae_bridge.engine.cuda_graphs.inputs import GraphInputs, Shape
from nflae_bridge.engine.cuda_graphs.packed import AnswerSize, PackedAnswer
from nflae_bridge.engine.device_problem import DeviceProblem
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch

Compute = Callable[[DeviceProblem, PackedAnswer], None]
"""Function that writes the answer to a problem, free of transfers to the host."""

KEPT = 16
"""Graphs kept, those used last; each holds the memory of its intermediate results."""

_LOG = logging.getLogger("nflae_bridge.engine")


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
        self._graphs: OrderedDict[Shape, list[_Graph]] = OrderedDict()
        self._impossible: set[Shape] = set()
        self._lock = threading.Lock()

    def state(
        self, batch: ChannelBatch, budget: LinkBudget, variant: int | str
    ) -> Literal["new", "seen", "impossible"]:
        """Return whether the shape of a batch is new, has been seen, or cannot be captured.

        Parameters
        ----------
        batch, budget
            Channels and link budget.
        variant
            As in `Shape`.

        Returns
        -------
        str
        """
        plain = Shape.of(batch, budget, False, variant)
        shapes = plain, plain.with_scores()
        if self._impossible and not self._impossible.isdisjoint(shapes):
            return "impossible"
        return "seen" if shapes[0] in self._graphs or shapes[1] in self._graphs else "new"

    def note(self, batch: ChannelBatch, budget: LinkBudget, variant: int | str) -> None:
        """Record that the shape of a batch has been seen; the graphs that were used least recently make room.

        Parameters
        ----------
        batch, budget, variant
            As in `state`.
        """
        if self.state(batch, budget, variant) == "new":
            with self._lock:
                self._add(Shape.of(batch, budget, False, variant))

    def run(
        self, compute: Compute, batch: ChannelBatch, budget: LinkBudget, scored: bool, variant: int | str
    ) -> PackedAnswer | None:
        """Compute a batch by the graph of its shape, captured if there is none.

        Parameters
        ----------
        compute
            Function to capture, of the properties in `Shape` alone.
        batch
            Channels; those in page-locked memory are copied from where they lie.
        budget
            Link budget.
        scored, variant
            As in `Shape`.

        Returns
        -------
        PackedAnswer or None
            On the device of the channels; None if the shape cannot be captured.
        """
        shape = Shape.of(batch, budget, scored, variant)
        with self._lock:
            self._add(shape)
            graphs = self._captured(compute, shape, 2 if len(batch.channels) > shape.drops else 1)
            return None if graphs is None else self._run(graphs, batch, budget)

    def _add(self, shape: Shape) -> None:
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
            return
        self._graphs[shape] = []
        while sum(map(len, self._graphs.values())) > KEPT:
            with recording.CAPTURING:
                self._graphs.popitem(last=False)

    def _captured(self, compute: Compute, shape: Shape, count: int) -> list[_Graph] | None:
        """Return the graphs of a shape; None if it cannot be captured, which is said once and holds from then on."""
        graphs = self._graphs[shape]
        if len(graphs) >= count:
            return graphs[:count]
        with recording.CAPTURING:
            try:
                while len(graphs) < count:
                    # Tensors made under inference mode could not be written to outside of it.
                    with torch.inference_mode(False), torch.no_grad():
                        graphs.append(_Graph(compute, shape, self.device, len(graphs)))
                return graphs
            except torch.OutOfMemoryError as error:  # next time the graphs of other shapes have made room
                alone = all(held is graphs for held in self._graphs.values())
                self._graphs.clear()
                if alone:
                    self._refuse(shape, error)
            except Exception as error:  # an operation that cannot be captured, a kernel that cannot be compiled
                del self._graphs[shape]
                self._refuse(shape, error)
        return None

    def _refuse(self, shape: Shape, error: Exception) -> None:
        """Note that a shape cannot be captured, with the first line of the error."""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._impossible.add(shape)
        size = f"{shape.drops} drops, {shape.users} users, {shape.antennas} antennas"
        _LOG.warning("%s: no CUDA graph (%s); PyTorch's kernels, which take longer, compute instead", size, reason)

    def _run(self, graphs: list[_Graph], batch: ChannelBatch, budget: LinkBudget) -> PackedAnswer:
        shape, channels = graphs[0].shape, batch.channels
        if shape.holds_copies:
            return graphs[0].run_with_copies(batch, budget)
        drops = len(channels)
        memory: dict[str, Any] = {"pin_memory": True} if shape.on_host else {"device": self.device}
        answer = PackedAnswer.allocate(graphs[0].answer.size._replace(drops=drops), **memory)
        current = torch.cuda.current_stream(self.device)
        staged = shape.on_host and not channels.is_pinned()
        for graph in graphs:
            graph.stream.wait_stream(current)
        for turn, start in enumerate(range(0, drops, shape.drops)):
            stop = min(start + shape.drops, drops)
            near = None if batch.near_field is None else batch.near_field[start:stop]
            part = ChannelBatch(channels[start:stop], near)
            outputs = answer.precoder[start:stop], answer.table[start:stop]
            graphs[turn % len(graphs)].launch(part, budget.slice(start, stop), outputs, staged)
        for graph in graphs:
            if shape.on_host:
                graph.stream.synchronize()
            else:
                current.wait_stream(graph.stream)
        return answer


class _Graph:
    """Hold a graph, the memory it reads and writes, and the stream it runs on."""

    def __init__(self, compute: Compute, shape: Shape, device: torch.device, turn: int) -> None:
        self.shape = shape
        streams = recording.streams(device, turn)
        self.stream = streams.run
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._inputs = GraphInputs(shape, device=device)
        self.answer = PackedAnswer.allocate(AnswerSize(*shape[:3], shape.scored), device=device)
        # In page-locked memory, for the copies that the graph holds.
        self._staging = GraphInputs(shape, pin_memory=True) if shape.holds_copies else None
        self._on_the_way: Tensor | None = None
        self._result = PackedAnswer.allocate(self.answer.size, pin_memory=True) if shape.holds_copies else None
        problem = self._inputs.problem()

        def computed() -> tuple[Tensor, Tensor]:
            if self._staging is not None:
                self._inputs.memory.copy_(self._staging.memory, non_blocking=True)
            compute(problem, self.answer)
            return self.answer.table, self.answer.precoder

        def finish(_: tuple[Tensor, Tensor]) -> None:
            if self._result is not None:
                self._result.memory.copy_(self.answer.memory, non_blocking=True)

        streams.capture.wait_stream(torch.cuda.current_stream(device))
        with recording.tf32_products():
            self._graph, _ = recording.capture(computed, streams.capture, finish)

    def run_with_copies(self, batch: ChannelBatch, budget: LinkBudget) -> PackedAnswer:
        """Compute a batch in the host's memory by a graph that holds the copies."""
        drops, staging, result = len(batch.channels), self._staging, self._result
        assert staging is not None
        assert result is not None
        staging.channels[:drops].copy_(batch.channels)
        staging.fill(batch, budget)
        with torch.cuda.stream(self.stream):
            self._graph.replay()
        self.stream.synchronize()
        return PackedAnswer(result.size, result.memory.clone())

    def launch(self, batch: ChannelBatch, budget: LinkBudget, outputs: tuple[Tensor, Tensor], staged: bool) -> None:
        """Start copying a batch in, computing, and copying its precoders and table to ``outputs``.

        With ``staged`` the channels pass through page-locked memory, from which copies do not block the host.
        """
        drops, channels = len(batch.channels), batch.channels
        if staged:
            if self._on_the_way is None:
                self._on_the_way = torch.empty_like(self._inputs.channels, device="cpu", pin_memory=True)
            self._copied.synchronize()
            channels = self._on_the_way[:drops].copy_(channels)
        with torch.cuda.stream(self.stream):
            self._inputs.channels[:drops].copy_(channels, non_blocking=True)
            self._copied.record()
            self._inputs.fill(batch, budget)
            self._graph.replay()
            for output, part in zip(outputs, (self.answer.precoder, self.answer.table), strict=True):
                output.copy_(part[:drops], non_blocking=True)
