"""Doppler shifts and delays of known paths."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simulator.csi.prediction.paths import Paths, find_paths

DOPPLER = torch.tensor([0.13, -0.21, 0.02], dtype=torch.float64)
DELAY = torch.tensor([0.05, 0.32, 0.11], dtype=torch.float64)
POWER = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)


def channel(carriers: int, variance: float = 0.0, antennas: int = 16) -> Tensor:
    """Return three paths over 16 snapshots, (1, 16, carriers, antennas)."""
    g = torch.Generator().manual_seed(3)
    vectors = torch.randn(3, antennas, dtype=torch.complex128, generator=g)
    vectors = vectors / vectors.abs().square().mean(-1, keepdim=True).sqrt() * POWER.sqrt()[:, None]
    phase = (
        2
        * math.pi
        * (torch.arange(16).double()[:, None, None] * DOPPLER - torch.arange(carriers).double()[:, None] * DELAY)
    )
    clean = torch.polar(torch.ones_like(phase), phase) @ vectors
    noise = torch.randn(clean.shape, dtype=torch.complex128, generator=g)
    return (clean + variance**0.5 * noise).unsqueeze(0).to(torch.complex64)


def check(found: Paths, tolerance: float, delays: bool) -> None:
    assert found.power[0, :3].tolist() == pytest.approx(POWER.tolist(), rel=0.1)
    assert found.doppler[0, :3].tolist() == pytest.approx(DOPPLER.tolist(), abs=tolerance)
    assert bool(found.doppler[0, 3:].isnan().all())
    if delays:
        assert found.delay[0, :3].tolist() == pytest.approx(DELAY.tolist(), abs=tolerance)
    else:
        assert bool(found.delay.isnan().all())


@pytest.mark.parametrize("carriers", [1, 2, 8])
def test_paths_without_noise_are_found_exactly(carriers: int) -> None:
    check(find_paths(channel(carriers), torch.zeros(1)), 1e-5, carriers > 1)


@pytest.mark.parametrize("carriers", [1, 8])
def test_paths_in_noise_are_found_and_no_others(carriers: int) -> None:
    check(find_paths(channel(carriers, 0.01), torch.full((1,), 0.01)), 3e-3, carriers > 1)


def test_paths_with_one_doppler_shift_are_told_apart_by_their_delays() -> None:
    time = torch.arange(16).double()[:, None, None, None] * 0.1
    delays = torch.tensor([0.1, 0.4]).double()
    phase = 2 * math.pi * (time - torch.arange(8).double()[:, None, None] * delays[:, None])
    g = torch.Generator().manual_seed(5)
    vectors = torch.randn(2, 12, dtype=torch.complex128, generator=g)
    x = (torch.polar(torch.ones_like(phase), phase) * vectors).sum(2).unsqueeze(0)
    found = find_paths(x, torch.zeros(1))
    assert found.doppler[0, :2].tolist() == pytest.approx([0.1, 0.1], abs=1e-6)
    assert sorted(found.delay[0, :2].tolist()) == pytest.approx([0.1, 0.4], abs=1e-6)


def test_the_strongest_paths_are_kept() -> None:
    found = find_paths(channel(8, 0.01), torch.full((1,), 0.01), most=2)
    assert found.power.shape == (1, 2)
