"""The queue between the socket and the device: order, batches, bounds, waiting."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.micro_batches import Job, JobQueue
from simulator.downlink.budget import LinkBudget

_ticks = count()


def job(
    drops: int = 1,
    scheme: str = "mrt",
    users: int = 2,
    arrived: float | None = None,
    client: bytes = b"",
    **fields: object,
) -> Job:
    """A job that came after all those made before it, but long ago, unless ``arrived`` says when."""
    channels = np.broadcast_to(np.complex64(1), (drops, users, 4))
    request = PrecodeRequest("", channels, scheme=scheme, **fields)  # type: ignore[arg-type]
    return Job([client], request, next(_ticks) * 1e-6 if arrived is None else arrived)


def at_most(drops: int) -> Callable[[Job], int]:
    return lambda first: drops


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["mrt", "zf", "rzf"])), min_size=1), st.integers(1, 12))
def test_batches_hold_the_oldest_job_and_the_next_of_its_kind(kinds: list[tuple[int, str]], max_drops: int) -> None:
    queue = JobQueue(2 * len(kinds))
    waiting = [job(drops, scheme) for drops, scheme in kinds]
    assert all(queue.put(one) for one in waiting)
    while waiting:
        batch = queue.take(at_most(max_drops))
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
    assert queue.take(at_most(max_drops)) == []


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
    queue = JobQueue(20)
    first, second = job(), job(**other)  # type: ignore[arg-type]
    queue.put(first)
    queue.put(second)
    assert queue.take(at_most(64)) == [first]
    assert queue.take(at_most(64)) == [second]


def test_jobs_whose_budgets_differ_are_taken_together() -> None:
    queue = JobQueue(20)
    budgets = LinkBudget(power=2.0, noise_power=0.5), LinkBudget(min_rate=1.0, alpha_c=0.5)
    jobs = [job(), job(budget=budgets[0]), job(budget=budgets[1], want=("power",))]
    for one in jobs:
        queue.put(one)
    assert queue.take(at_most(64)) == jobs


class Bounds(RuleBasedStateMachine):
    """Never more jobs than the limit, and for each client at most four times what it leaves to others."""

    limit = 12

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue(self.limit)
        self.inside: list[Job] = []

    @rule(drops=st.integers(1, 12), scheme=st.sampled_from(["mrt", "zf"]), client=st.sampled_from([b"1", b"2", b"3"]))
    def put(self, drops: int, scheme: str, client: bytes) -> None:
        one = job(drops, scheme, client=client)
        own, free = sum(other.client == client for other in self.inside), self.limit - len(self.inside)
        fits = not self.inside or (free >= 1 and own + 1 <= max(1, 4 * (free - 1)))
        assert self.queue.put(one) == fits
        if fits:
            self.inside.append(one)

    @precondition(lambda self: self.inside)
    @rule(max_drops=st.integers(1, 12))
    def take(self, max_drops: int) -> None:
        taken = self.queue.take(at_most(max_drops))
        mine = [one for one in self.inside if one.client == taken[0].client]
        assert taken[0] is mine[0]
        self.inside = [one for one in self.inside if not any(one is other for other in taken)]

    @rule()
    def drain(self) -> None:
        assert {id(one) for one in self.queue.drain()} == {id(one) for one in self.inside}
        self.inside = []

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.inside) <= self.limit


TestBounds = Bounds.TestCase


def test_expected_jobs_are_waited_for_but_not_longer_than_max_wait() -> None:
    queue = JobQueue(20)
    queue.put(job(arrived=time.perf_counter()))
    began = time.perf_counter()
    assert len(queue.take(at_most(64), expected=2, max_wait=0.2)) == 1
    assert time.perf_counter() - began >= 0.15

    # One that has waited that long already makes nobody wait again.
    queue.put(job(arrived=time.perf_counter() - 60))
    began = time.perf_counter()
    assert len(queue.take(at_most(64), expected=2, max_wait=60)) == 1
    assert time.perf_counter() - began < 30

    # One client alone never waits.
    queue.put(job(arrived=time.perf_counter()))
    began = time.perf_counter()
    assert len(queue.take(at_most(64), expected=1, max_wait=60)) == 1
    assert time.perf_counter() - began < 30


def test_the_wait_ends_with_the_job_that_was_expected() -> None:
    queue = JobQueue(20)
    batches: list[list[Job]] = []
    taker = threading.Thread(target=lambda: batches.append(queue.take(at_most(64), expected=3, max_wait=60)))
    began = time.perf_counter()
    taker.start()
    for _ in range(3):
        queue.put(job(arrived=time.perf_counter()))
    taker.join(30)
    assert time.perf_counter() - began < 30
    assert [len(batch) for batch in batches] == [3]


def test_a_client_with_many_jobs_delays_no_other() -> None:
    """The other's only job leads the next batch, whatever waits before it."""
    queue = JobQueue(1024)
    for _ in range(500):
        queue.put(job(4, client=b"greedy"))
    assert len(queue.take(at_most(8))) == 2
    queue.put(job(scheme="zf", client=b"modest"))
    assert [one.client for one in queue.take(at_most(8))] == [b"modest"]
    assert queue.put(job(client=b"third"))


def test_clients_share_batches_and_get_equal_computation() -> None:
    queue = JobQueue(1024)
    for _ in range(60):
        queue.put(job(6, client=b"large"))
        queue.put(job(1, client=b"small"))
    assert {one.client for one in queue.take(at_most(8))} == {b"large", b"small"}
    drops = {b"large": 0, b"small": 0}
    while drops[b"small"] < 40:
        (one,) = queue.take(at_most(1))
        drops[one.client] += one.drops
    assert abs(drops[b"large"] - drops[b"small"]) <= 12


def test_what_is_passed_over_stays() -> None:
    queue = JobQueue(20)
    long, short = job(8, client=b"1"), job(1, client=b"2")
    queue.put(long)
    queue.put(short)
    assert queue.take(lambda first: 0 if first.drops > 4 else 4, block=False) == [short]
    assert queue.take(lambda first: 0, block=False) == []
    assert queue.take(at_most(64)) == [long]
    assert queue.take(at_most(64), block=False) == []


def test_close_wakes_who_waits_and_leaves_what_is_in() -> None:
    queue = JobQueue(20)
    got: list[list[Job]] = []
    takers = [threading.Thread(target=lambda: got.append(queue.take(at_most(64)))) for _ in range(3)]
    for taker in takers:
        taker.start()
    queue.close()
    for taker in takers:
        taker.join(30)
    assert got == [[], [], []]

    queue = JobQueue(20)
    one = job(arrived=time.perf_counter())
    queue.put(one)
    queue.close()
    assert queue.take(at_most(64), expected=5, max_wait=60) == [one]
    assert queue.take(at_most(64)) == []


def test_many_threads_lose_double_and_reorder_nothing() -> None:
    """Four put, one takes, as many as the queue holds: each thread's jobs of a kind come out in its order."""
    queue = JobQueue(16)
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
        batch = queue.take(at_most(8), expected=4, max_wait=1e-3)
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
