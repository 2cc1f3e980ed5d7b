"""The engine's promises, with a network that was never trained: whatever it says, they hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.near_parallel import redundant_users
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.engine.user_selection import is_overloaded
from nflae_bridge.network.checkpoint import Checkpoint, save_checkpoint
from nflae_bridge.network.config import NetworkConfig
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import make_candidate
from simulator.downlink.constraints import check_constraints
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.downlink.structure import structured_coefficients
from simulator.schemes import scheme
from simulator.schemes.wmmse import wmmse
from tests.simulator.definitions import (
    KINDS,
    best_worst_sinr,
    draw_channels,
    sinr_by_definition,
    structured_beams,
    unit_rows,
)

Make = Callable[..., PrecodingNetwork]
DROPS = 6


@pytest.fixture
def engine(make_network: Make) -> Engine:
    return Engine(Checkpoint("untrained", make_network(), {}))


@st.composite
def situations(draw: st.DrawFn) -> tuple[ChannelBatch, LinkBudget]:
    """Drops of every kind with labels, and a budget for each drop."""
    seed = draw(st.integers(0, 2**31))
    users = draw(st.integers(1, 16))
    channels = draw_channels(
        seed,
        users,
        antennas=draw(st.sampled_from([1, 2, 7, 16, 33, 64])),
        kind=draw(st.sampled_from(KINDS)),
        spread_db=draw(st.sampled_from([0.0, 15.0, 30.0])),
        drops=DROPS,
    )
    rng = np.random.default_rng(seed)
    near = rng.random((DROPS, users)) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    snr_db = rng.uniform(-10, 30, DROPS)
    alpha = np.where(rng.random(DROPS) < 0.3, 1.0, rng.uniform(0.02, 1, DROPS))
    rate = np.where(rng.random(DROPS) < 0.3, 0.0, rng.uniform(0, 1.2, DROPS))
    power = rng.uniform(0.1, 10, DROPS)
    values = (power, power * 10 ** (-snr_db / 10), alpha, rate)
    return ChannelBatch(channels, torch.from_numpy(near)), LinkBudget(*(torch.from_numpy(v) for v in values))


def one(batch: ChannelBatch, budget: LinkBudget, drop: int) -> tuple[ChannelBatch, LinkBudget]:
    part = slice(drop, drop + 1)
    near = None if batch.near_field is None else batch.near_field[part]
    return ChannelBatch(batch.channels[part], near), budget.slice(drop, drop + 1)


def assert_constraints_hold(answer: Precoding, batch: ChannelBatch, budget: LinkBudget) -> None:
    check = check_constraints(batch.channels, answer.precoder, answer.power, answer.near_field, budget)
    for name in ("total_power", "negative_power", "near_share", "beam_norm"):
        assert bool((getattr(check, name) <= 1e-5).all()), name
    assert bool((check.min_rate <= 1e-5)[answer.feasible].all()), "C4 on a drop that is flagged feasible"


@settings(max_examples=120)
@given(situation=situations())
def test_constraints_hold_on_every_kind_of_drop(engine: Engine, situation: tuple[ChannelBatch, LinkBudget]) -> None:
    batch, budget = situation
    answer = engine(batch, budget)
    assert_constraints_hold(answer, batch, budget)
    assert answer.near_field.equal(batch.near_field)
    for value in (answer.precoder, answer.power, answer.uplink_power, answer.sinr, answer.near_field_score):
        assert bool(value.isfinite().all())


@settings(max_examples=60)
@given(situation=situations())
def test_answer_is_never_below_rzf_under_the_same_constraints(
    engine: Engine, situation: tuple[ChannelBatch, LinkBudget]
) -> None:
    batch, budget = situation
    answer, textbook = engine(batch, budget), scheme("rzf")(batch, budget)
    assert bool((answer.feasible | ~textbook.feasible).all())
    alike = answer.feasible == textbook.feasible
    assert bool((answer.sum_rate >= textbook.sum_rate * (1 - 1e-8))[alike].all())
    if is_overloaded(*batch.channels.shape[1:]):
        return  # another answer than the network's may be RZF of selected users
    # Where RZF misses C4 too, what is better than the network's may be neither's.
    for drop in torch.nonzero(answer.fallback & textbook.feasible).flatten().tolist():
        torch.testing.assert_close(answer.power[drop], textbook.power[drop])
        torch.testing.assert_close(answer.precoder[drop], textbook.precoder[drop])


@settings(max_examples=40)
@given(situation=situations())
def test_answer_delivers_the_rates_it_reports(engine: Engine, situation: tuple[ChannelBatch, LinkBudget]) -> None:
    batch, budget = situation
    answer = engine(batch, budget)
    achieved = rates(achieved_sinr(batch.channels, answer.precoder, answer.power, budget.noise_power))
    torch.testing.assert_close(achieved, answer.rate, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(answer.sum_rate, answer.rate.sum(-1))
    torch.testing.assert_close(answer.rate, torch.log2(1 + answer.sinr))


def test_reported_sinr_is_the_definition(engine: Engine) -> None:
    channels = draw_channels(3, users=4, antennas=6, spread_db=10)
    answer = engine(ChannelBatch(channels), LinkBudget(2.0, 0.03))
    by_hand = sinr_by_definition(
        channels[0].numpy().astype(complex), answer.precoder[0].numpy().astype(complex), answer.power[0].numpy(), 0.03
    )
    np.testing.assert_allclose(answer.sinr[0], by_hand, rtol=1e-4)


def test_directions_have_the_optimal_structure_of_the_returned_uplink_powers(engine: Engine) -> None:
    channels = draw_channels(4, users=5, antennas=8, drops=DROPS, spread_db=10)
    answer = engine(ChannelBatch(channels), LinkBudget(2.0, 0.05))
    np.testing.assert_allclose(answer.uplink_power.sum(-1), 2.0, rtol=1e-6)
    for drop in range(DROPS):
        beams = structured_beams(channels[drop].numpy().astype(complex), answer.uplink_power[drop].numpy(), 0.05)
        np.testing.assert_allclose(answer.precoder[drop], unit_rows(beams), atol=5e-6)


@pytest.mark.parametrize("antennas", [1, 4, 65])
@pytest.mark.parametrize("near", [None, True, False])
def test_one_user_is_served_by_maximum_ratio(engine: Engine, antennas: int, near: bool | None) -> None:
    channels = draw_channels(5, users=1, antennas=antennas, drops=3) * 2
    labels = None if near is None else torch.full((3, 1), near)
    answer = engine(ChannelBatch(channels, labels), LinkBudget(3.0, 0.1, alpha_c=0.25))
    np.testing.assert_allclose(answer.precoder, unit_rows(channels.numpy()), atol=1e-6)
    power = torch.where(answer.near_field, 0.75, 3.0)  # a near-field user alone may use alpha_c P
    np.testing.assert_allclose(answer.power, power, rtol=1e-6)
    np.testing.assert_allclose(answer.rate, np.log2(1 + power.numpy() * 4 / 0.1), rtol=1e-5)
    assert not answer.fallback.any()


def test_labels_given_are_returned_and_ruled_by(engine: Engine) -> None:
    channels = draw_channels(6, users=4, antennas=16, drops=DROPS)
    for labels in (torch.zeros(DROPS, 4, dtype=torch.bool), torch.arange(4 * DROPS).reshape(DROPS, 4) % 2 == 0):
        answer = engine(ChannelBatch(channels, labels), LinkBudget(1.0, 0.01, alpha_c=0.1))
        assert torch.equal(answer.near_field, labels)
        assert float((answer.power * labels).sum(-1).max()) <= 0.1 + 1e-9


def test_labels_not_given_are_the_networks_and_ruled_by(engine: Engine) -> None:
    channels = draw_channels(7, users=6, antennas=32, drops=40, spread_db=5)
    bias = engine.network.encoder.classifier.layers[-1].bias
    with torch.no_grad():  # an untrained classifier gives one label to all: move it between the two middle users
        logits = engine.network.encoder.classifier(channels).flatten().sort().values
        bias -= logits[len(logits) // 2 - 1 : len(logits) // 2 + 1].mean()
    answer = engine(ChannelBatch(channels), LinkBudget(1.0, 0.01, alpha_c=0.1))
    assert 0.3 < float(answer.near_field.float().mean()) < 0.7
    assert torch.equal(answer.near_field, answer.near_field_score > 0.5)
    assert bool(((answer.near_field_score >= 0) & (answer.near_field_score <= 1)).all())
    assert float((answer.power * answer.near_field).sum(-1).max()) <= 0.1 + 1e-9
    assert torch.equal(engine.near_field(channels), answer.near_field)


class _Says(torch.nn.Module):
    """Stands in for a network: says the same shares of every drop."""

    def __init__(self, uplink: torch.Tensor, power_fractions: torch.Tensor) -> None:
        super().__init__()
        self.uplink, self.power_fractions = uplink, power_fractions
        self.config = NetworkConfig()
        self.encoder = SimpleNamespace(classifies=True)

    def near_field_logit(self, channels: torch.Tensor) -> torch.Tensor:
        return torch.full(channels.shape[:2], -1.0)

    def forward(self, inputs: UserInputs) -> NetworkOutput:
        drops, users = inputs.gram.shape[:2]
        return NetworkOutput(
            torch.full((drops, users), -1.0),
            self.uplink.expand(drops, users),
            self.power_fractions.expand(drops, users),
        )


def saying(
    uplink: list[float], power_fractions: list[float], refinements: int = 0, with_fallback: bool = True
) -> Engine:
    network = _Says(torch.tensor(uplink), torch.tensor(power_fractions))
    return Engine(Checkpoint("stub", network, {}), refinements=refinements, with_fallback=with_fallback)  # type: ignore[arg-type]


def test_bad_advice_falls_back_on_rzf_and_says_so() -> None:
    channels = draw_channels(8, users=3, antennas=8, drops=DROPS)
    answer = saying([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])(ChannelBatch(channels), LinkBudget(1.0, 0.01))
    textbook = scheme("rzf")(ChannelBatch(channels, torch.zeros(DROPS, 3, dtype=torch.bool)), LinkBudget(1.0, 0.01))
    assert answer.fallback.all()
    torch.testing.assert_close(answer.power, textbook.power)
    torch.testing.assert_close(answer.precoder, textbook.precoder)
    torch.testing.assert_close(answer.uplink_power, textbook.uplink_power)


def test_a_network_that_reads_antennas_gets_channels_in_units_of_the_noise(make_network: Make) -> None:
    engine = Engine(Checkpoint("raw", make_network("raw", antennas=16), {}))
    channels = draw_channels(22, users=3, antennas=16, drops=4)
    first = engine(ChannelBatch(channels), LinkBudget(1.0, 0.01))
    second = engine(ChannelBatch(10 * channels), LinkBudget(1.0, 1.0))
    torch.testing.assert_close(first.power, second.power, rtol=1e-4, atol=1e-6)


def test_advice_better_than_rzf_is_taken() -> None:
    channels = draw_channels(8, users=3, antennas=8, kind="orthogonal", drops=DROPS)
    channels = channels * torch.tensor([1.0, 1.0, 0.01])[:, None]
    advice = [0.5, 0.5, 0.0]  # water-filling leaves the weak user out
    answer = saying(advice, advice)(ChannelBatch(channels), LinkBudget(1.0, 0.1))
    assert not answer.fallback.any()
    np.testing.assert_allclose(answer.power, [advice] * DROPS, atol=1e-7)
    np.testing.assert_allclose(answer.sum_rate, 2 * np.log2(6), rtol=1e-6)


def test_advice_as_good_as_rzf_is_no_fallback() -> None:
    third = [1 / 3] * 3
    answer = saying(third, third)(ChannelBatch(draw_channels(9, 3, 8, drops=DROPS)), LinkBudget())
    assert not answer.fallback.any()


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf")])
@pytest.mark.parametrize("min_rate", [0.0, 0.1])
def test_advice_that_is_no_number_falls_back_on_rzf(nonsense: float, min_rate: float) -> None:
    batch, budget = ChannelBatch(draw_channels(8, 3, 8, drops=DROPS)), LinkBudget(1.0, 0.01, 1.0, min_rate)
    answer = saying([nonsense] * 3, [nonsense] * 3)(batch, budget)
    assert bool(answer.sum_rate.isfinite().all())
    assert answer.fallback.all()
    assert_constraints_hold(answer, batch, budget)


def test_feasible_advice_beats_infeasible_rzf_whatever_the_sum_rate() -> None:
    """Twins: RZF's beams serve them alike, which can't give both 1.5 bps/Hz, nor can any other."""
    channels = draw_channels(10, users=2, antennas=4, kind="identical")
    answer = saying([0.5, 0.5], [0.5, 0.5])(ChannelBatch(channels), LinkBudget(1.0, 0.01, 1.0, 1.5))
    assert not bool(answer.feasible)
    easy = saying([0.5, 0.5], [0.5, 0.5])(ChannelBatch(channels), LinkBudget(1.0, 0.01, 1.0, 0.9))
    assert bool(easy.feasible)
    assert_constraints_hold(easy, ChannelBatch(channels), LinkBudget(1.0, 0.01, 1.0, 0.9))


def test_advice_that_is_no_number_stays_out_of_the_answer_where_nobody_reaches_the_rates() -> None:
    batch = ChannelBatch(draw_channels(8, 3, 8, "near-parallel", drops=DROPS))
    for min_rate in (0.6, 3.0):
        answer = saying([float("nan")] * 3, [float("nan")] * 3)(batch, LinkBudget(1.0, 0.01, 1.0, min_rate))
        assert bool(answer.sum_rate.isfinite().all() and answer.power.isfinite().all())
        assert_constraints_hold(answer, batch, LinkBudget(1.0, 0.01, 1.0, min_rate))


# Without the guard


@settings(max_examples=40)
@given(situation=situations())
def test_unguarded_answer_is_the_networks_own_under_the_constraints(
    make_network: Make, situation: tuple[ChannelBatch, LinkBudget]
) -> None:
    batch, budget = situation
    network = make_network()
    answer = Engine(Checkpoint("untrained", network, {}), with_fallback=False)(batch, budget)
    gram = normalised_gram(batch.channels, budget)
    scaled = batch.channels * torch.sqrt(torch.as_tensor(budget.power / budget.noise_power)).reshape(-1, 1, 1)
    assert batch.near_field is not None
    counting = batch.near_field & (torch.as_tensor(budget.alpha_c) < 1).unsqueeze(-1)  # labels that C3 goes by
    with torch.no_grad():
        output = network(
            UserInputs(scaled.to(torch.complex64), gram, budget.alpha_c, budget.min_rate, counting)  # type: ignore[arg-type]
        )
    uplink, power_fractions = output.dual_power_fractions.double(), output.power_fractions.double()
    own = make_candidate(gram, structured_coefficients(gram, uplink), power_fractions, batch.near_field, budget, uplink)  # type: ignore[arg-type]
    limit = torch.as_tensor(budget.power).unsqueeze(-1)
    torch.testing.assert_close(answer.power, own.power_fractions * limit, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer.uplink_power, uplink * limit, rtol=1e-5, atol=1e-5)
    assert torch.equal(answer.feasible, own.feasible)
    torch.testing.assert_close(answer.sum_rate, own.sum_rate, rtol=1e-5, atol=1e-5)
    assert not bool(answer.fallback.any())
    assert_constraints_hold(answer, batch, budget)


def test_unguarded_engine_takes_bad_advice() -> None:
    """All for one user: it is served by maximum ratio, the others get nothing."""
    channels = draw_channels(8, users=3, antennas=8, drops=DROPS)
    trusting = saying([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], with_fallback=False)
    answer = trusting(ChannelBatch(channels), LinkBudget(1.0, 0.01))
    np.testing.assert_allclose(answer.power, [[1.0, 0.0, 0.0]] * DROPS, atol=1e-12)
    np.testing.assert_allclose(answer.sum_rate, np.log2(1 + 100), rtol=1e-5)
    assert not answer.fallback.any()
    assert bool(
        (
            answer.sum_rate < saying([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])(ChannelBatch(channels), LinkBudget()).sum_rate
        ).all()
    )
    assert not trusting.refined(3).with_fallback
    assert trusting.refined(3).refinements == 3


def test_unguarded_engine_half_serves_users_side_by_side() -> None:
    channels = draw_channels(10, users=2, antennas=4, kind="identical")
    half, budget = [0.5, 0.5], LinkBudget(1.0, 0.01)
    both = saying(half, half, with_fallback=False)(ChannelBatch(channels), budget)
    np.testing.assert_allclose(both.power, [half], atol=1e-12)
    np.testing.assert_allclose(both.rate, [[np.log2(1 + 50 / 51)] * 2], rtol=1e-4)
    alone = saying(half, half)(ChannelBatch(channels), budget)
    assert float(alone.sum_rate) == pytest.approx(np.log2(101), rel=1e-5)


# Where neither the network nor RZF reaches the minimum rates


def hard_drops(count: int = 400) -> ChannelBatch:
    """Ten users, mirrored ones alike: some stand side by side with their mirror image's channel."""
    scene = replace(scenario("paper", 10), angle="absolute")
    drops = scene.draw(count, torch.Generator().manual_seed(99))
    return ChannelBatch(drops.channels, drops.near_field)


