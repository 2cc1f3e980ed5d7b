"""A single wave is told from scattering at every SNR from 0 dB on, for every size and convention of the array."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from simulator.channels.scenario import scenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.single_wave import LEAST_ANTENNAS, is_single_wave


def share_found(channels: Tensor) -> float:
    return float(is_single_wave(channels).float().mean())


def line_of_sight(antennas: int, generator: torch.Generator) -> Tensor:
    """Users no nearer than three apertures, (users, antennas)."""
    drops = scenario("paper", 10, antennas).draw(120, generator)
    far_enough = drops.distance > 3 * antennas * 0.005
    return drops.channels[far_enough]


@pytest.mark.parametrize("antennas", [64, 100, 128, 256, 512, 640])
@pytest.mark.parametrize("snr_db", [0.0, 5.0, math.inf])
def test_a_line_of_sight_is_a_single_wave(antennas: int, snr_db: float) -> None:
    generator = torch.Generator().manual_seed(antennas)
    channels = line_of_sight(antennas, generator)
    noisy = channels if math.isinf(snr_db) else noisy_csi(channels, snr_db, generator)
    assert share_found(noisy) >= (0.99 if snr_db == 0 and antennas < 128 else 0.998)
    found = is_single_wave(noisy.conj())
    for scale in (1e-25j, 1e-12j, 1e-9j, 1e-6j, 1e6j, 1e9j, 1e17j):
        assert torch.equal(is_single_wave(noisy.conj() * scale), found)
    assert share_found(noisy.conj()) >= 0.99


@pytest.mark.parametrize("antennas", [64, 128, 256, 512])
def test_noise_is_none(antennas: int) -> None:
    generator = torch.Generator().manual_seed(antennas)
    assert share_found(torch.randn(2000, antennas, dtype=torch.complex64, generator=generator)) <= 0.001


@pytest.mark.parametrize(
    ("rician_factor_db", "paths", "least", "most"),
    [(10, 3, 0.995, 1.0), (0, 3, 0.15, 0.5), (-10, 8, 0.0, 0.1), (-20, 20, 0.0, 0.05)],
)
@pytest.mark.parametrize("antennas", [64, 256])
def test_scattering_is_none(antennas: int, rician_factor_db: float, paths: int, least: float, most: float) -> None:
    generator = torch.Generator().manual_seed(7)
    scene = replace(scenario("uav", 10, antennas), rician_factor_db=rician_factor_db, scattered_paths=paths)
    assert least <= share_found(scene.draw(100, generator).channels) <= most


@pytest.mark.parametrize(("weaker", "expected"), [(0.5, 1.0), (1.0, 0.0)])
def test_two_paths_count_by_their_energies(weaker: float, expected: float) -> None:
    """Shares of 1 / (1 + 0.25) and 1 / 2, on either side of 0.6; noise of half the energy changes neither."""
    generator = torch.Generator().manual_seed(1)
    angles = torch.rand(2, 500, 1, generator=generator)
    n = torch.arange(256)
    strong, weak = (
        torch.polar(torch.ones(500, 256), math.pi * n * (angle - side))
        for angle, side in zip(angles, (0, 1), strict=True)
    )
    channels = strong + weaker * weak
    assert share_found(channels) == pytest.approx(expected, abs=0.03)
    assert share_found(noisy_csi(channels, 3.0, generator)) == pytest.approx(expected, abs=0.06)


def test_shapes_and_small_arrays() -> None:
    generator = torch.Generator().manual_seed(3)
    channels = torch.randn(3, 4, 2, LEAST_ANTENNAS - 1, dtype=torch.complex64, generator=generator)
    found = is_single_wave(channels)
    assert found.shape == (3, 4, 2)
    assert found.all()
    assert is_single_wave(torch.empty(0, 5, 64, dtype=torch.complex64)).shape == (0, 5)
    with_zero = torch.zeros(2, 64, dtype=torch.complex64)
    with_zero[1] = 1
    assert is_single_wave(with_zero).tolist() == [False, True]
    mixed = torch.randn(1000, 64, dtype=torch.complex64, generator=generator)  # more than one part
    mixed[::7] = 2
    assert torch.equal(torch.nonzero(is_single_wave(mixed)).squeeze(-1), torch.arange(0, 1000, 7))
