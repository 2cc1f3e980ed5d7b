"""A batch in parts, each worked on by a thread of its own.

PyTorch's threads share every single operation, and on K x K matrices they spend their time waiting for each other.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

Result = TypeVar("Result")

# Drops in a part: fewer are not worth a thread, more don't stay in its cache.
_LEAST, _MOST = 128, 512


def parts_of(drops: int) -> list[slice]:
    """The parts of a batch, as many for each of PyTorch's threads; a single one where threads wouldn't pay."""
    threads = min(torch.get_num_threads(), drops // _LEAST)
    if threads < 2:
        return [slice(0, drops)]
    count = threads * -(-drops // (threads * _MOST))
    ends = [drops * end // count for end in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def on_threads(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    """The results of ``work`` on each part, in order; on as many threads as PyTorch has, each with one of its own."""
    return list(_pool(torch.get_num_threads(), os.getpid()).map(work, parts))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """process: threads don't outlive a fork, and a pool without them would wait for ever."""
    pool = ThreadPoolExecutor(threads, "nflae", torch.set_num_threads, (1,))
    started = Barrier(threads)
    for waiting in [pool.submit(started.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(threads)  # each thread has set its own number, and the one that later threads begin with
    return pool
