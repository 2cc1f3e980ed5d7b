"""The NumPy form of predictors for small batches against the PyTorch form, for every method, geometry and history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nflae_bridge.tasks.predict import load_predictor
from simulator.csi.beams import ArrayGeometry
from simulator.csi.prediction import registry
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.window import Prediction, Window

GEOMETRIES = [ArrayGeometry(), ArrayGeometry("line"), ArrayGeometry("panel", 3, 8)]


def window(history: int, geometry: ArrayGeometry, variance: float = 0.1, series: int = 4) -> Window:
    g = torch.Generator().manual_seed(history)
    cycles, sines = (torch.rand(series, 5, 1, generator=g) for _ in range(2))
    time = torch.polar(torch.ones(series, 5, history), 2 * cycles * torch.arange(history))
    array = torch.polar(torch.ones(series, 5, 24), 6 * sines * torch.arange(24))
    channels = (time * torch.randn(series, 5, 1, dtype=torch.complex64, generator=g)).mT @ array
    noise = torch.randn(channels.shape, dtype=torch.complex64, generator=g)
    return Window(channels + variance**0.5 * noise, torch.full((series,), variance), geometry)


def both(w: Window, ahead: int, method: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Prediction, Prediction]:
    calls, arrays = [], registry._predict_arrays

    def counted(*given: Any) -> Prediction:
        calls.append(given)
        return arrays(*given)

    monkeypatch.setattr(registry, "_predict_arrays", counted)
    found = predict_window(w, ahead, method, load_predictor())
    assert len(calls) == 1
    monkeypatch.setattr(registry, "SMALL_BATCH", 0)
    expected = predict_window(w, ahead, method, load_predictor())
    assert len(calls) == 1
    return found, expected


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("history", "ahead"), [(16, 4), (4, 2), (24, 11)])
@pytest.mark.parametrize("method", [name for name in registry.METHODS if name != "hold"])
def test_both_forms_predict_the_same(
    method: str, history: int, ahead: int, geometry: ArrayGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, expected = both(window(history, geometry), ahead, method, monkeypatch)
    scale = float(expected.channels.abs().max())
    torch.testing.assert_close(found.channels, expected.channels, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(found.csi_error_db, expected.csi_error_db, rtol=0, atol=1e-2, check_dtype=False)
    assert list(found.method) == list(expected.method)


def test_windows_without_noise_or_signal_are_predicted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = window(16, ArrayGeometry("line"), 0.0)
    exact.snapshots[1] = 0  # is a gap to the caller
    found, expected = both(exact, 4, "auto", monkeypatch)
    torch.testing.assert_close(found.channels, expected.channels, rtol=0, atol=1e-4, equal_nan=True)
    np.testing.assert_array_equal(found.csi_error_db.isnan(), expected.csi_error_db.isnan())


def test_networks_that_are_trained_and_unknown_predictors_keep_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_predict_arrays", None)
    network = load_predictor()

    def unknown(gram: torch.Tensor, noise: torch.Tensor, ahead: int) -> torch.Tensor:
        return network(gram, noise, ahead)

    assert predict_window(window(16, ArrayGeometry()), 2, "nflae", unknown).method == ["nflae"] * 4
