"""Training: drops, loss, and a loop that a kill can't hurt."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import Checkpoint, load_checkpoint, save_tensors
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from nflae_bridge.tasks.precode import PRECODE
from nflae_bridge.tasks.task import Measures
from nflae_bridge.training.data import DropDistribution, PublishedDrops, TrainingBatch, _plane_waves, labelled_users
from nflae_bridge.training.loop import Trainer, is_model, judged, learning_rate
from nflae_bridge.training.loss import LossWeights, label_loss, precoding_loss
from nflae_bridge.training.presets import recipe
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.validation import forward, reference_rate, served_rate
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import check_constraints
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.geometry.arrays import AngleConvention, UniformLinearArray
from simulator.geometry.near_field import far_field_test, is_near_field
from simulator.schemes.wmmse import wmmse
from tests.simulator.definitions import KINDS, draw_channels, structured_beams, sum_rate, unit_rows

CPU = torch.device("cpu")
SMALL = NetworkConfig(EncoderConfig(edge_width=8), BackboneConfig(width=16, layers=1, heads=2))


@dataclass(frozen=True)
class FewDrops:
    """The mixed distribution, small enough for a test."""

    source: DropDistribution = field(default_factory=lambda: DropDistribution(users=(1, 5), antennas=(32,), tokens=64))

    def training(self, seed: int, step: int, device: torch.device = CPU) -> TrainingBatch:
        return self.source.training(seed, step, device)

    def validation(self) -> list[TrainingBatch]:
        return [self.source.training(-5, step) for step in range(3)]


TINY = Recipe(SMALL, FewDrops(), LossWeights(), steps=12, warm_up=3, validate_every=4, save_every=3, seed=11)


def batches(count: int) -> Iterator[TrainingBatch]:
    source = DropDistribution(tokens=32)
    for step in range(count):
        yield source.training(3, step)


def assert_same_batch(first: TrainingBatch, second: TrainingBatch) -> None:
    for name in ("channels", "near_field", "alpha_c", "min_rate"):
        assert torch.equal(getattr(first, name), getattr(second, name))


# Drops


@pytest.mark.parametrize("step", [0, 1, 17, 19_999])
def test_the_same_seed_and_step_give_the_same_batch_whatever_came_before(step: int) -> None:
    source = DropDistribution(tokens=64)
    first = source.training(5, step)
    torch.rand(100)
    source.training(5, step + 1)
    assert_same_batch(first, source.training(5, step))


def test_other_steps_and_seeds_give_other_batches() -> None:
    source = DropDistribution(users=(4, 4), antennas=(32,), tokens=64, spherical=1.0)
    drawn = [source.training(seed, step).channels for seed, step in ((5, 0), (5, 1), (5, 1000), (5, 16_384), (6, 0))]
    for index, first in enumerate(drawn):
        assert not any(torch.equal(first, second) for second in drawn[index + 1 :])


def test_batches_are_what_they_should_be() -> None:
    seen_users, labelled, constrained, demanding = set(), 0, [], []
    for batch in batches(150):
        drops, users, _ = batch.channels.shape
        seen_users.add(users)
        labelled += batch.labelled
        assert batch.channels.dtype == torch.complex64
        assert bool(batch.channels.isfinite().all())
        assert bool((torch.linalg.vector_norm(batch.channels, dim=-1) > 0).all())
        assert batch.near_field.shape == (drops, users)
        assert batch.near_field.dtype == torch.bool
        for value in (batch.alpha_c, batch.min_rate):
            assert value.shape == (drops,)
            assert value.dtype == torch.float32
        LinkBudget(1.0, 1.0, batch.alpha_c, batch.min_rate)  # refuses what makes no sense
        constrained.append(float((batch.alpha_c < 1).float().mean()))
        demanding.append(float((batch.min_rate > 0).float().mean()))
    assert seen_users | {1} == set(range(1, 17))  # the larger of two draws: K = 1 is one batch in 256
    assert labelled / 150 == pytest.approx(0.6, abs=0.1)
    assert np.mean(constrained) == pytest.approx(0.6, abs=0.05)
    assert np.mean(demanding) == pytest.approx(0.6, abs=0.05)


def test_near_field_limits_are_drawn_low() -> None:
    """alpha_c = 0.05 + 0.95 u^2 with u uniform, where it is below 1: half of them lie below 0.05 + 0.95 / 4."""
    alpha = torch.cat([batch.alpha_c for batch in batches(150)])
    limits = alpha[alpha < 1].double()
    assert float(limits.min()) >= 0.05
    assert float((limits < 0.2875).double().mean()) == pytest.approx(0.5, abs=0.03)
    u = ((limits - 0.05) / 0.95).sqrt()
    assert kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_unlabelled_batches_hold_channels_of_every_rank() -> None:
    source = DropDistribution(users=(4, 6), tokens=32, spherical=0.0, noisy=0.0, gain_spread_db=0.0)
    full, twins = [], []
    for step in range(60):
        batch = source.training(4, step)
        assert not batch.labelled
        h = unit_rows(batch.channels.numpy().astype(complex))
        rank = np.linalg.matrix_rank(h, tol=1e-4)
        full.append((rank == min(h.shape[1:])).mean())
        coherence = np.abs(h.conj() @ np.swapaxes(h, -1, -2)) - np.eye(h.shape[1])
        twins.append((coherence.max((-1, -2)) > 1 - 1e-5).mean())
    assert 0.1 < np.mean(np.array(full) < 0.5) < 0.6  # batches of deficient rank, and others
    assert np.mean(twins) > 0.05


def test_overloaded_batches_have_fewer_antennas_than_users() -> None:
    source = DropDistribution(users=(2, 6), tokens=32, spherical=0.0, overloaded=1.0)
    for step in range(30):
        _, users, antennas = source.training(4, step).channels.shape
        assert max(1, users // 4) <= antennas < users


def test_rays_of_clusters_are_plane_waves() -> None:
    generator = torch.Generator().manual_seed(0)
    sines, gains = 2 * torch.rand(2, 3, 5, generator=generator) - 1, torch.randn(2, 3, 5, generator=generator)
    expected = (gains.unsqueeze(-1) * torch.exp(1j * math.pi * sines.unsqueeze(-1) * torch.arange(21))).sum(-2)
    torch.testing.assert_close(_plane_waves(sines, gains, 21), expected, rtol=0, atol=1e-4)
    source = DropDistribution(users=(2, 6), tokens=32, spherical=0.0, clustered=1.0, noisy=0.0, gain_spread_db=0.0)
    spread = []
    for step in range(20):
        channels = source.training(4, step).channels
        assert bool(channels.isfinite().all())
        beams = torch.fft.fft(channels, norm="ortho").abs().square()
        spread.append(float((beams.amax(-1) / beams.sum(-1)).mean()))
    assert min(spread) < 0.45 < 0.75 < max(spread)  # wide clusters, and lines of sight


def test_single_users_are_drawn_too() -> None:
    source = DropDistribution(users=(1, 2), tokens=32)
    assert {source.training(0, step).channels.shape[1] for step in range(30)} == {1, 2}


def test_drops_have_the_signal_to_noise_ratios_asked_for() -> None:
    """Noise on the CSI left out, the drop's mean SNR in dB lies in the range, the users' spread about it."""
    source = DropDistribution(tokens=64, noisy=0.0, snr_db=(3.0, 8.0), gain_spread_db=20.0)
    spread = []
    for step in range(60):
        channels = source.training(1, step).channels
        decibel = 20 * torch.log10(torch.linalg.vector_norm(channels, dim=-1))
        assert float(decibel.min()) >= 3 - 10 - 1e-3
        assert float(decibel.max()) <= 8 + 10 + 1e-3
        spread.append(decibel.amax(-1) - decibel.amin(-1))
    every = torch.cat(spread)
    assert float(every.max()) > 12
    assert float((every < 1e-3).float().mean()) > 0.4  # half of the drops have none


def test_labels_of_clean_labelled_batches_are_true_of_their_wavefronts() -> None:
    source = DropDistribution(users=(4, 8), antennas=(128, 256), tokens=256, spherical=1.0, noisy=0.0)
    agreed, near = [], []
    for step in range(12):
        batch = source.training(2, step)
        assert batch.labelled
        agreed.append((far_field_test(batch.channels) == batch.near_field).double().mean())
        near.append(batch.near_field.double().mean())
    assert float(torch.stack(agreed).mean()) > 0.9  # a test of the waves alone; scatterers blur it a little
    assert 0.2 < float(torch.stack(near).mean()) < 0.8


FEW = PublishedDrops(users=3, array=UniformLinearArray(16), train=40, validate=20, batch=10, noisy=0.0)


def epoch_of(source: PublishedDrops, number: int = 0, seed: int = 9) -> torch.Tensor:
    """The channels of an epoch, in the order they come."""
    steps = source.train // source.batch
    return torch.cat([source.training(seed, number * steps + step).channels for step in range(steps)])


def validation_of(source: PublishedDrops) -> torch.Tensor:
    return torch.cat([batch.channels for batch in source.validation()])


def rows(channels: torch.Tensor) -> list[tuple[complex, ...]]:
    return [tuple(drop[:, 0].tolist()) for drop in channels]


def test_published_drops_are_gone_through_in_epochs() -> None:
    first, second = rows(epoch_of(FEW, 0)), rows(epoch_of(FEW, 1))
    assert len(set(first)) == 40
    assert set(first) == set(second)
    assert first != second
    batch = FEW.training(9, 0)
    assert batch.channels.shape == (10, 3, 16)
    assert batch.labelled
    np.testing.assert_allclose(batch.alpha_c, 0.4, rtol=1e-6)
    np.testing.assert_allclose(batch.min_rate, 0.6, rtol=1e-6)


@pytest.mark.parametrize("noisy", [0.0, 0.5])
def test_published_validation_drops_are_fixed_and_held_out(noisy: float) -> None:
    source = replace(FEW, noisy=noisy)
    held_out = source.validation()
    assert [len(batch.channels) for batch in held_out] == [20]
    assert len(set(rows(validation_of(source)))) == 20
    assert not set(rows(validation_of(FEW))) & set(rows(epoch_of(FEW)))
    source.training(3, 1)
    for first, second in zip(held_out, replace(source, train=50).validation(), strict=True):
        assert_same_batch(first, second)


@pytest.mark.parametrize("step", [0, 3, 4, 4001])
def test_published_batches_depend_on_seed_and_step_alone(step: int) -> None:
    source = replace(FEW, noisy=0.5)
    first = source.training(5, step)
    torch.rand(100)
    source.training(5, step + 1)
    assert_same_batch(first, source.training(5, step))
    assert not torch.equal(first.channels, source.training(6, step).channels)
    assert not torch.equal(first.channels, source.training(5, step + 1).channels)


@pytest.mark.parametrize("snr_db", [20.0, 3.0])
def test_published_channels_have_one_norm(snr_db: float) -> None:
    """Unit-norm channels in units of the noise: P / sigma^2 is all that is left of them."""
    norms = torch.linalg.vector_norm(epoch_of(replace(FEW, snr_db=snr_db)), dim=-1)
    np.testing.assert_allclose(norms, 10 ** (snr_db / 20), rtol=1e-5)


@pytest.mark.parametrize("angle", ["absolute", "signed"])
def test_published_channels_are_spherical_waves_from_where_users_stand(angle: AngleConvention) -> None:
    """Redrawn by the scenario's seed; the waves by hand, from |h - h_B| or its signed value, tilt 5 degrees."""
    source = PublishedDrops(users=4, train=30, validate=10, batch=10, noisy=0.0, angle=angle, seed=5)
    drawn = scenario("paper", 4).draw(30, torch.Generator().manual_seed(5))
    x, drop = drawn.x.numpy(), 15 - drawn.height.numpy()
    theta = np.arctan2(np.abs(drop) if angle == "absolute" else drop, x) - np.radians(5)
    r = np.hypot(x, drop)
    wavelength = 299_792_458 / 30e9
    offset = (np.arange(256) - 127.5) * wavelength / 2
    path = np.sqrt(r[..., None] ** 2 - 2 * r[..., None] * offset * np.sin(theta)[..., None] + offset**2)
    waves = np.exp(-2j * np.pi * path / wavelength) / 16
    batches = [source.training(1, step) for step in range(3)]
    channels = torch.cat([batch.channels for batch in batches]).numpy()
    labels = torch.cat([batch.near_field for batch in batches])
    overlap = np.abs(np.einsum("akn,bkn->abk", channels.conj(), waves)) / 10
    whose = overlap.min(-1).argmax(-1)  # the order of an epoch is shuffled
    assert sorted(whose) == list(range(30))
    np.testing.assert_allclose(overlap[range(30), whose], 1, atol=1e-4)
    ends = is_near_field(UniformLinearArray(), torch.from_numpy(theta), torch.from_numpy(r))
    assert torch.equal(labels, ends[whose])
    assert 0.1 < float(labels.double().mean()) < 0.9
    assert PublishedDrops().angle == "absolute"
    agreed = far_field_test(torch.from_numpy(channels)) == labels
    assert float(agreed.double().mean()) > 0.97  # a test by FFT, which is coarse at the border


