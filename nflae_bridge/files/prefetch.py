"""Compute results in threads ahead of the loop that takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


@contextmanager
def prefetch_map(
    work: Callable[[Item], Output], items: Iterable[Item], workers: int = 1, ahead: int = 1
) -> Iterator[Iterator[Output]]:
    """Map a function over items in threads, in order, ahead of the loop over the results.

    An exception of `work` or of the items is raised in the loop in place of its result, after all results before it. On
    leaving the context, normally or not, pending items are dropped and running ones are waited for.

    Parameters
    ----------
    work : callable
        Function of one item.
    items : iterable
        Items, advanced in the thread of the loop.
    workers : int
        Number of threads, each with an item of its own.
    ahead : int
        Largest number of items that are pending, running or finished when the loop takes a result; one less while the
        loop processes it.

    Yields
    ------
    iterator
        Results in the order of the items.
    """
    pool = ThreadPoolExecutor(workers)
    source = iter(items)
    pending: deque[Future[Output]] = deque()

    def submit() -> bool:
        """Submit another item; return False if there is none."""
        try:
            pending.append(pool.submit(work, next(source)))
        except StopIteration:
            return False
        except Exception as error:
            failed: Future[Output] = Future()
            failed.set_exception(error)
            pending.append(failed)
            return False
        return True

    def results() -> Iterator[Output]:
        more = True
        while more or pending:
            while more and len(pending) < ahead:
                more = submit()
            if pending:
                yield pending.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
