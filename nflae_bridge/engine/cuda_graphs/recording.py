"""Capture computations as CUDA graphs."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, TypeVar

import torch

Captured = TypeVar("Captured")

CAPTURING = threading.RLock()
"""Held while a graph is captured or freed: PyTorch permits one capture at a time in a process."""

_WARM_UP = 2  # libraries initialise in their first calls, which no graph may hold


class Streams(NamedTuple):
    """Hold the streams of graphs that are replayed one after another.

    Graphs captured on one stream share the workspace of cuBLAS, so their replays must not overlap. Page-locked memory
    is freed by an event on every stream that has copied it; on a stream under capture, the event would be part of the
    capture, and no page-locked memory could be allocated after it. Hence no copies on the streams of captures.

    Attributes
    ----------
    run
        Stream of replays, and of the copies before and after them.
    capture, beside
        Streams on which graphs are captured, the second for what runs beside the first.
    """

    run: torch.cuda.Stream
    capture: torch.cuda.Stream
    beside: torch.cuda.Stream


@cache
def streams(device: torch.device, turn: int) -> Streams:
    """Return the streams of one of the two graphs of a shape, the same for all shapes.

    PyTorch has 32 streams per device and gives them out in turn, so those made per graph would come again.

    Parameters
    ----------
    device
        The GPU.
    turn
        0 or 1.

    Returns
    -------
    Streams
    """
    return Streams(*(torch.cuda.Stream(device) for _ in Streams._fields))  # type: ignore[no-untyped-call]


def stream_beside(device: torch.device, capturing: torch.cuda.Stream) -> torch.cuda.Stream:
    """Return the stream for what runs beside a captured stream.

    Parameters
    ----------
    device
        The GPU.
    capturing
        Stream of the capture, one of `streams`.

    Returns
    -------
    torch.cuda.Stream
    """
    return next(found.beside for found in map(streams, (device, device), (0, 1)) if found.capture == capturing)


def capture(
    compute: Callable[[], Captured],
    stream: torch.cuda.Stream,
    finish: Callable[[Captured], None] = lambda _: None,
) -> tuple[torch.cuda.CUDAGraph, Captured]:
    """Capture a computation as a CUDA graph.

    Parameters
    ----------
    compute
        The computation, run a few times before it is captured.
    stream
        Stream to run and capture it on.
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
    with CAPTURING:
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                compute()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with garbage_kept(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = compute()
            finish(outputs)
    return graph, outputs


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Collect garbage before, not during, a capture, which the end of another graph would spoil."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def tf32_products() -> Iterator[None]:
    """Compute float32 products in TF32: the network's; those that rates depend on are in double."""
    with CAPTURING:  # a setting of the process
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