@pytest.mark.parametrize("csi_snr_db", [0.0, 12.0, 25.0])
def test_noise_of_published_csi_has_the_level_asked_for(csi_snr_db: float) -> None:
    clean = PublishedDrops(users=8, array=UniformLinearArray(64), train=60, validate=20, batch=20, noisy=0.0)
    noisy = replace(clean, noisy=1.0, csi_snr_db=(csi_snr_db, csi_snr_db))
    for truth, seen in ((epoch_of(clean), epoch_of(noisy)), (validation_of(clean), validation_of(noisy))):
        error = (seen - truth).abs().double().square()
        level = 100 / 64 / 10 ** (csi_snr_db / 10)  # ||h||^2 = 100 over 64 antennas
        assert float(error.mean()) == pytest.approx(level, rel=0.02)
        np.testing.assert_allclose(error.mean((0, 1)), level, rtol=0.4)  # every antenna the same
        assert float(error.mean((1, 2)).std()) < 0.15 * level  # and every drop


def test_half_of_the_published_csi_is_noisy_between_0_and_25_db() -> None:
    noisy = PublishedDrops(users=2, array=UniformLinearArray(128), train=600, validate=600, batch=100)
    clean = replace(noisy, noisy=0.0)
    for seen, truth in ((epoch_of(noisy), epoch_of(clean)), (validation_of(noisy), validation_of(clean))):
        error = (seen - truth).abs().double().square().sum(-1)
        touched = (error > 0).any(-1)
        assert float(touched.double().mean()) == pytest.approx(0.5, abs=0.06)
        assert torch.equal((error > 0).all(-1), touched)  # all of a drop's users or none
        snr_db = 10 * torch.log10(100 / error[touched].mean(-1))
        assert -0.8 < float(snr_db.min()) < 1.5
        assert 23.5 < float(snr_db.max()) < 25.8
        assert kstest(snr_db.numpy() / 25, "uniform").pvalue > 1e-3


