"""Run a training step by CUDA graphs, one per layout of its inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from nflae_bridge.engine.cuda_graphs.recording import garbage_kept, tf32_products

Step = Callable[[Any], Tensor]
Replay = Callable[[], object]
Record = Callable[[Callable[[], Tensor]], tuple[Replay, Tensor]]

KEPT = 192
"""Graphs kept; they share the memory of their intermediate results."""


@dataclass(frozen=True)
class _Captured:
    """A graph, the memory that it reads, and that which it writes its values to."""

    inputs: list[Tensor]
    replay: Replay
    values: Tensor


class CapturedSteps:
    """Hold the graphs of a training step by the layout of its inputs.

    The first step of a layout is run kernel by kernel, which initialises libraries and the optimiser's state; the
    second one is captured. Every call is one training step.

    Parameters
    ----------
    device : torch.device
        The GPU.
    record : Callable, optional
        ``record(compute) -> (replay, values)``: record a computation without running it. None: as a CUDA graph.

    Attributes
    ----------
    refused : str
        Reason for which the last layout that cannot be captured is run kernel by kernel; empty if all can.
    """

    def __init__(self, device: torch.device, record: Record | None = None) -> None:
        self.device, self.refused = device, ""
        self._on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._pool = self._new_pool()
        self._record = record or self._record_graph
        self._seen: dict[Hashable, _Captured | None] = {}
        self._impossible: set[Hashable] = set()

    @property
    def graphs(self) -> int:
        """Number of graphs held."""
        return sum(captured is not None for captured in self._seen.values())

    def run(self, step: Step, inputs: Any) -> Tensor:
        """Take a step, by the graph of its layout from the second of a layout on.

        Parameters
        ----------
        step : Callable
            The step, a function of its inputs and of tensors that keep their place.
        inputs
            Tensors in frozen dataclasses and tuples.

        Returns
        -------
        Tensor
            Values of the step.
        """
        layout = layout_of(inputs)
        with self._own_stream(), tf32_products() if self._on_gpu else nullcontext():
            if layout not in self._seen:
                self._seen[layout] = None
                self._evict()
                return _plainly(step, inputs)
            captured = self._seen[layout] or self._capture(step, inputs, layout)
            if captured is None:
                return _plainly(step, inputs)
            for source, target in zip(tensors_of(inputs), captured.inputs, strict=True):
                target.copy_(source)
            captured.replay()
            return captured.values.clone()

    def _evict(self) -> None:
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]

    def _capture(self, step: Step, inputs: Any, layout: Hashable) -> _Captured | None:
        if layout in self._impossible:
            return None
        memory = map_tensors(inputs, torch.clone)
        try:
            with garbage_kept():
                replay, values = self._record(lambda: step(memory))
        except RuntimeError as error:  # an operation that cannot be captured
            self._impossible.add(layout)
            self.refused = str(error).strip().splitlines()[0]
            self._pool = self._new_pool()  # a capture that was broken off may still hold the former one
            return None
        captured = _Captured(tensors_of(memory), replay, values)
        self._seen[layout] = captured
        return captured

    def _record_graph(self, compute: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            values = compute()
        return graph.replay, values

    def _new_pool(self) -> Any:
        return torch.cuda.graph_pool_handle() if self._on_gpu else None

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Run on a stream of its own, after what the current one holds and before what follows there."""
        if self._stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)


def _plainly(step: Step, inputs: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*capturable=True")  # the first step of a layout
        return step(inputs)


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Replace every tensor in dataclasses and tuples.

    Parameters
    ----------
    value
        The structure.
    function : Callable
        From a tensor to its replacement.

    Returns
    -------
    Any
        A structure of the same types; what is no tensor stays as it is.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(map_tensors(part, function) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        made = object.__new__(type(value))  # replacements need not meet the checks of the constructor
        for each in fields(value):
            object.__setattr__(made, each.name, map_tensors(getattr(value, each.name), function))
        return made
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """Return all tensors of a structure, see `map_tensors`.

    Parameters
    ----------
    value
        The structure.

    Returns
    -------
    list of Tensor
        The tensors, in the order of the fields.
    """
    found: list[Tensor] = []
    map_tensors(value, found.append)
    return found


def layout_of(value: Any) -> Hashable:
    """Return all of a structure, see `map_tensors`, but the values of its tensors: types, shapes and other fields.

    Parameters
    ----------
    value
        The structure; its dataclasses are frozen.

    Returns
    -------
    Hashable
        Equal for structures of one layout.
    """
    layout: Hashable = map_tensors(value, lambda tensor: (tuple(tensor.shape), tensor.dtype))
    return layout
