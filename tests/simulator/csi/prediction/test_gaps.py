"""Users some of whose snapshots are missing: waves of constant Doppler shifts, whose future is known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simulator.csi.prediction.users import PredictionMethod, paths_of_users, predict_users

HISTORY, AHEAD, ANTENNAS = 24, 4, 16


def sequence() -> Tensor:
    """Two plane waves per user, (snapshots, users, antennas), `AHEAD` beyond the history."""
    time = torch.arange(HISTORY + AHEAD, dtype=torch.float64)[:, None, None]
    user = torch.arange(3, dtype=torch.float64)[None, :, None]
    antenna = torch.arange(ANTENNAS, dtype=torch.float64)
    waves = [
        amplitude * torch.exp(2j * math.pi * (slope * (1 + user) * antenna + doppler * (1 + user) * time))
        for amplitude, slope, doppler in ((1.0, 0.05, 0.03), (0.5, -0.08, -0.07))
    ]
    return torch.stack(waves).sum(0).to(torch.complex64)


def gaps(*places: tuple[int, int]) -> Tensor:
    missing = torch.zeros(HISTORY, 3, dtype=torch.bool)
    for snapshot, user in places:
        missing[snapshot, user] = True
    return missing


def errors_db(channels: Tensor, truth: Tensor) -> Tensor:
    """Return the error of each snapshot and user over its power, dB."""
    return 10 * torch.log10((channels - truth).abs().square().sum(-1) / truth.abs().square().sum(-1))


@pytest.mark.parametrize("name", ["ar", "esprit", "auto"])
def test_missing_last_snapshots_are_predicted_and_missing_first_ones_left_out(name: str) -> None:
    channels = sequence()
    missing = gaps((23, 0), (22, 1), (23, 1), (0, 2), (1, 2))
    history = torch.where(missing.unsqueeze(-1), 0, channels[:HISTORY])
    found = predict_users(history[None], missing[None], PredictionMethod(AHEAD, name))
    assert errors_db(found.channels[0], channels[HISTORY:]).max() < -60
    assert found.csi_error_db.shape == (1, AHEAD, 3)
    assert bool((found.csi_error_db < -60).all())


@pytest.mark.parametrize(
    "places", [[(22, 0), (4, 1), (5, 1), (12, 2)], [(8, 0), (20, 0), (11, 1), (13, 1), (14, 1), (23, 2), (9, 2)]]
)
def test_gaps_in_between_are_predicted_from_the_longer_side(places: list[tuple[int, int]]) -> None:
    channels, missing = sequence(), gaps(*places)
    history = torch.where(missing.unsqueeze(-1), 0, channels[:HISTORY])
    found = predict_users(history[None], missing[None], PredictionMethod(AHEAD, "ar"))
    assert errors_db(found.channels[0], channels[HISTORY:]).max() < -60


def test_users_of_several_windows_keep_their_places() -> None:
    channels = sequence()
    windows = torch.stack([channels[:20], channels[4:24]])
    missing = torch.zeros(2, 20, 3, dtype=torch.bool)
    missing[0, 19, 1] = missing[1, 18:, 0] = missing[1, :, 2] = True
    found = predict_users(torch.where(missing.unsqueeze(-1), 0, windows), missing, PredictionMethod(2, "ar"))
    truth = torch.stack([channels[20:22], channels[24:26]])
    known = torch.tensor([[True, True, True], [True, True, False]])
    assert errors_db(found.channels, truth).transpose(1, 2)[known].max() < -60
    assert found.channels[1, :, 2].isnan().all()
    assert found.csi_error_db[1, :, 2].isnan().all()
    assert list(found.method) == ["ar"] * 6


def test_the_error_of_a_held_snapshot_counts_from_the_last_known_one() -> None:
    missing = gaps((22, 0), (23, 0))
    history = torch.where(missing.unsqueeze(-1), 0, sequence()[:HISTORY])
    found = predict_users(history[None], missing[None], PredictionMethod(AHEAD, "hold"))
    later = predict_users(history[None, :22], missing[None, :22], PredictionMethod(AHEAD + 2, "hold"))
    torch.testing.assert_close(found.csi_error_db[..., 0], later.csi_error_db[:, 2:, 0])


@pytest.mark.parametrize("places", [[(23, 0), (0, 1), (12, 2)], [(22, 0), (23, 0), (0, 1), (1, 1), (7, 1), (13, 2)]])
def test_gaps_add_no_paths(places: list[tuple[int, int]]) -> None:
    channels, missing = sequence()[:HISTORY], gaps(*places)
    noisy = channels + 0.01 * torch.randn(
        channels.shape, generator=torch.Generator().manual_seed(1), dtype=channels.dtype
    )
    history = torch.where(missing.unsqueeze(-1), 0, noisy)[None, :, None]
    found = paths_of_users(history, missing[None, :, None], None)
    user = torch.arange(1, 4, dtype=torch.float64)
    # Of h^H: Doppler shifts of the opposite sign.
    torch.testing.assert_close(found.doppler[0, :, 0], -0.03 * user, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.doppler[0, :, 1], 0.07 * user, atol=1e-3, rtol=0)
    assert found.power[0, :, 2:].nan_to_num().max() < 0.01
