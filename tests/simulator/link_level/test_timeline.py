"""Precoders that age: what they give on the channels of later slots."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from simulator.channels.scenario import scenario
from simulator.channels.trajectory import Flight, fly, waypoints_at_speed
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.link_level.timeline import timeline
from simulator.schemes import scheme

BUDGET = LinkBudget(power=1.0, noise_power=0.01)


@pytest.fixture(scope="module")
def flight() -> Flight:
    paths = [waypoints_at_speed([40, 140], [20 + 10 * user, 40], 10.0 + 5 * user) for user in range(3)]
    return fly(paths, scenario("uav", antennas=64), 300, 0.5e-3, torch.Generator().manual_seed(0))


def test_fresh_precoders_give_what_the_scheme_says(flight: Flight) -> None:
    answer = scheme("rzf")(ChannelBatch(flight.channels), BUDGET)
    found = timeline(flight, scheme("rzf"), BUDGET)
    torch.testing.assert_close(found.rate, answer.rate, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.near_field, answer.near_field)
    torch.testing.assert_close(found.sum_rate, found.rate.sum(-1))


@pytest.mark.parametrize("refresh", [7, 256, 300, 1000])
def test_between_refreshes_precoders_are_those_of_the_slot_before(flight: Flight, refresh: int) -> None:
    asked: list[torch.Tensor] = []

    def rzf(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        asked.append(batch.channels)
        return scheme("rzf")(batch, budget)

    found = timeline(flight, rzf, BUDGET, refresh)
    assert torch.equal(torch.cat(asked), flight.channels[::refresh])
    assert found.rate.shape == (300, 3)
    for slot in (0, 6, 7, 150, 255, 256, 299):
        old = slot - slot % refresh
        answer = scheme("rzf")(ChannelBatch(flight.channels[old : old + 1]), BUDGET)
        beams, power = answer.precoder[0].to(torch.complex128), answer.power[0]
        received = (flight.channels[slot].to(torch.complex128).conj() @ beams.T).abs() ** 2 * power
        signal = received.diagonal()
        expected = torch.log2(1 + signal / (received.sum(-1) - signal + 0.01))
        torch.testing.assert_close(found.rate[slot], expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(found.near_field[slot], answer.near_field[0])


def test_old_precoders_are_worth_less(flight: Flight) -> None:
    rates = [float(timeline(flight, scheme("rzf"), BUDGET, refresh).sum_rate.mean()) for refresh in (1, 4, 64)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.9 * rates[0]


def test_outage_is_a_rate_below_the_one_demanded(flight: Flight) -> None:
    found = timeline(flight, scheme("rzf"), LinkBudget(1.0, 0.01, 1.0, 4.0), 50)
    assert torch.equal(found.outage, found.rate < 4.0)
    assert found.outage.any()
    assert not timeline(flight, scheme("rzf"), BUDGET, 50).outage.any()


def test_progress_is_told_and_nonsense_refused(flight: Flight) -> None:
    done: list[int] = []
    timeline(flight, scheme("mrt"), BUDGET, 3, done.append)
    assert done == [255, 300]
    with pytest.raises(ValueError, match="not every 0"):
        timeline(flight, scheme("mrt"), BUDGET, 0)
    with pytest.raises(ValueError, match="SIC"):
        timeline(flight, scheme("noma"), BUDGET)


def test_labels_are_those_of_the_refresh_and_no_rate_demanded_is_no_outage(flight: Flight) -> None:
    def silent(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        precoding = scheme("rzf")(batch, budget)
        near = batch.channels[..., 0].real > 0
        return replace(precoding, compute_labels=lambda: (near, near.double()), power=0 * precoding.power)

    found = timeline(flight, silent, BUDGET, 7)
    expected = flight.channels[::7, :, 0].real > 0
    assert expected.any()
    assert not expected.all()
    assert torch.equal(found.near_field, expected[torch.arange(300) // 7])
    assert not found.rate.any()
    assert not found.outage.any()
