"""The noise variance of a history, against the noise that was added."""

from __future__ import annotations

import math

import pytest
import torch

from simulator.csi.beams import ArrayGeometry, canonical_phases
from simulator.csi.noise_floor import WhiteNoise, noise_floor, white_noise
from simulator.csi.noise_variance import (
    chance_of_strongest_wave,
    noise_variance_of_beams,
    noise_variance_of_history,
    pool_over_drops,
    pooled_noise,
)


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
    noise = WhiteNoise(torch.ones(400), 1.0, 1.5)
    drops = torch.tensor([[2.0, 8.0]] * 20 + [[50.0, 1.0]])
    pooled = pool_over_drops(drops, torch.ones(21, 2, dtype=torch.bool), noise)
    assert pooled.tolist() == [[2.0, 8.0]] * 20 + [[2.0, 1.0]]


def test_pooled_noise_is_lower_where_few_spectra_are_flat() -> None:
    """No flat spectrum: signal at the floor takes two fifths; from four of five flat ones on, nothing."""
    noise, drops = WhiteNoise(torch.ones(400), 1.0, 1.5), torch.full((10, 1), 5.0)
    flat = torch.arange(10).unsqueeze(1) < torch.tensor([0, 4, 8, 10])
    common = pool_over_drops(drops.expand(10, 4), flat, noise)[0]
    assert common.tolist() == pytest.approx([3.0, 4.0, 5.0, 5.0])


@pytest.mark.parametrize(
    ("sizes", "snapshots"), [((64,), 1), ((256,), 1), ((64,), 6), ((16, 4), 1), ((8, 8), 2)], ids=str
)
def test_the_floor_of_white_noise_is_its_variance(sizes: tuple[int, ...], snapshots: int) -> None:
    """Draws of another seed than the reference: median 1, nearly all flat; pooled, on the lower side."""
    geometry = ArrayGeometry("line") if len(sizes) == 1 else ArrayGeometry("panel", sizes[1], sizes[0])
    antennas = math.prod(sizes)
    g = torch.Generator().manual_seed(4)
    noise = torch.randn(600, snapshots, antennas, dtype=torch.complex64, generator=g)
    floor, flat = noise_floor(3 * noise, geometry)
    assert float(floor.median()) == pytest.approx(9, rel=0.06)
    assert 0.9 < float(flat.float().mean()) < 0.98
    reference = white_noise(geometry.grid(antennas), snapshots)
    common = pool_over_drops(floor.reshape(20, 30), flat.reshape(20, 30), reference) / 9
    assert 0.6 < float(common.mean()) < 1.05


@pytest.mark.parametrize("geometry", [ArrayGeometry("line"), ArrayGeometry("panel", 4, 16)], ids=str)
def test_the_floor_does_not_see_strong_waves(geometry: ArrayGeometry) -> None:
    """Waves of 30 dB off the grid; the weakest beams of a plain DFT are far above the noise there."""
    g = torch.Generator().manual_seed(5)
    turns = torch.rand(200, 1, 1, generator=g)
    rows, columns = (torch.arange(64) % 4, torch.arange(64) // 4) if geometry.kind == "panel" else (0, torch.arange(64))
    phase = 2 * torch.pi * (turns * columns + 0.3 * torch.as_tensor(rows))
    noise = torch.randn(200, 1, 64, dtype=torch.complex64, generator=g)
    received = 30 * torch.polar(torch.ones_like(phase), phase) + noise
    assert float(noise_variance_of_beams(received, geometry).median()) == pytest.approx(1, abs=0.35)
    if geometry.kind == "line":
        flat = noise_floor(received * canonical_phases(received, geometry).unsqueeze(1), geometry)[1]
        assert float(flat.float().mean()) > 0.85


def test_weak_waves_of_many_series_are_known_as_such_and_noise_is_not() -> None:
    """At -10 dB one series in six shows its wave; in noise at most one in fifty does, and no other is drawn in."""
    g = torch.Generator().manual_seed(7)
    noise = torch.randn(20, 1, 30, 64, dtype=torch.complex64, generator=g)
    alone = pooled_noise([noise], ArrayGeometry("line")).unknown
    assert float(alone.double().mean()) > 0.98
    phase = 2 * torch.pi * torch.rand(20, 1, 30, 1, generator=g) * torch.arange(64)
    waves = torch.polar(torch.full_like(phase, 0.1**0.5), phase)
    assert not bool(pooled_noise([waves + noise], ArrayGeometry("line")).unknown.any())


def test_few_drops_have_a_confidence_by_the_noise_of_users_with_a_wave() -> None:
    """A user without a wave and of four times the variance of the others; with more drops there is no doubt."""
    g = torch.Generator().manual_seed(8)
    noise = torch.randn(3, 1, 9, 64, dtype=torch.complex64, generator=g)
    noise[:, :, 8] *= 2
    phase = 2 * torch.pi * torch.rand(3, 1, 9, 1, generator=g) * torch.arange(64)
    received = noise + torch.tensor([1.0] * 8 + [0.0])[:, None] * torch.polar(torch.ones_like(phase), phase)
    for drops in (1, 2):
        found = pooled_noise([received[:drops]], ArrayGeometry("line"))
        assert found.confidence is not None
        assert found.confidence.shape == (drops, 9)
        assert found.confidence[:, :8].tolist() == [[1.0] * 8] * drops
        expected = float(found.variance[0, :8].median() / found.variance[0, 8])
        assert float(found.confidence[0, 8]) == pytest.approx(max(expected, 0.4), rel=0.25)
        assert float(found.confidence[-1, 8]) < 0.6
    assert pooled_noise([received], ArrayGeometry("line")).confidence is None


def test_signal_in_most_beams_is_not_flat() -> None:
    """Powers that fall by 20 dB over the beams leave no floor."""
    g = torch.Generator().manual_seed(6)
    beams = torch.randn(200, 1, 64, dtype=torch.complex64, generator=g) * 10 ** (-torch.arange(64) / 64)
    received = torch.fft.ifft(beams, norm="ortho")
    assert float(noise_floor(received, ArrayGeometry("line"))[1].float().mean()) < 0.2
    assert bool(pooled_noise([received.reshape(1, 1, 200, 64)], ArrayGeometry("line")).unknown.float().mean() > 0.8)


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