def test_published_noise_is_drawn_anew_each_epoch() -> None:
    clean, noisy = FEW, replace(FEW, noisy=1.0)
    errors = []
    for number in (0, 1):
        truth, seen = epoch_of(clean, number), epoch_of(noisy, number)
        order = sorted(range(40), key=lambda drop: rows(truth)[drop][0].real)
        errors.append((seen - truth)[order])
    assert float((errors[0] - errors[1]).abs().min()) > 0


# Loss


def loss_by_hand(
    h: np.ndarray, uplink: np.ndarray, power_fractions: np.ndarray, min_rate: float
) -> tuple[float, float, float]:
    """(sum rate, unmet rate, RZF's sum rate) at P = sigma^2 = 1."""
    beams = unit_rows(structured_beams(h, uplink, 1.0)) * np.sqrt(power_fractions)[:, None]
    gains = np.abs(h.conj() @ beams.T) ** 2
    rate = np.log2(1 + np.diag(gains) / (1 + gains.sum(1) - np.diag(gains)))
    equal = np.full(len(h), 1 / len(h))
    textbook = sum_rate(h, unit_rows(structured_beams(h, equal, 1.0)) * np.sqrt(equal)[:, None], 1.0)
    return float(rate.sum()), float(np.maximum(min_rate - rate, 0).sum()), textbook


