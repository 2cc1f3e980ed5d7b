"""The queue between the socket and the device: order, batches, bounds, waiting."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nflae_bridge.live.protocol import PrecodeRequest
from nflae_bridge.live.server.micro_batches import Job, JobQueue
from simulator.downlink.budget import LinkBudget

_ticks = count()


def job(drops: int = 1, scheme: str = "mrt", users: int = 2, arrived: float | None = None, **fields: object) -> Job:
    """A job that came after all those made before it, but long ago, unless ``arrived`` says when."""
    channels = np.broadcast_to(np.complex64(1), (drops, users, 4))
    request = PrecodeRequest("", channels, scheme=scheme, **fields)  # type: ignore[arg-type]
    return Job([], request, next(_ticks) * 1e-6 if arrived is None else arrived)


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["mrt", "zf", "rzf"])), min_size=1), st.integers(1, 12))
def test_batches_hold_the_oldest_job_and_the_next_of_its_kind(kinds: list[tuple[int, str]], max_drops: int) -> None:
    queue = JobQueue(len(kinds), 1 << 30)
    waiting = [job(drops, scheme) for drops, scheme in kinds]
    assert all(queue.put(one) for one in waiting)
    while waiting:
        batch = queue.take(max_drops)
        assert batch[0] is waiting[0]
        alike = [one for one in waiting if one.key == waiting[0].key]
        assert batch == alike[: len(batch)]
        total = sum(one.drops for one in batch)
        assert total <= max_drops or len(batch) == 1
        if len(batch) < len(alike):
            assert total + alike[len(batch)].drops > max_drops
        waiting = [one for one in waiting if not any(one is taken for taken in batch)]
        assert len(queue) == len(waiting)
    queue.close()
    assert queue.take(max_drops) == []


@pytest.mark.parametrize(
    "other",
    [
        {"scheme": "zf"},
        {"users": 3},
        {"refine": 1},
        {"near_field": np.ones((1, 2), bool)},
    ],
)
def test_jobs_that_differ_are_never_taken_together(other: dict[str, object]) -> None:
    queue = JobQueue(9, 1 << 30)
    first, second = job(), job(**other)  # type: ignore[arg-type]
    queue.put(first)
    queue.put(second)
    assert queue.take(64) == [first]
    assert queue.take(64) == [second]


def test_jobs_whose_budgets_differ_are_taken_together() -> None:
    queue = JobQueue(9, 1 << 30)
    budgets = LinkBudget(power=2.0, noise_power=0.5), LinkBudget(min_rate=1.0, alpha_c=0.5)
    jobs = [job(), job(budget=budgets[0]), job(budget=budgets[1], want=("power",))]
    for one in jobs:
        queue.put(one)
    assert queue.take(64) == jobs


class Bounds(RuleBasedStateMachine):
    """Never more jobs or bytes than the limits, but for one job alone; a refused job leaves no trace."""

    limit, limit_bytes = 4, 10 * 64

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue(self.limit, self.limit_bytes)
        self.inside: list[Job] = []

    @rule(drops=st.integers(1, 12), scheme=st.sampled_from(["mrt", "zf"]))
    def put(self, drops: int, scheme: str) -> None:
        one = job(drops, scheme)
        assert one.size == drops * 64
        held = sum(other.size for other in self.inside)
        fits = not self.inside or (len(self.inside) < self.limit and held + one.size <= self.limit_bytes)
        assert self.queue.put(one) == fits
        if fits:
            self.inside.append(one)

    @precondition(lambda self: self.inside)
    @rule(max_drops=st.integers(1, 12))
    def take(self, max_drops: int) -> None:
        taken = self.queue.take(max_drops)
        assert taken[0] is self.inside[0]
        self.inside = [one for one in self.inside if not any(one is other for other in taken)]

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.inside) <= self.limit


TestBounds = Bounds.TestCase


def test_expected_jobs_are_waited_for_but_not_longer_than_max_wait() -> None:
    queue = JobQueue(9, 1 << 30)
    queue.put(job(arrived=time.perf_counter()))
    began = time.perf_counter()
    assert len(queue.take(64, expected=2, max_wait=0.2)) == 1
    assert time.perf_counter() - began >= 0.15

    # One that has waited that long already makes nobody wait again.
    queue.put(job(arrived=time.perf_counter() - 60))
    began = time.perf_counter()
    assert len(queue.take(64, expected=2, max_wait=60)) == 1
    assert time.perf_counter() - began < 30

    # One client alone never waits.
    queue.put(job(arrived=time.perf_counter()))
    began = time.perf_counter()
    assert len(queue.take(64, expected=1, max_wait=60)) == 1
    assert time.perf_counter() - began < 30


def test_the_wait_ends_with_the_job_that_was_expected() -> None:
    queue = JobQueue(9, 1 << 30)
    batches: list[list[Job]] = []
    taker = threading.Thread(target=lambda: batches.append(queue.take(64, expected=3, max_wait=60)))
    began = time.perf_counter()
    taker.start()
    for _ in range(3):
        queue.put(job(arrived=time.perf_counter()))
    taker.join(30)
    assert time.perf_counter() - began < 30
    assert [len(batch) for batch in batches] == [3]


def test_close_wakes_who_waits_and_leaves_what_is_in() -> None:
    queue = JobQueue(9, 1 << 30)
    got: list[list[Job]] = []
    takers = [threading.Thread(target=lambda: got.append(queue.take(64))) for _ in range(3)]
    for taker in takers:
        taker.start()
    queue.close()
    for taker in takers:
        taker.join(30)
    assert got == [[], [], []]

    queue = JobQueue(9, 1 << 30)
    one = job(arrived=time.perf_counter())
    queue.put(one)
    queue.close()
    assert queue.take(64, expected=5, max_wait=60) == [one]
    assert queue.take(64) == []


def test_many_threads_lose_double_and_reorder_nothing() -> None:
    """Four put, one takes, as many as the queue holds: each thread's jobs of a kind come out in its order."""
    queue = JobQueue(16, 1 << 30)
    each = 500
    put: dict[int, list[Job]] = defaultdict(list)

    def jobs(number: int) -> Iterator[Job]:
        rng = np.random.default_rng(number)
        for _ in range(each):
            yield job(int(rng.integers(1, 4)), str(rng.choice(["mrt", "zf"])), arrived=time.perf_counter())

    def fill(number: int) -> None:
        for one in jobs(number):
            while not queue.put(one):
                time.sleep(0)
            put[number].append(one)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    taken: list[Job] = []
    while len(taken) < 4 * each:
        batch = queue.take(8, expected=4, max_wait=1e-3)
        assert len({one.key for one in batch}) == 1
        assert sum(one.drops for one in batch) <= 8
        taken += batch
        assert len(queue) <= 16
    for thread in threads:
        thread.join(30)
    assert len(queue) == 0
    places = {id(one): place for place, one in enumerate(taken)}
    assert len(places) == 4 * each
    for mine in put.values():
        for key in {one.key for one in mine}:
            order = [places[id(one)] for one in mine if one.key == key]
            assert order == sorted(order)
