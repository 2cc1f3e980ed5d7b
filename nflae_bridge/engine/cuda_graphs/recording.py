"""Capture computations as CUDA graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Captured = TypeVar("Captured")

_WARM_UP = 2  # libraries initialise in their first calls, which no graph may hold


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
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