@pytest.mark.parametrize("relative", [False, True])
def test_loss_is_the_published_formula(relative: bool) -> None:
    """gamma_2 MSE - sum rate + gamma_1 sum max(R_min - R, 0), by N x N matrices; without C3 and projection."""
    channels = 5 * draw_channels(0, users=3, antennas=6, drops=4, spread_db=10)
    rng = np.random.default_rng(0)
    uplink, power_fractions = rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.full(3, 0.3), 4)
    logit, near = rng.standard_normal((4, 3)), rng.random((4, 3)) < 0.5
    min_rate = np.array([0.0, 0.5, 2.0, 3.0])
    output = NetworkOutput(*(torch.from_numpy(value).float() for value in (logit, uplink, power_fractions)))
    parts = precoding_loss(
        output,
        normalised_gram(channels, LinkBudget(1.0, 1.0)),
        torch.from_numpy(near),
        torch.ones(4),
        torch.from_numpy(min_rate).float(),
        LossWeights(min_rate=10.0, near_field=5.0, relative=relative, projected=False),
    )
    expected, unmet = [], []
    for drop in range(4):
        h = channels[drop].numpy().astype(complex)
        reached, missed, textbook = loss_by_hand(h, uplink[drop], power_fractions[drop], min_rate[drop])
        scale = textbook if relative else 1.0
        expected.append((10 * missed - reached) / scale)
        unmet.append(missed / scale)
    error = np.mean((1 / (1 + np.exp(-logit)) - near) ** 2)
    assert float(parts.total) == pytest.approx(np.mean(expected) + 5 * error, rel=1e-4)
    assert float(parts.unmet) == pytest.approx(np.mean(unmet), rel=1e-4)
    assert float(parts.near_field) == pytest.approx(error, rel=1e-5)


def test_loss_without_true_labels_leaves_the_classifier_alone() -> None:
    channels = 5 * draw_channels(1, users=3, antennas=6, drops=4)
    gram = normalised_gram(channels, LinkBudget(1.0, 1.0))
    logit = torch.zeros(4, 3, requires_grad=True)
    output = NetworkOutput(logit, torch.full((4, 3), 1 / 3, requires_grad=True), torch.full((4, 3), 1 / 3))
    near = torch.ones(4, 3, dtype=torch.bool)
    parts = precoding_loss(output, gram, near, torch.ones(4), torch.zeros(4), LossWeights(), labelled=False)
    parts.total.backward()
    assert logit.grad is None
    assert float(parts.near_field) == 0


def test_equal_shares_are_worth_exactly_rzf() -> None:
    channels = 5 * draw_channels(2, users=4, antennas=6, drops=5, spread_db=10)
    equal = torch.full((5, 4), 0.25)
    parts = precoding_loss(
        NetworkOutput(None, equal, equal),
        normalised_gram(channels, LinkBudget(1.0, 1.0)),
        torch.zeros(5, 4, dtype=torch.bool),
        torch.ones(5),
        torch.zeros(5),
        LossWeights(),
    )
    assert float(parts.rate_over_rzf) == pytest.approx(1, rel=1e-6)
    assert float(parts.total) == pytest.approx(-1, rel=1e-6)


def test_the_pruned_loss_is_that_of_the_better_answer_per_drop() -> None:
    """Of identical users of gain 100 and equal powers one alone has more; with minimum rates both have less loss."""
    h = draw_channels(2, users=1, antennas=6)
    channels = 10 * torch.cat([h, h], 1).expand(2, 2, 6) / torch.linalg.vector_norm(h)
    equal, near = torch.full((2, 2), 0.5, requires_grad=True), torch.zeros(2, 2, dtype=torch.bool)
    output, rate = NetworkOutput(None, equal, equal), torch.tensor([0.0, 0.7])
    weights = LossWeights(min_rate=10.0, relative=False, pruned=True, projected=False)
    gram = normalised_gram(channels, LinkBudget(1.0, 1.0))
    parts = precoding_loss(output, gram, near, torch.ones(2), rate, weights)
    alone, shared = np.log2(101), 2 * np.log2(1 + 50 / 51)
    assert float(parts.total.detach()) == pytest.approx((-alone - shared) / 2, rel=1e-4)
    parts.total.backward()
    assert bool(equal.grad.isfinite().all())  # type: ignore[union-attr]


