"""Recordings on a GPU give what the CPU gives, for every shape, budget and place of the channels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nflae_bridge.engine.cuda_graphs import LARGEST, _size
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.sinr import achieved_sinr, rates

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

BUDGETS = {
    "free": LinkBudget(1.0, 0.01),
    "near share": LinkBudget(1.0, 0.01, 0.3),
    "minimum rates": LinkBudget(1.0, 0.01, 0.4, 1.5),
}


@pytest.fixture(scope="module")
def engines() -> tuple[Engine, Engine]:
    checkpoint = load_model("tiny", torch.device("cpu"))
    return Engine(checkpoint, "cpu"), Engine(checkpoint, "cuda")


def drops(count: int, users: int = 6, seed: int = 0) -> ChannelBatch:
    drawn = scenario("paper", users=users).draw(count, torch.Generator().manual_seed(seed))
    return ChannelBatch(drawn.channels, drawn.near_field)


def assert_alike(found: Precoding, expected: Precoding, batch: ChannelBatch, budget: LinkBudget) -> None:
    assert found.precoder.device == batch.channels.device
    power = found.power.cpu()
    achieved = rates(achieved_sinr(batch.channels.cpu(), found.precoder.cpu(), power, budget.noise_power)).sum(-1)
    torch.testing.assert_close(achieved, found.sum_rate.cpu(), rtol=1e-5, atol=1e-5)
    # TF32 in the network moves a drop's sum rate by 1e-3 or so, by more where users stand side by side.
    apart = (found.sum_rate.cpu() / expected.sum_rate - 1).abs()
    assert float((apart < 1e-2).double().mean()) > 0.99
    assert float(apart.max()) < 0.1
    assert abs(float(found.sum_rate.mean() / expected.sum_rate.mean()) - 1) < 5e-4
    torch.testing.assert_close(found.near_field.cpu(), expected.near_field)
    torch.testing.assert_close(found.feasible.cpu(), expected.feasible)


@needs_gpu
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("count", [1, 3, 64, 2500])
def test_a_recording_gives_the_cpus_answer(engines: tuple[Engine, Engine], count: int, budget: LinkBudget) -> None:
    cpu, gpu = engines
    for seed in range(4):  # computed, recorded, played, played
        batch = drops(count, seed=seed)
        assert_alike(gpu(batch, budget), cpu(batch, budget), batch, budget)
    assert gpu.replays is not None
    assert not gpu.replays._unrecordable


@needs_gpu
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_channels_on_the_gpu_or_without_labels_are_answered_alike(
    engines: tuple[Engine, Engine], budget: LinkBudget
) -> None:
    cpu, gpu = engines
    assert gpu.replays is not None
    for seed in range(3):
        batch = ChannelBatch(drops(50, seed=seed).channels)
        expected = cpu(batch, budget)
        assert_alike(gpu(batch, budget), expected, batch, budget)
        there = ChannelBatch(batch.channels.cuda())
        assert_alike(gpu(there, budget), expected, there, budget)
        pinned = ChannelBatch(batch.channels.pin_memory())
        assert_alike(gpu(pinned, budget), expected, pinned, budget)
    assert not gpu.replays._unrecordable


@needs_gpu
def test_every_drop_may_have_a_budget_of_its_own(engines: tuple[Engine, Engine]) -> None:
    cpu, gpu = engines
    for seed in range(3):
        batch = drops(40, seed=seed)
        budget = LinkBudget(
            torch.linspace(0.1, 2.0, 40),
            torch.full((40,), 0.01),
            torch.linspace(0.2, 1.0, 40),
            torch.linspace(0, 1, 40),
        )
        assert_alike(gpu(batch, budget), cpu(batch, budget), batch, budget)


@needs_gpu
def test_what_was_recorded_under_inference_mode_plays_outside_of_it(engines: tuple[Engine, Engine]) -> None:
    cpu, gpu = engines
    batch, budget = drops(7, users=3), LinkBudget()
    for _ in range(2):
        with torch.inference_mode():
            gpu(batch, budget)
    assert_alike(gpu(batch, budget), cpu(batch, budget), batch, budget)


@given(st.integers(1, 5000))
def test_a_recording_is_for_a_few_drops_more_or_for_as_many_as_it_takes(drops: int) -> None:
    size = _size(drops)
    assert size <= LARGEST
    assert size == LARGEST or drops <= size <= drops * 9 / 8
    assert _size(size) == size
