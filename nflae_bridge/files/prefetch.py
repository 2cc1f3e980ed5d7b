"""Work on one item while others are fetched and put away: threads ahead of the loop that takes the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def prefetch_map(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, ahead: int = 1
) -> Iterator[Iterator[Result]]:
    """The results of ``work`` on every item, in the items' order, worked out by threads ahead of the loop over them.

    workers: threads, each on an item of its own. ahead: how many items may be waiting, worked on or finished when the
    loop asks for a result; while it is at one, there are that many less one.

    What ``work`` or the items raise comes up in the loop in the result's place, after all results before it. Leaving
    the context, in whatever way, drops the items that wait and waits for those being worked on.
    """
    pool = ThreadPoolExecutor(workers)
    source = iter(items)
    pending: deque[Future[Result]] = deque()

    def begin() -> bool:
        """Begins another item, if there is one."""
        try:
            pending.append(pool.submit(work, next(source)))
        except StopIteration:
            return False
        except Exception as error:
            failed: Future[Result] = Future()
            failed.set_exception(error)
            pending.append(failed)
            return False
        return True

    def results() -> Iterator[Result]:
        more = True
        while more or pending:
            while more and len(pending) < ahead:
                more = begin()
            if pending:
                yield pending.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