def small_network(seed: int = 0) -> PrecodingNetwork:
    torch.manual_seed(seed)
    return PrecodingNetwork(SMALL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("users", "antennas"), [(1, 1), (1, 8), (6, 2), (8, 16)])
@pytest.mark.parametrize("snr_db", [-10.0, 35.0])
@pytest.mark.parametrize("weights", [LossWeights(1.0), LossWeights(1.0, pruned=True, projected=False)])
def test_gradients_are_finite_on_degenerate_drops(
    kind: str, users: int, antennas: int, snr_db: float, weights: LossWeights
) -> None:
    drops = 6
    channels = 10 ** (snr_db / 20) * draw_channels(3, users, antennas, kind, spread_db=30, drops=drops)
    rng = np.random.default_rng(1)
    near = torch.from_numpy(rng.random((drops, users)) < 0.5)
    near[0], near[1] = True, False
    alpha = torch.tensor([0.05, 0.5, 1.0, 0.05, 0.9, 0.3])
    rate = torch.tensor([0.0, 0.1, 5.0, 1.0, 0.0, 0.02])
    network, gram = small_network(), normalised_gram(channels, LinkBudget(1.0, 1.0))
    output = network(UserInputs(channels, gram, alpha, rate, near))
    parts = precoding_loss(output, gram, near, alpha, rate, weights)
    parts.total.backward()
    assert bool(parts.total.isfinite())
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name


def test_loss_falls_on_a_batch_that_stays_the_same() -> None:
    """Sixty steps lift a small network above RZF on drops whose users' gains differ, and labels get learnt."""
    source = DropDistribution(users=(5, 5), antennas=(64,), tokens=160, spherical=1.0, noisy=0.0, constrained=0.0)
    batch = source.training(1, 4)
    network, gram = small_network(), normalised_gram(batch.channels, LinkBudget(1.0, 1.0))
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    history = []
    for _ in range(60):
        output = forward(network, batch, gram, with_labels=True)
        parts = precoding_loss(output, gram, batch.near_field, batch.alpha_c, batch.min_rate, LossWeights())
        history.append(parts)
        optimiser.zero_grad()
        parts.total.backward()
        optimiser.step()
    assert float(history[0].rate_over_rzf) == pytest.approx(1, abs=0.02)  # training starts from RZF
    assert float(history[-1].rate_over_rzf) > float(history[0].rate_over_rzf) + 0.02
    assert float(history[-1].near_field) < 0.5 * float(history[0].near_field)
    assert float(history[-1].total.detach()) < float(history[0].total.detach()) - 0.5


# The loop


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    recipe = replace(TINY, steps=1000, warm_up=100, decay=0.4, learning_rate=2.0)
    assert learning_rate(recipe, 0) == pytest.approx(0.02)
    assert learning_rate(recipe, 49) == pytest.approx(1.0)
    assert {learning_rate(recipe, step) for step in range(99, 601)} == {2.0}
    assert learning_rate(recipe, 800) == pytest.approx(1.0)
    assert 0 < learning_rate(recipe, 999) < 1e-4
    falling = [learning_rate(recipe, step) for step in range(600, 1000)]
    assert falling == sorted(falling, reverse=True)
    longer = replace(recipe, steps=5000)
    assert [learning_rate(longer, step) for step in range(600)] == [learning_rate(recipe, step) for step in range(600)]


def test_learning_rate_of_the_paper_is_constant() -> None:
    recipe = replace(TINY, steps=100, warm_up=0, decay=0.0, learning_rate=1e-4)
    assert {learning_rate(recipe, step) for step in range(100)} == {1e-4}


def test_served_rate_is_what_the_constraints_leave_of_wmmse() -> None:
    batch = FewDrops().validation()[0]
    budget = LinkBudget(1.0, 1.0, batch.alpha_c.double(), batch.min_rate.double())
    answer = wmmse(ChannelBatch(batch.channels, batch.near_field), budget)
    torch.testing.assert_close(reference_rate(batch), answer.sum_rate)
    check = check_constraints(batch.channels, answer.precoder, answer.power, batch.near_field, budget)
    assert bool((check.near_share <= 1e-6).all())
    users = batch.channels.shape[1]
    equal = torch.full(batch.near_field.shape, 1 / users, dtype=torch.float64)
    gram = normalised_gram(batch.channels, LinkBudget(1.0, 1.0))
    free = replace(batch, alpha_c=torch.ones_like(batch.alpha_c), min_rate=torch.zeros_like(batch.min_rate))
    served = served_rate(free, gram, equal, equal)
    for drop in range(3):
        h = batch.channels[drop].numpy().astype(complex)
        beams = unit_rows(structured_beams(h, np.full(users, 1 / users), 1.0)) / np.sqrt(users)
        assert float(served[drop]) == pytest.approx(sum_rate(h, beams, 1.0), rel=1e-6)


