"""The shipped predictor: equivariance, any history and horizon, better than autoregression on sums of few waves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nflae_bridge.network.csi.temporal_gram import TemporalGramConfig, TemporalGramNetwork
from nflae_bridge.tasks.predict import PREDICT, MovingUsers, PredictionLoss, load_predictor
from simulator.csi.beams import ArrayGeometry
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.temporal import temporal_gram, toeplitz
from simulator.csi.prediction.window import Window


def waves(series: int, antennas: int, slots: int, seed: int = 1) -> Tensor:
    """Return three plane waves with a Doppler shift each, (series, slots, antennas), mean power 1."""
    g = torch.Generator().manual_seed(seed)
    sines, cycles = 2 * torch.rand(series, 3, 1, generator=g) - 1, 0.15 * torch.randn(series, 3, 1, generator=g)
    array = torch.polar(torch.ones(series, 3, antennas), math.pi * sines * torch.arange(antennas))
    time = torch.polar(torch.ones(series, 3, slots), 2 * math.pi * cycles * torch.arange(slots))
    gains = torch.randn(series, 3, 1, dtype=torch.complex64, generator=g)
    channels = (time * gains).mT @ array
    return channels / channels.abs().square().mean((1, 2), keepdim=True).sqrt()


def noisy(channels: Tensor, variance: float) -> Tensor:
    g = torch.Generator().manual_seed(2)
    return channels + variance**0.5 * torch.randn(channels.shape, dtype=torch.complex64, generator=g)


def predict(snapshots: Tensor, variance: float, ahead: int = 4, kind: str = "none", method: str = "nflae") -> Tensor:
    window = Window(snapshots, torch.full((len(snapshots),), variance), ArrayGeometry(kind))  # type: ignore[arg-type]
    return predict_window(window, ahead, method, load_predictor()).channels


def relative(error: Tensor, truth: Tensor) -> float:
    return float(torch.linalg.vector_norm(error) / torch.linalg.vector_norm(truth))


def test_prediction_without_geometry_is_equivariant() -> None:
    x = noisy(waves(3, 24, 16), 0.05)
    usual = predict(x, 0.05)
    g = torch.Generator().manual_seed(4)
    unitary = torch.linalg.qr(torch.randn(24, 24, dtype=torch.complex128, generator=g)).Q
    mapped = (x.to(torch.complex128) @ unitary).to(torch.complex64)
    assert relative(predict(mapped, 0.05) - usual @ unitary.to(torch.complex64), usual) < 1e-5
    for scale in (1e-6, 1e6):
        assert relative(predict(x * scale, 0.05 * scale**2) / scale - usual, usual) < 1e-5
    assert relative(predict(x * 1j, 0.05) - 1j * usual, usual) < 1e-5
    shift = torch.polar(torch.ones(20), 1.1 * torch.arange(20.0))[:, None]
    assert relative(predict(x * shift[:16], 0.05) - usual * shift[16:], usual) < 1e-5


def test_snapshots_backwards_in_time_have_the_coefficients_of_forward_ones() -> None:
    network, noise = load_predictor(), torch.full((3, 1), 0.05).double()
    x = noisy(waves(3, 24, 18), 0.05).to(torch.complex128)
    there, back = (temporal_gram(series)[:, None] / 24 for series in (x, x.flip(1).conj()))
    assert relative(there - back, there) > 0.01
    torch.testing.assert_close(network(there[..., 2:, 2:], noise, 4), network(back[..., :16, :16], noise, 4))


@pytest.mark.parametrize("history", [2, 3, 7, 16, 24])
@pytest.mark.parametrize("kind", ["none", "line"])
def test_any_history_and_horizon_gives_finite_channels(history: int, kind: str) -> None:
    x = waves(4, 16, history)
    found = predict(x, 0.0, 11, kind)
    assert found.shape == (4, 11, 16)
    assert bool(found.isfinite().all())


def test_only_the_last_sixteen_snapshots_count() -> None:
    x = noisy(waves(2, 16, 16), 0.1)
    found = load_predictor()(_gram(x), torch.full((2, 1), 0.1, dtype=torch.float64), 4)
    longer = load_predictor()(_gram(torch.cat([7 * x[:, :3], x], 1)), torch.full((2, 1), 0.1, dtype=torch.float64), 4)
    torch.testing.assert_close(longer[:, :, 3:], found)
    assert not longer[:, :, :3].any()


def _gram(x: Tensor) -> Tensor:
    exact = x.to(torch.complex128)
    return (exact.conj() @ exact.mT).unsqueeze(1) / x.shape[-1]


@pytest.mark.parametrize(("kind", "variance"), [("line", 1.0), ("line", 0.1), ("none", 0.1)])
def test_few_waves_in_noise_are_predicted_better_than_by_autoregression(kind: str, variance: float) -> None:
    truth = waves(60, 32, 20)
    x = noisy(truth, variance)[:, :16]
    errors = [
        relative(predict(x, variance, 4, kind, m) - truth[:, 16:], truth[:, 16:]) for m in ("nflae", "ar", "hold")
    ]
    assert errors[0] < 0.95 * errors[1] < errors[2]


def test_network_is_small_and_its_recipe_is_that_of_the_preset() -> None:
    assert load_predictor().parameter_counts()[1] <= 200_000
    assert load_predictor().config == PREDICT.presets["predict-tiny"].recipe.network


def test_without_correction_the_coefficients_solve_the_wiener_equations() -> None:
    torch.manual_seed(0)
    network = TemporalGramNetwork(TemporalGramConfig())
    torch.nn.init.zeros_(network.head.weight)
    bins, order = network.parts[:2]
    with torch.no_grad():
        network.head.bias[bins : bins + order] = 1e3  # ridges so large that the data correct nothing
    x = noisy(waves(1, 16, 16), 0.1)
    gram, noise = _gram(x), torch.full((1, 1), 0.1, dtype=torch.float64)
    gram = gram / gram.diagonal(dim1=-2, dim2=-1).real.mean()
    with torch.no_grad():
        taps = network(gram, noise, 3)[0, 0]
    # two halves of equal weight: a filter of all 16 snapshots and one of the last 10
    power = torch.stack([_periodogram(gram[0, 0], (i + 0.5) / 64 - 0.5) for i in range(64)])
    weights = torch.softmax(torch.log(power + 0.1 / 16 + 1e-4), 0)
    centres = (torch.arange(64).double() + 0.5) / 64 - 0.5
    lags = torch.polar(torch.ones(64, 19).double(), 2 * math.pi * centres[:, None] * torch.arange(19))
    correlation = 0.9 * (weights.to(lags.dtype) @ lags).unsqueeze(0)
    expected = torch.zeros(16, 3, dtype=torch.complex128)
    for length in (16, 10):
        matrix, target = toeplitz(correlation[:, : length + 3], length)
        found = torch.linalg.solve(matrix[0] + (0.1 + 1e-6) * torch.eye(length), target[0])  # newest first
        expected[16 - length :] += 0.5 * found.flip(0)
    torch.testing.assert_close(taps, expected, rtol=0, atol=1e-3)


def _periodogram(gram: Tensor, cycles: float) -> Tensor:
    wave = torch.polar(torch.ones(16).double(), 2 * math.pi * cycles * torch.arange(16).double()) / 16
    return (wave.conj() @ gram.mT @ wave).real


def test_training_reduces_the_loss_and_batches_repeat_by_seed_and_step() -> None:
    source = MovingUsers(series=6, antennas=(16,), histories=(16,))
    first, again, other = (source.training(3, step) for step in (5, 5, 6))
    torch.testing.assert_close(first.window.snapshots, again.window.snapshots)
    assert first.future.shape[1:] == (8, 16)
    assert not torch.equal(first.future[:6], other.future[:6])
    torch.manual_seed(1)
    network = TemporalGramNetwork(TemporalGramConfig(width=16, layers=1, heads=2))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses, loss_weights = [], PredictionLoss()
    for _ in range(12):
        loss = PREDICT.loss(network, PREDICT.prepare(network, first, loss_weights), loss_weights)["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.02
