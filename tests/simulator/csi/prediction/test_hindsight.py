"""Hindsight: errors on the last known snapshots by direct computation, weights, and the estimate of the error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry
from simulator.csi.prediction.autoregressive import autoregressive
from simulator.csi.prediction.hindsight import Hindsight, look_back
from simulator.csi.prediction.linear import prepare_window
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.window import Window


def last(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
    """Return the coefficients of the last snapshot."""
    found = torch.zeros(*gram.shape[:3], ahead, dtype=gram.dtype)
    found[:, :, -1] = 1
    return found


def nothing(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
    """Predict zero."""
    return torch.zeros(*gram.shape[:3], ahead, dtype=gram.dtype)


def autoregression(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
    return autoregressive(gram.flatten(0, 1), noise.flatten(), ahead).view(*gram.shape[:3], ahead)


def series(slots: int = 20) -> Tensor:
    g = torch.Generator().manual_seed(1)
    cycles = torch.tensor([[-0.11, 0.03, 0.17], [0.2, -0.02, 0.05]])
    time = torch.polar(torch.ones(2, 3, slots), 2 * math.pi * cycles[..., None] * torch.arange(slots))
    return time.mT @ torch.randn(2, 3, 24, dtype=torch.complex64, generator=g)


def test_errors_are_those_of_predicting_the_last_snapshots() -> None:
    x = series()[:, :16]
    prepared = prepare_window(Window(x, torch.zeros(2)))
    found = look_back(prepared, [last, nothing], 3)
    turned = prepared.values.to(torch.complex128)
    power = turned.abs().square().sum(-1).mean(1)
    for step in range(3):
        change = (turned[:, 12] - turned[:, 13 + step]).abs().square().sum(-1) / power
        torch.testing.assert_close(found.cross[:, step, 0, 0], change)
        alone = turned[:, 13 + step].abs().square().sum(-1) / power
        torch.testing.assert_close(found.cross[:, step, 1, 1], alone)
    weights = torch.tensor([[0.3, 0.7]]).double().expand(2, -1)
    mixed = (0.3 * turned[:, 12:13] - turned[:, 13:]).abs().square().sum(-1) / power.unsqueeze(1)
    torch.testing.assert_close(10 ** (found.error_db(weights, 3) / 10), mixed)


def test_weights_fall_with_the_error_to_the_power_of_1_5_and_rise_with_the_priority() -> None:
    cross = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    cross[0, :, 0, 0], cross[0, :, 1, 1] = 0.1, 0.4
    assert Hindsight(cross, torch.zeros(1)).weights([1, 1])[0].tolist() == pytest.approx([8 / 9, 1 / 9])
    assert Hindsight(cross, torch.zeros(1)).weights([1, 8])[0].tolist() == pytest.approx([0.5, 0.5])
    assert Hindsight(cross, torch.full((1,), 5.0)).weights([1, 1])[0].tolist() == pytest.approx([0.5, 0.5])


def test_the_estimated_error_is_at_least_a_tenth_of_the_noise() -> None:
    cross = torch.full((2, 3, 1, 1), -0.2, dtype=torch.float64)
    found = Hindsight(cross, torch.tensor([0.5, 0.0], dtype=torch.float64)).error_db(torch.ones(2, 1), 4)
    assert found[0].tolist() == pytest.approx([10 * math.log10(0.05)] * 4, abs=1e-4)
    assert found[1].tolist() == pytest.approx([-90.0] * 4)


def test_auto_follows_the_predictor_that_was_right() -> None:
    x = series()
    window = Window(x[:, :16], torch.full((2,), 1e-6))
    found = predict_window(window, 4, "auto", nothing)
    assert found.method == ["ar", "ar"]
    assert float((found.channels - x[:, 16:]).norm() / x[:, 16:].norm()) < 1e-2
    assert bool((found.csi_error_db < -30).all())


@pytest.mark.parametrize("kind", ["none", "line"])
@pytest.mark.parametrize("method", ["hold", "ar", "auto"])
def test_estimated_error_is_that_of_the_prediction(kind: str, method: str) -> None:
    g = torch.Generator().manual_seed(4)
    cycles = 0.04 * torch.randn(200, 6, 1, generator=g)
    time = torch.polar(torch.ones(200, 6, 20), 2 * math.pi * cycles * torch.arange(20))
    sines = 2 * torch.rand(200, 6, 1, generator=g) - 1
    array = torch.polar(torch.ones(200, 6, 32), math.pi * sines * torch.arange(32))
    truth = (time * torch.randn(200, 6, 1, dtype=torch.complex64, generator=g)).mT @ array
    truth = truth / truth.abs().square().mean((1, 2), keepdim=True).sqrt()
    noisy = truth + 0.3 * torch.randn(truth.shape, dtype=torch.complex64, generator=g)
    window = Window(noisy[:, :16], torch.full((200,), 0.09), ArrayGeometry(kind))  # type: ignore[arg-type]
    found = predict_window(window, 4, method)
    error = (found.channels - truth[:, 16:]).abs().square().sum(-1).mean(0) / 32
    estimate = (10 ** (found.csi_error_db / 10)).mean(0)
    assert (10 * torch.log10(estimate / error)).abs().max() < 3.5


def test_short_histories_are_predicted_without_hindsight() -> None:
    found = predict_window(Window(series()[:, :3], torch.zeros(2)), 2)
    assert found.method == ["ar", "ar"]
    assert bool(found.csi_error_db.isnan().all())