HARD = {
    "10 dB": LinkBudget(0.1, 0.01, 0.4, 0.6),
    "20 dB": LinkBudget(1.0, 0.01, 0.4, 1.0),
    "by drop": LinkBudget(
        torch.tensor([0.1, 1.0]).repeat(200).double(),
        torch.full((400,), 0.01).double(),
        torch.full((400,), 0.4).double(),
        torch.tensor([0.6, 1.0]).repeat(200).double(),
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_balanced_directions_serve_drops_that_nothing_else_does(make_network: Make, name: str) -> None:
    batch, budget, checkpoint = hard_drops(), HARD[name], Checkpoint("untrained", make_network(), {})
    own = Engine(checkpoint, with_fallback=False)(batch, budget)
    textbook, answer = scheme("rzf")(batch, budget), Engine(checkpoint)(batch, budget)
    assert_constraints_hold(answer, batch, budget)
    assert bool((answer.feasible | ~(own.feasible | textbook.feasible)).all())
    gained = answer.feasible & ~own.feasible & ~textbook.feasible
    rescued = gained & answer.fallback
    assert int(rescued.sum()) >= 3
    # What isn't marked is the network's, less users beside others: they have no lambda.
    assert bool((answer.uplink_power[gained & ~rescued] == 0).any(-1).all())
    check = check_constraints(batch.channels, answer.precoder, answer.power, batch.near_field, budget)  # type: ignore[arg-type]
    assert float(check.min_rate[rescued].max()) <= 1e-5
    for drop in torch.nonzero(rescued).flatten().tolist()[:3]:  # and it has the structure that it says it has
        power, noise = (float(torch.as_tensor(value).expand(400)[drop]) for value in (budget.power, budget.noise_power))
        assert float(answer.uplink_power[drop].sum()) == pytest.approx(power, rel=1e-6)
        h = batch.channels[drop].numpy().astype(complex)
        beams = structured_beams(h, answer.uplink_power[drop].numpy(), noise)
        np.testing.assert_allclose(answer.precoder[drop], unit_rows(beams), atol=2e-5)


@pytest.mark.parametrize("name", HARD)
def test_drops_that_are_served_already_are_not_touched_by_those_that_are_not(engine: Engine, name: str) -> None:
    """The same answers whether or not a hopeless drop is in the batch."""
    batch, budget = hard_drops(), HARD[name]
    whole = engine(batch, budget)
    served = whole.feasible
    assert batch.near_field is not None
    part = engine(ChannelBatch(batch.channels[served], batch.near_field[served]), budget.select(served))
    torch.testing.assert_close(part.power, whole.power[served], rtol=1e-5, atol=1e-6)
    assert torch.equal(part.fallback, whole.fallback[served])


def test_without_c3_rates_are_met_wherever_any_precoder_meets_them(engine: Engine) -> None:
    """R_min at 95 % and at 105 % of what the weakest user can have, by bisection over N x N inverses."""
    channels = draw_channels(20, users=4, antennas=6, drops=40, spread_db=20)
    batch = ChannelBatch(channels, torch.zeros(40, 4, dtype=torch.bool))
    best = [best_worst_sinr(h.numpy().astype(complex), 1.0, 0.05) for h in channels]
    limit = torch.log2(1 + torch.tensor(best, dtype=torch.float64))
    within, beyond = (engine(batch, LinkBudget(1.0, 0.05, 1.0, part * limit)) for part in (0.95, 1.05))
    assert bool(within.feasible.all())
    assert bool(within.fallback.any())
    assert_constraints_hold(within, batch, LinkBudget(1.0, 0.05, 1.0, 0.95 * limit))
    assert not bool(beyond.feasible.any())
    assert_constraints_hold(beyond, batch, LinkBudget(1.0, 0.05, 1.0, 1.05 * limit))
    assert bool(beyond.sum_rate.isfinite().all())


@pytest.mark.parametrize("refinements", [1, 5])
def test_refinements_are_wmmse_steps_from_the_networks_answer(refinements: int) -> None:
    """From RZF's own point, r refinements are r iterations of WMMSE."""
    channels = draw_channels(11, users=4, antennas=8, drops=DROPS, spread_db=10)
    equal = [0.25] * 4
    refined = saying(equal, equal, refinements)(ChannelBatch(channels), LinkBudget(1.0, 0.01))
    batch = ChannelBatch(channels, torch.zeros(DROPS, 4, dtype=torch.bool))
    torch.testing.assert_close(refined.sum_rate, wmmse(batch, LinkBudget(1.0, 0.01), refinements).sum_rate)


def test_refinement_never_costs_rate_without_constraints(make_network: Make) -> None:
    checkpoint = Checkpoint("untrained", make_network(), {})
    channels = draw_channels(12, users=6, antennas=8, drops=40, spread_db=10)
    found = [Engine(checkpoint, refinements=r)(ChannelBatch(channels), LinkBudget()).sum_rate for r in (0, 1, 3, 10)]
    for fewer, more in itertools.pairwise(found):
        assert bool((more >= fewer * (1 - 1e-8)).all())
    assert float(found[-1].mean()) > 1.01 * float(found[0].mean())


@settings(max_examples=25)
@given(situation=situations(), given_labels=st.booleans())
def test_a_batch_is_its_drops_one_by_one(
    engine: Engine, situation: tuple[ChannelBatch, LinkBudget], given_labels: bool
) -> None:
    batch, budget = situation
    if not given_labels:
        batch = ChannelBatch(batch.channels)
    together = engine(batch, budget)
    for drop in range(DROPS):
        alone = engine(*one(batch, budget, drop))
        assert torch.equal(alone.near_field[0], together.near_field[drop])
        assert bool(alone.feasible) == bool(together.feasible[drop])
        torch.testing.assert_close(alone.sum_rate[0], together.sum_rate[drop], rtol=1e-5, atol=1e-5)
        if bool(alone.fallback) == bool(together.fallback[drop]):
            scale = float(together.power[drop].sum().clamp(min=1e-12))
            torch.testing.assert_close(alone.power[0] / scale, together.power[drop] / scale, rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.rate[0], together.rate[drop], rtol=1e-5, atol=2e-5)


def interchangeable(channels: torch.Tensor) -> torch.Tensor:
    """Drops in which two users have the same channel but for a phase; bool (drops,)."""
    h = channels.numpy().astype(complex)
    gain = np.linalg.norm(h, axis=-1)
    inner = np.abs(h.conj() @ np.swapaxes(h, -1, -2)) / (gain[..., None] * gain[:, None])
    alike = (inner > 1 - 1e-5) & (np.abs(np.log(gain[..., None] / gain[:, None])) < 1e-3)
    return torch.from_numpy((alike & ~np.eye(h.shape[1], dtype=bool)).any((-1, -2)))


@settings(max_examples=40)
@given(situation=situations())
def test_permuting_users_permutes_the_answer(engine: Engine, situation: tuple[ChannelBatch, LinkBudget]) -> None:
    """Of users with the same channel either may be served: their rates then are the same but for who gets which."""
    batch, budget = situation
    assert batch.near_field is not None
    users, twins = batch.channels.shape[1], interchangeable(batch.channels)
    near = torch.where(twins[:, None], batch.near_field[:, :1], batch.near_field)
    order = torch.randperm(users, generator=torch.Generator().manual_seed(users))
    first = engine(ChannelBatch(batch.channels, near), budget)
    second = engine(ChannelBatch(batch.channels[:, order], near[:, order]), budget)
    torch.testing.assert_close(second.sum_rate, first.sum_rate, rtol=1e-5, atol=1e-5)
    same = first.fallback == second.fallback
    torch.testing.assert_close(second.rate[same].sort()[0], first.rate[same].sort()[0], rtol=1e-5, atol=1e-5)
    alone = same & ~twins
    torch.testing.assert_close(second.rate[alone], first.rate[alone][:, order], rtol=1e-5, atol=1e-5)
    limit = torch.as_tensor(budget.power).unsqueeze(-1)
    torch.testing.assert_close((second.power / limit)[alone], (first.power / limit)[alone][:, order], rtol=0, atol=1e-5)


@settings(max_examples=40)
@given(situation=situations())
def test_users_phases_change_no_rate(engine: Engine, situation: tuple[ChannelBatch, LinkBudget]) -> None:
    batch, budget = situation
    users = batch.channels.shape[1]
    phase = torch.polar(torch.ones(users), 6.3 * torch.rand(users, generator=torch.Generator().manual_seed(users)))
    first = engine(batch, budget)
    second = engine(ChannelBatch(batch.channels * phase[:, None], batch.near_field), budget)
    torch.testing.assert_close(second.sum_rate, first.sum_rate, rtol=1e-5, atol=1e-5)
    same = first.fallback == second.fallback
    torch.testing.assert_close(second.rate[same], first.rate[same], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e4])
def test_unit_of_the_csi_changes_nothing(engine: Engine, unit: float) -> None:
    channels = draw_channels(13, users=5, antennas=16, drops=DROPS, spread_db=10)
    first = engine(ChannelBatch(channels), LinkBudget(1.0, 0.01))
    second = engine(ChannelBatch(channels * unit), LinkBudget(1.0, 0.01 * unit**2))
    torch.testing.assert_close(second.precoder, first.precoder, rtol=0, atol=1e-5)
    torch.testing.assert_close(second.rate, first.rate, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second.near_field_score, first.near_field_score, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("snr_db", [60, 90, 120])
@pytest.mark.parametrize(("users", "antennas"), [(6, 3), (4, 8), (16, 16)])
def test_absurd_signal_to_noise_ratios_give_numbers(
    engine: Engine, kind: str, snr_db: int, users: int, antennas: int
) -> None:
    """A wrong noise_power is easily given; rates then mean little, but must be numbers that channels can carry."""
    channels = draw_channels(14, users, antennas, kind, spread_db=30, drops=20)
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
    answer = engine(ChannelBatch(channels, torch.zeros(20, users, dtype=torch.bool)), budget)
    for value in (answer.precoder, answer.power, answer.rate):
        assert bool(value.isfinite().all())
    np.testing.assert_allclose(torch.linalg.vector_norm(answer.precoder, dim=-1), 1, atol=1e-5)
    alone = torch.log2(1 + torch.linalg.vector_norm(channels, dim=-1).double() ** 2 / budget.noise_power)
    assert bool((answer.rate <= alone + 1e-6).all())


def test_budget_of_numbers_is_the_budget_of_every_drop(engine: Engine) -> None:
    channels = draw_channels(15, users=3, antennas=8, drops=DROPS)
    numbers = LinkBudget(2.0, 0.02, 0.5, 0.3)
    tensors = LinkBudget(*(torch.full((DROPS,), value) for value in (2.0, 0.02, 0.5, 0.3)))
    first, second = engine(ChannelBatch(channels), numbers), engine(ChannelBatch(channels), tensors)
    torch.testing.assert_close(first.power, second.power, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first.precoder, second.precoder, rtol=0, atol=1e-5)


def test_answer_has_the_shapes_and_types_it_should(engine: Engine) -> None:
    answer = engine(ChannelBatch(draw_channels(16, users=3, antennas=8, drops=2)), LinkBudget())
    assert answer.precoder.shape == (2, 3, 8)
    assert answer.precoder.dtype == torch.complex64
    for name in ("power", "uplink_power", "near_field_score", "sinr", "rate"):
        assert getattr(answer, name).shape == (2, 3)
        assert getattr(answer, name).dtype == torch.float64
        assert not getattr(answer, name).requires_grad
    assert answer.near_field.dtype == answer.feasible.dtype == answer.fallback.dtype == torch.bool
    assert answer.sum_rate.shape == answer.feasible.shape == answer.fallback.shape == (2,)


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "raw", "attention": "causal"},
        {"kind": "raw", "family": "none", "head_width": 4},
        {"kind": "cnn", "family": "none", "head_width": 4},
    ],
    ids=str,
)
def test_engine_of_a_network_that_reads_antennas_keeps_the_promises_too(
    make_network: Make, shape: dict[str, Any]
) -> None:
    raw = Engine(Checkpoint("raw", make_network(antennas=12, **shape), {}))
    batch = ChannelBatch(draw_channels(17, users=5, antennas=12, drops=20, spread_db=10))
    budget = LinkBudget(1.0, 0.01, 0.4, 0.3)
    answer = raw(batch, budget)
    assert_constraints_hold(answer, batch, budget)
    order = torch.tensor([4, 2, 0, 1, 3])
    moved = raw(replace(batch, channels=batch.channels[:, order]), budget)
    torch.testing.assert_close(moved.rate, answer.rate[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_cuda_gives_the_cpus_answer(make_network: Make) -> None:
    checkpoint = Checkpoint("untrained", make_network(), {})
    batch = ChannelBatch(draw_channels(18, users=6, antennas=32, drops=20, spread_db=10))
    budget = LinkBudget(1.0, 0.01, 0.4, 0.3)
    first, second = Engine(checkpoint, "cpu")(batch, budget), Engine(checkpoint, "cuda")(batch, budget)
    torch.testing.assert_close(second.rate.cpu(), first.rate, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_cuda_takes_a_budget_that_lies_on_the_cpu_where_rates_are_missed(make_network: Make) -> None:
    batch = ChannelBatch(draw_channels(18, users=6, antennas=8, drops=20, spread_db=10))
    budget = LinkBudget(*(torch.full((20,), value) for value in (1.0, 0.01, 0.4)), torch.linspace(0, 6, 20))
    answer = Engine(Checkpoint("untrained", make_network(), {}), "cuda")(batch, budget)
    assert not bool(answer.feasible.all())
    assert bool(answer.sum_rate.isfinite().all())


def test_load_scheme_gives_the_network_and_the_classical_ones(make_network: Make, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    save_checkpoint(folder, make_network(), {})
    loaded = load_scheme("nflae", str(folder), "cpu", refinements=2)
    assert isinstance(loaded, Engine)
    assert loaded.refinements == 2
    assert load_scheme("rzf") is scheme("rzf")
    with pytest.raises(NflaeError, match="no model 'nosuch'"):
        load_scheme("nflae", "nosuch", "cpu")
    with pytest.raises(ValueError, match="unknown scheme 'mmse'"):
        load_scheme("mmse")


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), users=st.integers(1, 8), kind=st.sampled_from(KINDS))
def test_redundant_is_who_stands_beside_a_stronger_user(seed: int, users: int, kind: str) -> None:
    """Coherence above one half with someone of more gain; gains here differ, so nobody is equal."""
    channels = draw_channels(seed, users, 6, kind, drops=2) * torch.linspace(1, 2, users)[:, None]
    far, equal = torch.zeros(channels.shape[:2], dtype=torch.bool), torch.ones(channels.shape[:2])
    found = redundant_users(normalised_gram(channels, LinkBudget()), channels, far, equal)
    for drop in range(2):
        h = unit_rows(channels[drop].numpy().astype(complex))
        for user in range(users):
            beside = [abs(np.vdot(h[user], h[other])) ** 2 > 0.5 for other in range(user + 1, users)]
            assert bool(found[drop, user]) == any(beside)


@pytest.mark.parametrize("kind", ["identical", "near-parallel", "gaussian"])
def test_of_equal_users_side_by_side_one_stays(kind: str) -> None:
    channels = draw_channels(19, 5, 2, kind, drops=20)
    far, equal = torch.zeros(channels.shape[:2], dtype=torch.bool), torch.ones(channels.shape[:2])
    found = redundant_users(normalised_gram(channels, LinkBudget()), channels, far, equal)
    assert bool((~found).any(-1).all())
    if kind == "identical":
        assert bool(((~found).sum(-1) == 1).all())


def test_gradients_of_the_channels_are_those_of_finite_differences(engine: Engine) -> None:
    seeded = torch.Generator().manual_seed(4)
    h, direction = torch.randn(2, 5, 3, 12, dtype=torch.complex64, generator=seeded)
    budget = LinkBudget(power=1.0, noise_power=0.5)

    def value(channels: torch.Tensor) -> torch.Tensor:
        answer = engine(ChannelBatch(channels), budget)
        beams = answer.precoder * answer.power.sqrt().unsqueeze(-1)
        return (beams.conj() * torch.arange(1, 13)).sum(-1).abs().square().sum()

    leaf = h.clone().requires_grad_()
    gradient = torch.autograd.grad(value(leaf), leaf)[0]
    difference = (value(h + 2e-3 * direction) - value(h - 2e-3 * direction)) / 4e-3
    assert float(difference) == pytest.approx(float((gradient.conj() * direction).sum().real), rel=0.02)
    with torch.no_grad():
        assert torch.equal(value(leaf), value(h))
