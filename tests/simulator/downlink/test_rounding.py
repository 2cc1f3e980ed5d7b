"""Drops on which K x K algebra loses digits: what is reported is what the returned precoder does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import form_beams
from simulator.downlink.gram import mixed_precision_gram, normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.rounding import loses_digits, measure_gains, measured_where_lossy
from simulator.downlink.structure import structured_beams
from simulator.schemes import scheme
from simulator.schemes.rzf import rzf_candidate
from tests.simulator.definitions import draw_channels, sinr_by_definition

SCHEMES = ("rzf", "wmmse:iterations=3", "nflae", "zf")
CHANNELS = (("identical", 4, 16), ("near-parallel", 3, 8), ("gaussian", 6, 4))
NO_GROUPS = "noma:coherence=1"  # but of identical users, whose rates are those of receivers with SIC


def precode(name: str, batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    if name == "nflae":
        return Engine(load_model("tiny", torch.device("cpu")), backend="torch").refined(1)(batch, budget)
    return scheme(name)(batch, budget)


def achieved_rates(answer: Precoding, channels: torch.Tensor, noise: float) -> np.ndarray:
    """bps/Hz (drops, users), from the returned arrays alone."""
    rows = zip(channels.numpy(), answer.precoder.numpy(), answer.power.numpy(), strict=True)
    return np.log2(
        1 + np.stack([sinr_by_definition(h.astype(complex), w.astype(complex), p, noise) for h, w, p in rows])
    )


@pytest.mark.parametrize(
    ("name", "kind", "users", "antennas"),
    [(name, *each) for each in CHANNELS for name in SCHEMES] + [(NO_GROUPS, *each) for each in CHANNELS[1:]],
)
def test_rates_reported_at_100_db_are_those_of_the_returned_precoder(
    name: str, kind: str, users: int, antennas: int
) -> None:
    channels, noise = draw_channels(1, users, antennas, kind, drops=4), 1e-10
    answer = precode(name, ChannelBatch(channels), LinkBudget(1.0, noise))
    np.testing.assert_allclose(answer.rate, achieved_rates(answer, channels, noise), rtol=1e-9, atol=1e-9)
    assert bool((answer.power >= 0).all())
    assert bool((answer.power.sum(-1) <= 1 + 1e-9).all())


@pytest.mark.parametrize("name", SCHEMES)
def test_drops_said_to_be_feasible_meet_c4_by_the_returned_precoder(name: str) -> None:
    channels, noise = draw_channels(2, 3, 17, "identical", drops=4), 1e-10
    budget = LinkBudget(1.0, noise, 1.0, torch.tensor([1e-3, 0.03, 0.2, 3.0], dtype=torch.float64))
    answer = precode(name, ChannelBatch(channels, torch.zeros(4, 3, dtype=torch.bool)), budget)
    short = np.asarray(budget.min_rate)[:, None] - achieved_rates(answer, channels, noise)
    feasible = answer.feasible.numpy()
    assert (short[feasible] <= 1e-9).all()
    assert not feasible[3]  # identical users share log2(1 + 1e10) at most as 3 rates of 1 bps/Hz
    if name == "nflae":
        assert feasible[:3].all()


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_powers_of_wmmse_with_more_users_than_antennas_are_never_negative(iterations: int) -> None:
    for seed in range(20):
        channels = draw_channels(seed, 8, 3, "rank-deficient", spread_db=30, drops=8)
        answer = scheme(f"wmmse:iterations={iterations}")(ChannelBatch(channels), LinkBudget(1.0, 1e-9))
        for values in (answer.power, answer.uplink_power):
            assert bool(((values >= 0) & (values <= 1 + 1e-9)).all())


def test_only_lossy_drops_are_measured() -> None:
    channels = torch.cat([draw_channels(3, 3, 16, "identical", drops=2), draw_channels(3, 3, 16, drops=2)])
    budget = LinkBudget(torch.tensor([1.0, 1.0, 1.0, 1.0]).double(), torch.tensor([1e-9, 1e-2, 1e-7, 1e-9]).double())
    gram = normalised_gram(channels, budget)
    equal = torch.full((4, 3), 1 / 3, dtype=torch.float64)
    beams = structured_beams(gram, equal)
    lossy = loses_digits(gram, beams)
    assert lossy.tolist() == [True, False, False, True]  # identical at 90 dB; 20 dB; 70 dB; beams rounded at 90 dB
    none = torch.zeros(4, 3, dtype=torch.bool)
    plain = rzf_candidate(gram, none, budget)
    suspects = mixed_precision_gram(channels, budget)[1]
    found = measured_where_lossy(plain, ChannelBatch(channels), gram, suspects, equal, none, budget)
    assert torch.equal(found.sinr[~lossy], plain.sinr[~lossy])
    assert not torch.equal(found.sinr[lossy], plain.sinr[lossy])
    nobody = torch.zeros(4, dtype=torch.bool)
    assert measured_where_lossy(plain, ChannelBatch(channels), gram, nobody, equal, none, budget) is plain


def test_measured_gains_are_of_the_beams_in_single_precision() -> None:
    channels = draw_channels(4, 3, 6)
    coefficients = structured_beams(
        normalised_gram(channels, LinkBudget()), torch.full((1, 3), 1 / 3).double()
    ).coefficients
    gains = measure_gains(channels, torch.tensor([10.0]).double(), coefficients)[0].numpy()
    beams = form_beams(channels, coefficients)[0].numpy().astype(complex)
    expected = 100 * np.abs(channels[0].numpy().astype(complex).conj() @ beams.T) ** 2
    np.testing.assert_allclose(gains, expected, rtol=1e-12)


def test_tiny_csi_has_beams_of_unit_norm() -> None:
    channels = draw_channels(5, 4, 2, "rank-deficient") * 1e-30
    answer = scheme("rzf")(ChannelBatch(channels), LinkBudget(1e20, 1e-30))
    np.testing.assert_allclose(np.linalg.norm(answer.precoder.numpy(), axis=-1), 1, atol=1e-6)
