"""A single wave is told from scattering at every SNR from 0 dB on, for every size and convention of the array."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from simulator.channels.scenario import scenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.clear_waves import LEAST_CLEAR_ANTENNAS
from simulator.geometry.single_wave import LEAST_ANTENNAS, is_single_wave, strongest_waves


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


def chirps(curvature: Tensor, antennas: int, slope: float = 0.137) -> Tensor:
    """Waves of curvatures in cycles over t^2, |t| <= 1/2, and a slope in cycles per antenna, (waves, antennas)."""
    t = (torch.arange(antennas, dtype=torch.float64) + 0.5) / antennas - 0.5
    cycles = curvature.double()[:, None] * t.square() + slope * antennas * t
    return torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles).to(torch.complex64)


@pytest.mark.parametrize("antennas", [LEAST_CLEAR_ANTENNAS, 201, 256, 640])
def test_curvatures_are_those_of_the_waves_at_any_sign_slope_scale_and_with_noise(antennas: int) -> None:
    generator = torch.Generator().manual_seed(antennas)
    curvature = torch.linspace(-25, 25, 401)
    waves = chirps(curvature, antennas)
    for channels in (waves, 1e-25j * waves, chirps(curvature, antennas, -0.31), noisy_csi(waves, 19, generator)):
        found = strongest_waves(channels)
        assert found.clear is not None
        clear = found.clear.share > 0.97
        assert np.array_equal(clear, ~np.isnan(found.clear.curvature))
        assert clear.mean() > 0.7
        assert np.abs(found.clear.curvature - curvature.abs().numpy())[clear].max() < 0.08
        assert found.single.all()


def test_no_curvature_where_it_is_not_clear() -> None:
    generator = torch.Generator().manual_seed(2)
    waves = chirps(torch.linspace(0, 5, 50), 256)
    two = waves + 0.5 * chirps(torch.linspace(0, 5, 50), 256, 0.4)
    # The halves of the array repeat each other, but one angle does not explain them; then the reverse.
    repeated = (chirps(torch.zeros(50), 256, 0.25) + chirps(torch.zeros(50), 256, 0.5)).mul_(0.7)
    switched = waves.clone()
    switched[:, 128:] = torch.randn(50, 128, dtype=torch.complex64, generator=generator)
    place = (torch.arange(256) + 0.5) / 256
    halves = [torch.cat([waves[:, :128] * first, waves[:, 128:] * last], 1) for first, last in ((0, 1), (1, 0))]
    shifted = chirps(torch.linspace(0, 5, 50), 256, 0.137 + 1 / 256)
    close = waves + 0.3 * torch.polar(torch.ones(50), torch.linspace(0, 6, 50))[:, None] * shifted
    quiet = (two, repeated, switched, noisy_csi(waves, 3, generator), *halves, waves * place, close)
    for channels in quiet:
        clear = strongest_waves(channels).clear
        assert clear is not None
        assert np.isnan(clear.curvature).all()
    assert strongest_waves(waves[:, : LEAST_CLEAR_ANTENNAS - 1]).clear is None
    assert strongest_waves(waves[:, : LEAST_ANTENNAS - 1]).clear is None


def test_chirps_of_long_arrays_are_computed_as_those_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = scenario("uav", 10, 256).draw(20, torch.Generator().manual_seed(4)).channels
    expected = is_single_wave(channels)
    monkeypatch.setattr("simulator.geometry.single_wave._TABULATED", 255)
    assert torch.equal(is_single_wave(channels), expected)


def test_gains_beyond_single_precision_pass_without_a_warning() -> None:
    waves = chirps(torch.linspace(0, 5, 5), 256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = strongest_waves(1e25 * waves)
    assert torch.equal(found.single, strongest_waves(waves).single)
