"""Linear predictors against sums of exponentials, and their equivariance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry
from simulator.csi.prediction import linear
from simulator.csi.prediction.autoregressive import autoregressive
from simulator.csi.prediction.esprit import poles_by_number
from simulator.csi.prediction.kalman import kalman
from simulator.csi.prediction.registry import METHODS, predict_window
from simulator.csi.prediction.temporal import iterate_coefficients, temporal_gram, window_sums
from simulator.csi.prediction.window import Window

CLASSICAL = [name for name in METHODS if name not in ("auto", "nflae", "hold")]


def exponentials(paths: int, series: int = 3, antennas: int = 12, slots: int = 20, seed: int = 0) -> Tensor:
    """Return sums of undamped exponentials with random directions, complex64 (series, slots, antennas)."""
    g = torch.Generator().manual_seed(seed)
    spaced = (torch.arange(paths) + 0.6 * torch.rand(series, paths, generator=g)) / (2.5 * paths) - 0.2
    phase = 2 * math.pi * spaced[..., None].double() * torch.arange(slots)
    vectors = torch.randn(series, paths, antennas, dtype=torch.complex128, generator=g)
    return (torch.polar(torch.ones_like(phase), phase).mT @ vectors).to(torch.complex64)


def window(snapshots: Tensor, variance: float = 0.0, geometry: ArrayGeometry | None = None) -> Window:
    return Window(snapshots, torch.full((len(snapshots),), variance), geometry or ArrayGeometry())


def relative(error: Tensor, truth: Tensor) -> float:
    return float(torch.linalg.vector_norm(error) / torch.linalg.vector_norm(truth))


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("geometry", [ArrayGeometry(), ArrayGeometry("line"), ArrayGeometry("panel", 3, 4)])
def test_sums_of_exponentials_without_noise_are_predicted(method: str, geometry: ArrayGeometry) -> None:
    truth = exponentials(paths=4)
    found = predict_window(window(truth[:, :16], geometry=geometry), 4, method)
    assert found.channels.dtype == torch.complex64
    assert list(found.method) == [method] * 3
    assert relative(found.channels - truth[:, 16:], truth[:, 16:]) < 2e-3


def test_autoregression_is_the_least_squares_fit_in_both_directions() -> None:
    history, order, noise = 8, 4, 0.3
    x = torch.randn(history, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    found = autoregressive(temporal_gram(x[None]), torch.tensor([noise]).double(), 2)[0]
    assert not found[: history - order].any()
    for horizon in (1, 2):
        normal, cross = noise * torch.eye(order, dtype=x.dtype), torch.zeros(order, dtype=x.dtype)
        for series in (x, x.flip(0).conj()):
            for start in range(history - order - horizon + 1):
                known = series[start : start + order].T  # antennas x taps
                normal += known.mH @ known / 2
                cross += known.mH @ series[start + order - 1 + horizon] / 2
        torch.testing.assert_close(found[history - order :, horizon - 1], torch.linalg.solve(normal, cross))


def test_hold_returns_the_last_snapshot() -> None:
    x = exponentials(paths=3)
    for geometry in (ArrayGeometry(), ArrayGeometry("line")):
        found = predict_window(window(x, geometry=geometry), 2, "hold").channels
        torch.testing.assert_close(found, x[:, -1:].expand(-1, 2, -1))
    assert predict_window(window(x[:, :1]), 3, "ar").method == ["hold"] * 3


@pytest.mark.parametrize("method", CLASSICAL)
def test_prediction_without_geometry_is_equivariant(method: str) -> None:
    g = torch.Generator().manual_seed(3)
    x = exponentials(paths=5) + 0.1 * torch.randn(3, 20, 12, dtype=torch.complex64, generator=g)
    x = x[:, :16]
    usual = predict_window(window(x, 0.01), 4, method).channels
    unitary = torch.linalg.qr(torch.randn(12, 12, dtype=torch.complex128, generator=g)).Q
    mapped = (x.to(torch.complex128) @ unitary).to(torch.complex64)
    found = predict_window(window(mapped, 0.01), 4, method).channels
    assert relative(found - usual @ unitary.to(torch.complex64), usual) < 1e-5
    for scale in (1e-6, 1e6):
        found = predict_window(window(x * scale, 0.01 * scale**2), 4, method).channels / scale
        assert relative(found - usual, usual) < 1e-5
    turned = predict_window(window(x * 1j, 0.01), 4, method).channels
    assert relative(turned - usual * 1j, usual) < 1e-5
    shift = torch.polar(torch.ones(20), 0.7 * torch.arange(20.0))[:, None]
    shifted = predict_window(window(x * shift[:16], 0.01), 4, method).channels
    assert relative(shifted - usual * shift[16:], usual) < 1e-5


def test_window_sums_are_the_sums_over_all_windows() -> None:
    g = torch.Generator().manual_seed(4)
    x = torch.randn(2, 9, 3, dtype=torch.complex128, generator=g)
    normal, cross = window_sums(temporal_gram(x), 4, 3)
    for step in (1, 2, 3):
        windows = [(x[:, s : s + 4], x[:, s + 3 + step]) for s in range(9 - 4 - step + 1)]
        expected = sum(part.conj() @ part.mT for part, _ in windows)
        torch.testing.assert_close(normal[:, step - 1], expected)
        expected = sum((part.conj() @ target.unsqueeze(-1)).squeeze(-1) for part, target in windows)
        torch.testing.assert_close(cross[:, step - 1], expected)


def test_more_distant_horizons_iterate_the_longest_direct_one() -> None:
    rotation = torch.zeros(1, 3, 2, dtype=torch.complex128)
    rotation[0, 2] = torch.tensor([0.5j, -0.25])
    found = iterate_coefficients(rotation, 5)[0, 2]
    torch.testing.assert_close(found, torch.tensor([0.5j**1, -0.25, -0.125j, 0.0625, 0.03125j]).to(torch.complex128))


@pytest.mark.parametrize("history", [2, 3, 5, 16, 40])
@pytest.mark.parametrize("method", CLASSICAL)
def test_any_history_and_horizon_is_predicted(method: str, history: int) -> None:
    truth = exponentials(paths=1, slots=history + 8)
    found = predict_window(window(truth[:, :history]), 8, method).channels
    assert relative(found - truth[:, history:], truth[:, history:]) < 1e-3


def test_unknown_methods_and_a_missing_network_are_refused() -> None:
    with pytest.raises(NflaeError, match=r"no prediction method 'kriging': there are auto, hold"):
        predict_window(window(exponentials(2)), 1, "kriging")
    with pytest.raises(NflaeError, match="needs a network"):
        predict_window(window(exponentials(2)), 1, "nflae")


def test_esprit_finds_the_poles_of_few_exponentials() -> None:
    cycles = torch.tensor([-0.21, 0.02, 0.11], dtype=torch.float64)
    time = torch.arange(16, dtype=torch.float64)
    poles = torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)
    vectors = torch.randn(3, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(6))
    x = (poles.unsqueeze(0) ** time.unsqueeze(1)) @ vectors
    ((rows, found),) = poles_by_number(temporal_gram(x).unsqueeze(0), torch.zeros(1, dtype=torch.float64))
    assert rows.tolist() == [0]
    order = found[0].angle().argsort()
    assert found[0, order].angle().tolist() == pytest.approx((2 * math.pi * cycles).tolist(), abs=1e-6)


@pytest.mark.parametrize("method", CLASSICAL)
def test_noise_is_averaged_where_hold_keeps_it(method: str) -> None:
    truth = exponentials(paths=2, series=20, antennas=32)
    power = truth.abs().square().mean()
    noise = torch.randn(truth.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(8))
    noisy = (truth + noise * power.sqrt() / 10**0.5)[:, :16]
    found = predict_window(window(noisy, float(power) / 10), 1, method).channels
    error = relative(found - truth[:, 16:17], truth[:, 16:17])
    assert error < 0.6 * 10**-0.5


def test_kalman_is_the_recursive_filter_of_one_pole() -> None:
    g = torch.Generator().manual_seed(9)
    x = torch.polar(torch.ones(1, 12, 1), 0.4 * torch.arange(12.0)[None, :, None]).to(torch.complex128)
    x = x * torch.randn(1, 1, 30, dtype=torch.complex128, generator=g)
    x = x + 0.1 * torch.randn(x.shape, dtype=torch.complex128, generator=g)
    gram, noise = temporal_gram(x), torch.full((1,), 30 * 0.01, dtype=torch.float64)
    taps = kalman(gram, noise, 1)[0, :, 0]
    ((_, poles),) = poles_by_number(gram, noise)
    pole = poles[0, 0]
    level = gram.diagonal(dim1=1, dim2=2).real.mean()
    share = float(noise[0] / level)
    weights = pole.conj() ** torch.arange(12)
    weights = weights / (weights.abs().square().sum() + 0.01 * share + 1e-12)
    power = float(((weights.conj() @ (gram[0] / level)) * weights).sum().real)
    variance = power - share * float(weights.abs().square().sum())
    state, expected = torch.zeros(12, dtype=torch.complex128), None
    for time in range(12):
        if time:
            state = pole * state
            variance = float(pole.abs()) ** 2 * variance + power_renewal(power, share, pole)
        gain = variance / (variance + share)
        unit = torch.zeros(12, dtype=torch.complex128)
        unit[time] = 1
        state, variance = state + gain * (unit - state), (1 - gain) * variance
        expected = pole * state
    assert relative(taps - expected, taps) < 1e-4


def power_renewal(power: float, share: float, pole: Tensor) -> float:
    signal = max(power, 0.0) * max(0.0, 1 - float(pole.abs()) ** 2)
    return signal + 3e-3 * share


def test_learned_predictors_have_beams_denoised_by_the_distribution_of_their_powers() -> None:
    """Few strong beams: the others are removed; all beams alike: none is; without noise nothing changes."""
    g = torch.Generator().manual_seed(4)
    time = torch.polar(torch.ones(16), 0.2 * torch.arange(16.0))[:, None]
    noise = torch.randn(20, 16, 64, dtype=torch.complex64, generator=g)
    line, unit = ArrayGeometry("line"), torch.ones(20, dtype=torch.float64)
    sparse, dense = torch.zeros(64, dtype=torch.complex64), 1.5 * torch.randn(64, dtype=torch.complex64, generator=g)
    sparse[[5, 40]] = 3.0
    kept = linear._mixture_gains(time * sparse + noise, unit, line)
    assert kept[:, [5, 40]].min() > 0.8
    weak = kept[:, sparse == 0]
    assert weak.mean() < 0.12
    assert linear._mixture_gains(time * dense + noise, unit, line).mean() > 0.6
    clean = linear._mixture_gains(time * dense + 0 * noise, 0 * unit, line)
    torch.testing.assert_close(clean, torch.ones_like(clean), atol=1e-4, rtol=0)
