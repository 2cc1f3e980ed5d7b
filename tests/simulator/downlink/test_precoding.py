"""Candidates: picked apart, put together, and compared drop by drop."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import Candidate
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import rates
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

DROPS, USERS = 5, 3


def random_candidate(drops: int = DROPS, seed: int = 0) -> Candidate:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.rand(drops, *shape, generator=generator, dtype=torch.float64)

    return Candidate(
        torch.complex(numbers(USERS, USERS), numbers(USERS, USERS)),
        numbers(USERS),
        numbers(USERS),
        numbers(USERS),
        numbers() < 0.5,
    )


def assert_same(first: Candidate, second: Candidate) -> None:
    for field in fields(Candidate):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name


def with_rates(sinr: list[float], feasible: list[bool]) -> Candidate:
    """One user a drop with these SINRs; shares that tell whose candidate it is."""
    one = torch.ones(len(sinr), 1, dtype=torch.float64)
    return Candidate(one[..., None].cfloat(), one, one, torch.tensor(sinr).double()[:, None], torch.tensor(feasible))


@pytest.mark.parametrize("chosen", [[0, 2], [], [0, 1, 2, 3, 4]])
def test_selected_drops_are_those_drops(chosen: list[int]) -> None:
    whole = random_candidate()
    mask = torch.zeros(DROPS, dtype=torch.bool)
    mask[chosen] = True
    part = whole.select(mask)
    for field in fields(Candidate):
        value = getattr(whole, field.name)
        assert getattr(part, field.name).shape == (len(chosen), *value.shape[1:])
        for place, drop in enumerate(chosen):
            assert torch.equal(getattr(part, field.name)[place], value[drop])


def test_replaced_drops_are_the_others_and_the_rest_stays() -> None:
    whole, other = random_candidate(), random_candidate(2, seed=1)
    before = random_candidate()
    mask = torch.tensor([False, True, False, False, True])
    mixed = whole.replaced(mask, other)
    assert_same(mixed.select(mask), other)
    assert_same(mixed.select(~mask), whole.select(~mask))
    assert_same(whole, before)  # a new one is made


def test_drops_put_back_where_they_came_from_change_nothing() -> None:
    whole, mask = random_candidate(), torch.tensor([True, True, False, True, False])
    assert_same(whole.replaced(mask, whole.select(mask)), whole)


def test_better_is_who_is_feasible_then_who_has_the_rate() -> None:
    ours = with_rates([1.0, 1.0, 9.0, 1.0, 1.0], [True, True, False, False, True])
    theirs = with_rates([2.0, 0.5, 2.0, 2.0, 9.0], [True, True, True, False, False])
    best, won = ours.better_of(theirs)
    assert won.tolist() == [True, False, True, True, False]
    torch.testing.assert_close(best.sum_rate, rates(torch.tensor([2.0, 1.0, 2.0, 2.0, 1.0]).double()))
    assert best.feasible.tolist() == [True, True, True, False, True]


def test_no_number_is_never_better() -> None:
    """Not even one that passes for feasible."""
    nan = float("nan")
    number, none = with_rates([1.0, 1.0], [False, True]), with_rates([nan, nan], [True, True])
    for ours, theirs, expected in ((number, none, False), (none, number, True)):
        best, won = ours.better_of(theirs)
        assert won.tolist() == [expected] * 2
        assert bool(best.sum_rate.isfinite().all())


def test_answers_are_put_in_their_drops_places_with_labels_and_rates() -> None:
    budget = LinkBudget(2.0, 0.1)
    whole, part = ChannelBatch(draw_channels(0, 3, 8, drops=DROPS)), ChannelBatch(draw_channels(1, 3, 8, drops=2))
    first, second = scheme("rzf")(whole, budget), scheme("mrt")(part, budget)
    mask = torch.tensor([False, True, False, False, True])
    both = first.replaced(mask, second).to(torch.device("cpu"))
    for name in ("precoder", "power", "uplink_power", "feasible", "fallback", "near_field", "near_field_score", "sinr"):
        found = getattr(both, name)
        torch.testing.assert_close(found[mask], getattr(second, name), equal_nan=True)
        torch.testing.assert_close(found[~mask], getattr(first, name)[~mask], equal_nan=True)
