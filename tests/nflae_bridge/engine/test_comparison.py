"""The comparison of answers: nothing that matters is lost to the margin for rounding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nflae_bridge.engine.comparison import Allocation, Comparison, _pruned_everywhere, _pruned_where_needed, _serve
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.near_parallel import redundant_users
from nflae_bridge.engine.schemes import load_model
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.config import NetworkConfig
from nflae_bridge.network.model import NetworkOutput
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import Candidate
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes import scheme
from tests.nflae_bridge.engine.fake_cuda import install
from tests.simulator.definitions import draw_channels

SMALL = 1e-5
FREE = Limits()
DROPS = 400


def parallel_drops(first: float, second: float, coherence: tuple[float, float], seed: int = 0) -> torch.Tensor:
    """Two users of these gains, at 0 dB, whose coherences lie in an interval, complex64 (DROPS, 2, 4)."""
    generator = torch.Generator().manual_seed(seed)
    low, high = coherence
    inner = torch.sqrt(low + (high - low) * torch.rand(DROPS, generator=generator))
    channels = torch.zeros(DROPS, 2, 4, dtype=torch.complex64)
    channels[:, 0, 0] = first**0.5
    channels[:, 1, 0] = second**0.5 * inner
    channels[:, 1, 1] = second**0.5 * (1 - inner**2).sqrt()
    return channels


def answers(
    channels: torch.Tensor, uplink: list[float], power: list[float], select: Any, limits: Limits = FREE
) -> tuple[Candidate, torch.Tensor, torch.Tensor]:
    """The chosen answer, and the sum rates with and without redundant users; of these every drop has one."""
    gram = normalised_gram(channels, LinkBudget(1.0, 1.0))
    far = torch.zeros(channels.shape[:2], dtype=torch.bool)
    allocation = Allocation(*(torch.tensor([part], dtype=torch.float64).expand(DROPS, 2) for part in (uplink, power)))
    redundant = redundant_users(gram, channels, far, allocation.power_fractions)
    assert bool((redundant.sum(-1) == 1).all())
    own = _serve(gram, allocation, far, limits, 0).sum_rate
    pruned = _serve(gram, allocation.without(redundant), far, limits, 0).sum_rate
    return select(gram, allocation, redundant, far, limits, 0), own, pruned


@pytest.mark.parametrize("select", [_pruned_everywhere, _pruned_where_needed])
@pytest.mark.parametrize("limits", [Limits(), Limits(None, torch.tensor([1e-9], dtype=torch.float64))])
def test_the_better_answer_is_chosen_also_where_it_is_better_by_a_hundredth(select: Any, limits: Limits) -> None:
    best, own, pruned = answers(parallel_drops(4, 4, (0.51, 0.95)), [0.5, 0.5], [0.5, 0.5], select, limits)
    assert bool((best.sum_rate >= torch.maximum(own, pruned) * (1 - 2 * SMALL)).all())
    gain = own / pruned - 1
    assert int(((gain > 10 * SMALL) & (gain < 0.03)).sum()) >= 5
    assert int((gain < -10 * SMALL).sum()) >= 5


@pytest.mark.parametrize("select", [_pruned_everywhere, _pruned_where_needed])
def test_a_redundant_user_that_gets_little_is_still_served_where_that_matters(select: Any) -> None:
    """A weak user has nearly all of the power: the little that the strong one gets is worth a few per cent."""
    little = 5e-3
    best, own, pruned = answers(parallel_drops(0.1, 1, (0.51, 0.6)), [1 - little, little], [1 - little, little], select)
    assert bool((own > pruned * 1.002).all())
    torch.testing.assert_close(best.sum_rate, own, rtol=SMALL, atol=0)


@pytest.mark.parametrize("select", [_pruned_everywhere, _pruned_where_needed])
def test_what_may_be_rounding_switches_the_redundant_user_off(select: Any) -> None:
    """Else rounding would choose between two answers of the same worth, and the users' order the rounding."""
    little = 1e-9
    best, own, pruned = answers(parallel_drops(0.1, 1, (0.51, 0.6)), [1 - little, little], [1 - little, little], select)
    assert bool((own >= pruned).all())
    assert bool((best.power_fractions[:, 1] == 0).all())


class Said(torch.nn.Module):
    """Stands in for a network: the same fractions for every drop."""

    def __init__(self, uplink: list[float], power: list[float]) -> None:
        super().__init__()
        self.fractions = [torch.tensor(part) for part in (uplink, power)]
        self.config = NetworkConfig()
        self.encoder = SimpleNamespace(classifies=True)

    def near_field_logit(self, channels: torch.Tensor) -> torch.Tensor:
        return torch.full(channels.shape[:2], -1.0)

    def forward(self, inputs: Any) -> NetworkOutput:
        uplink, power = (part.expand(inputs.gram.shape[:2]) for part in self.fractions)
        return NetworkOutput(None, uplink, power)