def run(folder: Path, recipe: Recipe = TINY, until: int | None = None, resume: bool = False) -> Trainer:
    """Train to the end, or until a kill after step ``until``."""
    trainer = Trainer("test", recipe, folder, CPU, resume)
    for progress in trainer.run():
        assert progress.steps == recipe.steps
        assert math.isfinite(progress.loss)
        assert progress.best == trainer.best
        if progress.step == until:
            break
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


@pytest.mark.parametrize("kill", [1, 4, 8])
@pytest.mark.parametrize("judge", ["score", "loss"])
def test_resumed_run_is_bit_for_bit_the_unbroken_one(
    tmp_path: Path, kill: int, judge: Literal["score", "loss"]
) -> None:
    recipe = replace(TINY, judge=judge)
    unbroken = run(tmp_path / "unbroken", recipe)
    run(tmp_path / "killed", recipe, until=kill)
    torch.rand(5)  # whatever else happened to the global generator
    resumed = run(tmp_path / "killed", recipe, resume=True)
    assert_equal_weights(weights(unbroken), weights(resumed))
    assert resumed.best == unbroken.best
    for one, other in zip(unbroken.optimisation.parameters, resumed.optimisation.parameters, strict=True):
        moments, theirs = unbroken.optimisation.optimiser.state[one], resumed.optimisation.optimiser.state[other]
        assert moments.keys() == theirs.keys()
        assert all(torch.equal(moments[key], theirs[key]) for key in moments)
    first, second = (load_checkpoint(tmp_path / name) for name in ("unbroken", "killed"))
    assert first.card["step"] == second.card["step"]
    assert_equal_weights(first.network.state_dict(), second.network.state_dict())
    logs = [pd.read_csv(tmp_path / name / "log.csv").drop(columns="seconds") for name in ("unbroken", "killed")]
    assert logs[1]["step"].tolist() == logs[0]["step"].tolist() == [3, 4, 6, 8, 9, 12]
    measured = ["step", "rate_over_wmmse", "accuracy", "validation_loss"]
    np.testing.assert_array_equal(*(log.dropna(subset="accuracy")[measured].to_numpy() for log in logs))


@pytest.mark.parametrize(("kind", "family"), [("raw", "gpt2"), ("raw", "none"), ("cnn", "none")])
def test_resumed_network_with_batch_norm_is_the_unbroken_one(
    tmp_path: Path, kind: Literal["raw", "cnn"], family: Literal["gpt2", "none"]
) -> None:
    backbone = BackboneConfig(family=family, width=16, layers=1, heads=2, attention="causal")
    head_width = 4 if family == "none" else 0
    network = NetworkConfig(EncoderConfig(kind=kind, antennas=8, blocks=1), backbone, head_width)
    data = PublishedDrops(users=3, array=UniformLinearArray(8), train=40, validate=20, batch=10)
    recipe = replace(
        TINY, network=network, data=data, steps=8, loss=LossWeights(relative=False, projected=False), judge="loss"
    )
    unbroken = run(tmp_path / "unbroken", recipe)
    run(tmp_path / "killed", recipe, until=5)
    resumed = run(tmp_path / "killed", recipe, resume=True)
    assert_equal_weights(weights(unbroken), weights(resumed))
    assert resumed.best == unbroken.best


def test_longer_recipe_goes_on_where_the_shorter_ended(tmp_path: Path) -> None:
    steady = replace(TINY, decay=0.0)
    run(tmp_path / "run", replace(steady, steps=6))
    assert_equal_weights(
        weights(run(tmp_path / "run", steady, resume=True)), weights(run(tmp_path / "at once", steady))
    )


def test_finished_run_resumes_to_nothing(tmp_path: Path) -> None:
    finished = run(tmp_path)
    again = Trainer("test", TINY, tmp_path, CPU, resume=True)
    assert list(again.run()) == []
    assert_equal_weights(weights(finished), weights(again))


def test_another_seed_trains_another_network(tmp_path: Path) -> None:
    first, second = weights(run(tmp_path / "a")), weights(run(tmp_path / "b", replace(TINY, seed=12)))
    assert not torch.equal(first["heads.power.weight"], second["heads.power.weight"])


