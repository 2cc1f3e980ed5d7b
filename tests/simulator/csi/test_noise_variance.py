"""The noise variance of a history, against the noise that was added."""

from __future__ import annotations

import pytest
import torch

from simulator.csi.beams import ArrayGeometry
from simulator.csi.noise_variance import chance_of_strongest_wave, noise_variance_of_history, pool_over_drops


@pytest.mark.parametrize(("antennas", "paths"), [(64, 0), (64, 4), (256, 8), (8, 2)])
def test_noise_variance_is_found_beside_a_signal_of_low_rank(antennas: int, paths: int) -> None:
    g = torch.Generator().manual_seed(1)
    phase = torch.rand(50, 1, paths, generator=g) * torch.arange(16.0)[:, None]
    waves = torch.polar(torch.ones_like(phase), phase) @ torch.randn(
        50, paths, antennas, dtype=torch.complex64, generator=g
    )
    noise = torch.randn(50, 16, antennas, dtype=torch.complex64, generator=g)
    found = noise_variance_of_history(waves + 0.3 * noise) / 0.09
    assert found.mean() == pytest.approx(1, abs=0.05 if antennas > 8 else 0.15)
    assert found.std() < (0.08 if antennas > 8 else 0.25)


def test_no_noise_and_a_single_snapshot_give_none() -> None:
    x = torch.ones(2, 16, 32, dtype=torch.complex64)
    assert noise_variance_of_history(x).max() < 1e-9
    assert noise_variance_of_history(x[:, :1]).tolist() == [0, 0]


def test_drops_are_pooled_per_receiver_but_for_much_lower_estimates() -> None:
    drops = torch.tensor([[1.0, 8.0], [2.0, 8.0], [2.0, 8.0], [2.0, 8.0], [50.0, 1.0]])
    assert pool_over_drops(drops).tolist() == [[2.0, 8.0]] * 4 + [[2.0, 1.0]]


@pytest.mark.parametrize(("geometry", "snapshots"), [("line", 1), ("line", 4), ("panel", 2)])
def test_noise_alone_seldom_shows_a_wave(geometry: str, snapshots: int) -> None:
    array = ArrayGeometry("panel", 4, 8) if geometry == "panel" else ArrayGeometry("line")
    g = torch.Generator().manual_seed(3)
    noise = torch.randn(2_000, snapshots, 32, dtype=torch.complex64, generator=g)
    alarms = float((chance_of_strongest_wave(noise, array) < 0.05).double().mean())
    assert 0.002 < alarms < 0.06  # a bound: neighbouring directions count as independent
    wave = torch.exp(2j * torch.pi * 0.2 * torch.arange(32)).to(torch.complex64)
    if geometry == "line":
        assert float((chance_of_strongest_wave(noise + wave, array) < 0.05).double().mean()) > 0.9