def test_the_engine_loses_nothing_to_the_margin_and_marks_what_is_not_the_networks() -> None:
    channels = parallel_drops(4, 4, (0.51, 0.95))
    batch, budget = ChannelBatch(channels), LinkBudget(1.0, 1.0)
    network, alone = Said([0.5, 0.5], [0.85, 0.15]), Said([1.0, 0.0], [1.0, 0.0])
    answer = Engine(Checkpoint("stub", network, {}))(batch, budget)  # type: ignore[arg-type]
    own, pruned = (
        Engine(Checkpoint("stub", net, {}), with_fallback=False)(batch, budget).sum_rate  # type: ignore[arg-type]
        for net in (network, alone)
    )
    rzf = scheme("rzf")(batch, budget).sum_rate
    networks = torch.maximum(own, pruned)
    assert bool((answer.sum_rate >= torch.maximum(networks, rzf) * (1 - 2 * SMALL)).all())
    clear = (rzf / networks - 1).abs() > 1e-4
    assert torch.equal(answer.fallback[clear], (rzf > networks)[clear])
    assert 0 < int(answer.fallback.sum()) < DROPS


def test_without_transfers_the_choice_is_the_same() -> None:
    channels = parallel_drops(4, 3, (0.3, 0.95))
    batch, budget = ChannelBatch(channels), LinkBudget(1.0, 1.0)
    comparison = Comparison(Said([0.5, 0.5], [0.6, 0.4]), lambda channels: channels.real.sum(-1).double(), True)  # type: ignore[arg-type]
    gram = normalised_gram(channels, budget)
    problem = DeviceProblem.of(batch, budget)
    first, second = (
        comparison.best(problem, gram, 1, suspects) for suspects in (torch.zeros(4, dtype=torch.bool), None)
    )
    torch.testing.assert_close(first.best.sum_rate, second.best.sum_rate, rtol=1e-5, atol=0)
    assert torch.equal(first.fallback, second.fallback)


def assert_not_below(refined: Precoding, plain: Precoding) -> None:
    assert not bool((plain.feasible & ~refined.feasible).any())
    alike = plain.feasible == refined.feasible
    assert bool((refined.sum_rate >= plain.sum_rate * (1 - 2e-6))[alike].all())


def labelled_drops(seed: int, users: int, antennas: int, drops: int) -> ChannelBatch:
    channels = draw_channels(seed, users=users, antennas=antennas, drops=drops, spread_db=20)
    return ChannelBatch(channels, torch.arange(drops * users).reshape(drops, users) % 3 == 0)


LIMITS = {"near share": (0.2, 0.0), "minimum rate": (1.0, 2.0), "both": (0.2, 1.0)}


@pytest.mark.parametrize(("alpha_c", "min_rate"), LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize(("users", "antennas"), [(4, 24), (5, 6), (6, 4)])
@pytest.mark.parametrize("model", ["tiny", "nano"])
def test_wmmse_steps_lower_no_sum_rate_under_c3_and_c4(
    model: str, users: int, antennas: int, alpha_c: float, min_rate: float
) -> None:
    """They climb without the limits; where the projection onto these costs more than they gain, they are undone."""
    batch, budget = labelled_drops(9, users, antennas, 40), LinkBudget(1.0, 0.01, alpha_c, min_rate)
    engine = Engine(load_model(model, torch.device("cpu")))
    plain = engine(batch, budget)
    for steps in (1, 4):
        refined = engine.refined(steps)(batch, budget)
        assert_not_below(refined, plain)
        assert float((refined.power * batch.near_field).sum(-1).max()) <= (alpha_c + 1e-9 if alpha_c < 1 else 2)
        assert bool((refined.rate[refined.feasible] >= min_rate - 1e-6).all())
    assert bool((refined.sum_rate > plain.sum_rate * 1.0001).any())


def test_a_drop_that_only_wmmse_steps_make_feasible_is_tried_with_max_min_directions_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without steps these are its answer, and may be the better one; also where a graph computes the others."""
    drawn, budget = labelled_drops(1, 4, 4, 300), LinkBudget(1.0, 0.01, 0.2, 1.0)
    assert drawn.near_field is not None
    batch = ChannelBatch(drawn.channels[118:119], drawn.near_field[118:119])
    install(monkeypatch)
    checkpoint = load_model("tiny", torch.device("cpu"))
    for backend in ("torch", "cuda_graphs"):
        engine = Engine(checkpoint, backend=backend)
        plain = engine(batch, budget)
        assert bool(plain.feasible.all())
        assert_not_below(engine.refined(1)(batch, budget), plain)


def test_graphs_keep_the_answer_without_wmmse_steps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    batch, budget = labelled_drops(9, 5, 6, 16), LinkBudget(1.0, 0.01, 0.2, 1.0)
    engine = Engine(load_model("tiny", torch.device("cpu")), backend="cuda_graphs")
    assert_not_below(engine.refined(2)(batch, budget), engine(batch, budget))
