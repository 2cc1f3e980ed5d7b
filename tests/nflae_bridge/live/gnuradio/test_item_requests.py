"""Late items of the precoder block, without GNU Radio: in the order of events that a server's client produces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge import precode
from nflae_bridge.live.client import slots
from nflae_bridge.live.errors import BadRequest, NoAnswer
from nflae_bridge.live.gnuradio.blocks import requests
from nflae_bridge.live.gnuradio.blocks.requests import AnsweredItems, ItemRequests, LateOptions, ServerOptions
from simulator.downlink.budget import BudgetError, LinkBudget
from tests.channel_files import random_channels

ADDRESS = "tcp://127.0.0.1:1"


class HeldClient:
    """Answers when released, or raises; in place of `Client`."""

    def __init__(self, address: str, timeout: float, **keys: Any) -> None:
        self.requested: list[tuple[npt.NDArray[Any], dict[str, Any]]] = []
        self.arrived, self.released = threading.Semaphore(0), threading.Semaphore(0)
        self.outcomes: list[Exception | None] = []
        self.closed = False

    def precode(self, channels: npt.NDArray[Any], **options: Any) -> Result:
        self.requested.append((channels, options))
        self.arrived.release()
        assert self.released.acquire(timeout=60)
        outcome = NoAnswer("closed") if self.closed else self.outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return precode(channels, scheme="mrt", noise_power=options["noise_power"])

    def release(self, outcome: Exception | None = None) -> None:
        self.outcomes.append(outcome)
        self.released.release()

    def close(self) -> None:
        self.closed = True
        self.released.release()


Make = Callable[..., tuple[ItemRequests, HeldClient]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(slots, "Client", HeldClient)
    monkeypatch.setattr(requests, "_BLOCK_SECONDS", 0.001)
    made: list[ItemRequests] = []

    def call(policy: Any, deadline: float = 0.0, max_items: int = 64) -> tuple[ItemRequests, HeldClient]:
        server, late = ServerOptions(ADDRESS), LateOptions(policy, deadline, max_items)
        items = ItemRequests(server, late, scaled=True, budget=LinkBudget())
        items.start()
        made.append(items)
        client: Any = items._slots._client  # type: ignore[union-attr]
        return items, client

    yield call
    for each in made:
        each.stop()


def amplitudes(channels: npt.NDArray[np.complex64], noise_power: float = 0.01) -> npt.NDArray[np.complex64]:
    result = precode(channels, scheme="mrt", noise_power=noise_power)
    return (result.precoder * np.sqrt(result.power)[..., None]).astype(np.complex64)


def until(items: ItemRequests, first: int, channels: npt.NDArray[np.complex64]) -> AnsweredItems:
    """Call as the scheduler does, until there is an answer."""
    for _ in range(60_000):
        answered = items.answer(first, channels)
        if answered is not None:
            return answered
    raise AssertionError("no answer within the calls of a minute")


@pytest.mark.parametrize("policy", ["hold", "zeros"])
def test_late_items_are_answered_by_the_policy_and_the_next_ones_by_their_own(make: Make, policy: str) -> None:
    items, client = make(policy)
    h = random_channels(6, 2, 8)
    first = items.answer(0, h[:2])  # nothing to hold yet
    assert first is not None
    assert not first.precoders.any()
    assert first.metadata == [{"nflae_late": "zeros"}] * 2
    assert first.fault == f"{ADDRESS}: no answer within 0 ms; unless `nflae serve` runs there, start it"
    assert client.arrived.acquire(timeout=60)
    client.release()
    assert not isinstance(items._slots.wait(1, 60.0), Exception | None)  # type: ignore[union-attr]
    late = items.answer(2, h[2:4])
    assert late is not None
    assert late.late == 2
    if policy == "hold":
        np.testing.assert_array_equal(late.precoders, amplitudes(h[:2])[[1, 1]])
        assert [entries["nflae_item"] for entries in late.metadata] == [1, 1]
        assert [entries["nflae_late"] for entries in late.metadata] == ["hold", "hold"]
    else:
        assert not late.precoders.any()
        assert late.metadata == [{"nflae_late": "zeros"}] * 2
    client.release()
    items._late = LateOptions("hold", 60.0)
    client.release()
    own = items.answer(4, h[4:])
    assert own is not None
    np.testing.assert_array_equal(own.precoders, amplitudes(h[4:]))
    assert [entries["nflae_item"] for entries in own.metadata] == [4, 5]
    assert (own.late, own.fault) == (0, "")
    assert (items.counts.items, items.counts.late, items.counts.bad) == (6, 4, 0)


def test_block_waits_for_the_same_items_through_a_lost_server(make: Make) -> None:
    items, client = make("block")
    h = random_channels(5, 2, 8)
    assert items.answer(7, h[:3]) is None
    assert items.reason() == f"{ADDRESS}: no answer yet; unless `nflae serve` runs there, start it"
    client.release(NoAnswer("away"))
    assert items.answer(7, h) is None  # the scheduler has more by now
    client.release(NoAnswer("away"))
    client.release()
    answered = until(items, 7, h)
    count = len(answered.precoders)
    np.testing.assert_array_equal(answered.precoders, amplitudes(h[:count]))
    assert [entries["nflae_item"] for entries in answered.metadata] == list(range(7, 7 + count))
    assert (items.counts.items, items.counts.late) == (count, 0)


def test_unusable_items_are_zeros_and_the_others_keep_their_numbers(make: Make) -> None:
    items, client = make("hold", deadline=60.0)
    h = random_channels(4, 2, 8)
    h[1, 0, 2] = np.inf
    h[3, 1] = 0
    client.release()
    answered = items.answer(10, h)
    assert answered is not None
    np.testing.assert_array_equal(answered.precoders[[0, 2]], amplitudes(h[[0, 2]]))
    assert not answered.precoders[[1, 3]].any()
    assert [entries.get("nflae_item") for entries in answered.metadata] == [10, None, 12, None]
    assert answered.metadata[1] == {"nflae_error": "user 1, antenna 3 is Inf (counted from 1)"}
    assert answered.fault == answered.metadata[1]["nflae_error"]
    assert (items.counts.items, items.counts.late, items.counts.bad) == (4, 0, 2)
    alone = items.answer(14, h[[1]])  # no request
    assert alone is not None
    assert len(client.requested) == 1
    items._late = LateOptions("hold", 0.0)
    held = items.answer(15, h[[0]])
    assert held is not None
    assert held.metadata[0]["nflae_item"] == 12  # the last usable one
    np.testing.assert_array_equal(held.precoders, amplitudes(h[[2]]))


@pytest.mark.parametrize("policy", ["hold", "zeros", "block"])
def test_a_refusal_is_not_repeated(make: Make, policy: str) -> None:
    items, client = make(policy, deadline=60.0)
    client.release(BadRequest("no such scheme"))
    answered = until(items, 0, random_channels(2, 2, 8))
    assert answered.metadata == [{"nflae_error": "no such scheme"}] * 2
    assert (answered.late, items.counts.bad) == (0, 2)
    assert len(client.requested) == 1


def test_the_reason_of_a_lost_server_is_named_until_it_answers(make: Make) -> None:
    items, client = make("hold", deadline=60.0)
    h = random_channels(1, 2, 8)
    client.release(NoAnswer("is nflae serve running there"))
    late = items.answer(0, h)
    assert late is not None
    assert late.fault == "is nflae serve running there"
    items._late = LateOptions("hold", 0.0)
    again = items.answer(1, h)
    assert again is not None
    assert again.fault == "is nflae serve running there"
    client.release()
    items._late = LateOptions("hold", 60.0)
    client.release()
    assert items.answer(2, h).fault == ""  # type: ignore[union-attr]
    items._late = LateOptions("hold", 0.0)
    assert items.answer(3, h).fault == f"{ADDRESS}: no answer within 0 ms"  # type: ignore[union-attr]


def test_requests_are_limited_and_take_the_budget_of_their_time(make: Make) -> None:
    items, client = make("hold", deadline=60.0, max_items=3)
    h = random_channels(5, 2, 8)
    client.release()
    assert len(items.answer(0, h).precoders) == 3  # type: ignore[union-attr]
    items.set_budget(noise_power=0.5)
    with pytest.raises(BudgetError, match="noise_power"):
        items.set_budget(noise_power=-1)
    client.release()
    answered = items.answer(3, h[3:])
    assert answered is not None
    np.testing.assert_array_equal(answered.precoders, amplitudes(h[3:], 0.5))
    assert [options["noise_power"] for _, options in client.requested] == [0.01, 0.5]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *(
            (lambda name=name: ServerOptions(ADDRESS, precode={name: 2}), f"no option '{name}': an item is one drop")
            for name in ("window", "streams", "power_scope", "receive_antennas")
        ),
        *(
            (lambda option=option: ServerOptions(ADDRESS, precode=option).check(3, 8, 1.0), said)
            for option, said in (
                ({"convention": "rows"}, "convention 'rows': expected one of hermitian, direct"),
                ({"near_field": [True, False]}, r"near_field must be bool \(drops, users\) = \(1, 3\)"),
                ({"weights": [1, 2]}, "weights must hold one value for each of the 3 users"),
                ({"rf_chains": 2}, "rf_chains must be from 3"),
            )
        ),
        (lambda: LateOptions("wait"), "late must be one of hold, zeros, block, got 'wait'"),  # type: ignore[arg-type]
        (lambda: LateOptions(deadline=-1), "deadline_ms must be at least 0 and finite, got -1000"),
        (lambda: LateOptions(max_items=0), "max_items must be at least 1, got 0"),
        (lambda: ServerOptions("localhost"), "localhost"),
        (lambda: ServerOptions(ADDRESS, timeout=0), "timeout"),
        (lambda: ServerOptions(ADDRESS, precode={"shceme": "rzf"}), "Precoder has no option 'shceme': write 'scheme'"),
        (
            lambda: ServerOptions(ADDRESS, precode={"x": 1}),
            "no option 'x': the options are scheme, effort, refine, conv",
        ),
        (
            lambda: ServerOptions(ADDRESS, precode={"scheme": "zzz"}),
            "unknown scheme 'zzz': there are nflae, .*; a package with a scheme of the server's must be installed here",
        ),
        (lambda: ServerOptions(ADDRESS, precode={"effort": "quick"}), "unknown effort 'quick'"),
    ],
)
def test_wrong_options_are_refused(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(NflaeError, match=said):
        wrong()


def test_labels_are_those_of_every_item_and_limits_of_antennas_hold_without_a_total_power(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "Client", HeldClient)
    h = random_channels(3, 2, 8)
    h[1] = 0
    server = ServerOptions(ADDRESS, precode={"near_field": [True, False], "power_per_antenna": 0.1})
    server.check(2, 8, None)
    items = ItemRequests(server, LateOptions("zeros", 0.0), True, LinkBudget(), has_total_power=False)
    items.start()
    client: Any = items._slots._client  # type: ignore[union-attr]
    for first in (0, 3):
        items.answer(first, h)
        assert client.arrived.acquire(timeout=60)
        client.release()
        items.set_budget(power=2.0)
    items.stop()
    asked = [options for _, options in client.requested]
    assert [options.get("power") for options in asked] == [None, 2.0]
    for options in asked:
        np.testing.assert_array_equal(options["near_field"], [[True, False], [True, False]])
        assert (options["layout"], options["convention"], options["power_per_antenna"]) == ("skn", "hermitian", 0.1)