def test_log_is_readable_by_pandas(tmp_path: Path) -> None:
    run(tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["step"].tolist() == [3, 4, 6, 8, 9, 12]
    measured = ["rate_over_wmmse", "accuracy", "validation_loss"]
    assert log.columns[-3:].tolist() == measured
    assert log.drop(columns=measured).notna().all(axis=None)
    for name in measured:
        assert log[name].notna().tolist() == [False, True, False, True, False, True]
    validated = log.dropna()
    assert validated["accuracy"].between(0, 1).all()
    assert log["seconds"].is_monotonic_increasing
    np.testing.assert_allclose(log["learning_rate"], [learning_rate(TINY, step - 1) for step in log["step"]], rtol=1e-5)


def script_measures(monkeypatch: pytest.MonkeyPatch, name: str, values: list[float]) -> dict[int, Any]:
    """Replace one measure of the validations, in turn; returns the weights at each step validated, once it has run."""
    states: dict[int, dict[str, torch.Tensor]] = {}
    script, original = iter(values), Trainer._validate

    def scripted(self: Trainer) -> Measures:
        states[self.step] = weights(self)
        measure, value = self.measure, next(script)
        monkeypatch.setattr(self, "measure", lambda network: measure(network) | {name: value})
        measures = original(self)
        self.measure = measure
        return measures

    monkeypatch.setattr(Trainer, "_validate", scripted)
    return states


@pytest.mark.parametrize("rates", [[0.5, 0.9, 0.7], [0.9, 0.5, 0.9], [0.1, 0.2, 0.3]])
def test_run_delivers_its_best_validated_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: list[float]
) -> None:
    """The score comes from a script; of two alike the first state is the best."""
    monkeypatch.setattr("nflae_bridge.training.loop.judged", lambda recipe, task, measures: measures["scripted"])
    states = script_measures(monkeypatch, "scripted", rates)
    run(tmp_path)
    best = 4 * (1 + rates.index(max(rates)))
    loaded = load_checkpoint(tmp_path)
    assert loaded.card["step"] == best
    assert_equal_weights(loaded.network.state_dict(), states[best])
    assert is_model(tmp_path)


def test_state_is_judged_by_rate_plus_accuracy_or_by_the_negative_loss() -> None:
    found = {"rate_over_wmmse": 0.9, "accuracy": 0.75, "loss": -3.5}
    assert judged(TINY, PRECODE, found) == pytest.approx(1.65)
    assert judged(replace(TINY, judge="loss"), PRECODE, found) == 3.5


@pytest.mark.parametrize("losses", [[2.0, -3.0, 1.0], [-1.0, 4.0, -1.0], [3.0, 2.0, 1.0], [math.nan, 2.0, 5.0]])
def test_run_judged_by_loss_delivers_the_state_with_the_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float]
) -> None:
    """The loss of the validation drops comes from a script, that of the training drops is as it is."""
    states = script_measures(monkeypatch, "loss", losses)
    trained = run(tmp_path, replace(TINY, judge="loss"))
    least = min(value for value in losses if not math.isnan(value))
    best = 4 * (1 + losses.index(least))
    loaded = load_checkpoint(tmp_path)
    assert loaded.card["step"] == best
    assert loaded.card["validation"]["loss"] == -trained.best == least
    assert_equal_weights(loaded.network.state_dict(), states[best])
    log = pd.read_csv(tmp_path / "log.csv").dropna(subset="accuracy")
    np.testing.assert_array_equal(log["validation_loss"], losses)


def test_validation_loss_is_the_loss_of_the_validation_drops(tmp_path: Path) -> None:
    recipe = replace(TINY, loss=LossWeights(min_rate=10.0, near_field=5.0, relative=False, projected=False))
    trained = run(tmp_path, recipe)
    network, found = trained.network.eval(), []
    for batch in recipe.data.validation():
        gram = normalised_gram(batch.channels, LinkBudget(1.0, 1.0))
        with torch.no_grad():
            output = network(UserInputs(batch.channels, gram, batch.alpha_c, batch.min_rate, batch.near_field))
        parts = precoding_loss(
            output, gram, batch.near_field, batch.alpha_c, batch.min_rate, recipe.loss, batch.labelled
        )
        found.append(float(parts.total))
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["validation_loss"].iloc[-1] == pytest.approx(np.mean(found), rel=1e-5)


@pytest.mark.parametrize("kind", ["raw", "cnn"])
def test_networks_that_read_antennas_get_them_without_labels_too(kind: Literal["raw", "cnn"]) -> None:
    network = PrecodingNetwork(
        NetworkConfig(EncoderConfig(kind=kind, antennas=8), BackboneConfig(family="none", width=16), head_width=4)
    )
    channels, one = draw_channels(0, 3, 8, drops=2), torch.ones(2)
    batch = TrainingBatch(channels, torch.zeros(2, 3, dtype=torch.bool), one, 0 * one, labelled=False)
    output = forward(network, batch, normalised_gram(channels, LinkBudget()), with_labels=True)
    assert output.power_fractions.shape == (2, 3)


def test_classifier_preset_trains_the_classifier_alone(tmp_path: Path) -> None:
    run(tmp_path / "start")
    start = load_checkpoint(tmp_path / "start")
    preset = recipe("classifier", steps=12)
    few = replace(preset, data=FewDrops(replace(labelled_users(), antennas=(64,), tokens=256)), warm_up=1, decay=0.1)
    trainer = Trainer("classifier", few, tmp_path / "labels", CPU, False, start)
    before, losses = weights(trainer), [progress.loss for progress in trainer.run()]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    after = load_checkpoint(tmp_path / "labels").network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("encoder.classifier.")}
    card = json.loads((tmp_path / "labels" / "model.json").read_text())
    assert card["history"][-1]["preset"] == "test"
    assert card["network"] == start.card["network"]
    with pytest.raises(NflaeError, match=r"trains encoder\.classifier of a model; .*--start tiny"):
        Trainer("classifier", few, tmp_path / "none", CPU, False)
    network = PrecodingNetwork(
        NetworkConfig(EncoderConfig(kind="cnn"), BackboneConfig(family="none", width=16), head_width=4)
    )
    with pytest.raises(NflaeError, match=r"has no encoder\.classifier"):
        Trainer("classifier", few, tmp_path / "none", CPU, False, Checkpoint("cnn", network, {}))


def test_label_loss_is_the_cross_entropy_of_the_scores() -> None:
    logit, labels = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[True, True, False]])
    scores = 1 / (1 + np.exp(-logit.numpy()))
    likelihood = np.where(labels, scores, 1 - scores)
    assert float(label_loss(logit, labels).total) == pytest.approx(-np.log(likelihood).mean(), rel=1e-6)


def test_drops_for_labels_are_labelled_and_without_constraints() -> None:
    for step in range(6):
        batch = labelled_users().training(1, step)
        assert batch.labelled
        assert batch.near_field.numel() == 4096
        assert bool((batch.alpha_c == 1).all())
        assert bool((batch.min_rate == 0).all())


def test_card_tells_what_was_trained(tmp_path: Path) -> None:
    run(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["preset"] == "test"
    assert card["recipe"]["seed"] == 11
    assert card["recipe"]["steps"] == 12
    assert card["recipe"]["data"]["source"]["users"] == [1, 5]
    assert card["recipe"]["judge"] == "score"
    assert set(card["validation"]) == {"rate_over_wmmse", "accuracy", "loss"}


def test_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "log.csv").read_bytes()
    with pytest.raises(NflaeError, match=r"holds a run already.*--resume"):
        Trainer("test", TINY, tmp_path, CPU, resume=False)
    assert (tmp_path / "log.csv").read_bytes() == before


OTHER_RUNS = {
    "network": replace(TINY, network=replace(SMALL, backbone=BackboneConfig(width=32, layers=1, heads=2))),
    "seed": replace(TINY, seed=12),
    "loss": replace(TINY, loss=LossWeights(min_rate=3.0)),
    "data": replace(TINY, data=FewDrops(DropDistribution(users=(2, 3), antennas=(32,), tokens=64))),
    "learning rate": replace(TINY, learning_rate=0.5),
    "judge": replace(TINY, judge="loss"),
}


@pytest.mark.parametrize("what", OTHER_RUNS)
def test_folder_of_another_run_is_refused(tmp_path: Path, what: str) -> None:
    run(tmp_path)
    with pytest.raises(NflaeError, match="another"):
        Trainer("test", OTHER_RUNS[what], tmp_path, CPU, resume=True)


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_damaged_run_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    state = tmp_path / "last.safetensors"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-100])
    else:
        save_tensors(state, {"weight": torch.zeros(3)})
    with pytest.raises(NflaeError) as error:
        Trainer("test", TINY, tmp_path, CPU, resume=True)
    assert str(state) in str(error.value)
    assert "\n" not in str(error.value)


def test_run_goes_on_without_its_log(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "log.csv").unlink()
    Trainer("test", TINY, tmp_path, CPU, resume=True)
    assert (tmp_path / "log.csv").read_text().startswith("step,")


@pytest.mark.parametrize("torn", ["9,0.1", "1"])
def test_log_line_cut_short_by_a_kill_is_dropped(tmp_path: Path, torn: str) -> None:
    unbroken = run(tmp_path / "unbroken")
    run(tmp_path / "killed", until=7)
    with (tmp_path / "killed" / "log.csv").open("a") as log:
        log.write(torn)  # no end of line, half the columns
    assert_equal_weights(weights(unbroken), weights(run(tmp_path / "killed", resume=True)))
    with (tmp_path / "killed" / "log.csv").open() as log:
        rows = list(csv.reader(log))
    assert {len(row) for row in rows} == {10}
    assert [row[0] for row in rows[1:]] == ["3", "4", "6", "8", "9", "12"]


def test_run_can_start_from_another_runs_model(tmp_path: Path) -> None:
    run(tmp_path / "first")
    first = load_checkpoint(tmp_path / "first")
    second = Trainer("test", replace(TINY, seed=5), tmp_path / "second", CPU, resume=False, start=first)
    for name, value in second.network.state_dict().items():
        torch.testing.assert_close(value, first.network.state_dict()[name], rtol=0, atol=0)
    assert second.history == [
        {"seed": TINY.seed, "steps": TINY.steps, "preset": "test", "step": first.card["step"],
         "train_seconds": first.card["train_seconds"]}
    ]  # fmt: skip
    wider = replace(TINY, network=NetworkConfig(EncoderConfig(), BackboneConfig(width=32, layers=1, heads=2)))
    with pytest.raises(NflaeError, match="is not the network of preset"):
        Trainer("test", wider, tmp_path / "third", CPU, resume=False, start=first)
