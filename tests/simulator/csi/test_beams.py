"""Beams are a unitary map; the canonical step makes a single wave one beam."""

from __future__ import annotations

import math

import pytest
import torch

from matlab_io.errors import NflaeError
from simulator.csi.beams import (
    ArrayGeometry,
    beam_gains,
    canonical_phases,
    gains_of_power,
    parse_geometry,
    to_antennas,
    to_beams,
)
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import near_field_steering

LINE, PANEL = ArrayGeometry("line"), ArrayGeometry("panel", 4, 6)


@pytest.mark.parametrize("text", ["none", "line", "panel:4x16"])
def test_geometry_is_parsed_and_printed_alike(text: str) -> None:
    assert str(parse_geometry(text)) == text


@pytest.mark.parametrize("text", ["panel", "panel:4", "panel:0x4", "panel:4x-1", "ring", ""])
def test_other_geometries_are_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(NflaeError, match="none, line and panel:ROWSxCOLUMNS"):
        parse_geometry(text)


def test_panel_of_another_size_is_refused() -> None:
    with pytest.raises(NflaeError, match="panel:4x6 has 24 antennas, the channels have 25"):
        PANEL.check(25)


def test_beams_of_a_panel_are_the_kronecker_product_of_two_unitary_dfts() -> None:
    x = torch.randn(24, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))

    def dft(size: int) -> torch.Tensor:
        n = torch.arange(size, dtype=torch.float64)
        angle = -2 * math.pi * n[:, None] * n / size
        return torch.polar(torch.full_like(angle, size**-0.5), angle)

    torch.testing.assert_close(to_beams(x, PANEL), torch.kron(dft(6), dft(4)) @ x)
    torch.testing.assert_close(to_antennas(to_beams(x, PANEL), PANEL), x)


def test_canonical_step_concentrates_a_near_field_wave_in_few_beams() -> None:
    angle, distance = torch.tensor([0.31, -0.6]).double(), torch.tensor([8.0, 15.0]).double()
    array = UniformLinearArray(antennas=256)
    wave = near_field_steering(array, angle, distance).unsqueeze(1).expand(-1, 4, -1).to(torch.complex64)
    spread = to_beams(wave, LINE).abs().square().mean(1)
    centred = to_beams(wave * canonical_phases(wave, LINE).unsqueeze(1), LINE).abs().square().mean(1)
    assert spread.amax(1).max() < 0.2
    assert centred.topk(3, 1).values.sum(1).min() > 0.9


def test_canonical_step_moves_a_plane_wave_between_beams_onto_one() -> None:
    rows, columns = torch.arange(4.0), torch.arange(6.0)
    phase = 2 * math.pi * (1.375 * rows / 4 + 2.25 * columns[:, None] / 6)
    wave = torch.polar(torch.ones_like(phase), phase).flatten().expand(1, 3, -1)
    factors = canonical_phases(wave, PANEL)
    torch.testing.assert_close(factors.abs(), torch.ones(1, 24))
    beams = to_beams(wave * factors.unsqueeze(1), PANEL).abs().square()
    torch.testing.assert_close(beams.amax(-1), torch.full((1, 3), 24.0))


def test_gain_removes_beams_of_noise_and_keeps_strong_ones() -> None:
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(1, 16, 4096, dtype=torch.complex64, generator=g)
    gains = beam_gains(noise, torch.ones(1), ArrayGeometry("line"))
    assert gains.mean() < 0.15
    strong = torch.full((1, 16, 1), 10.0 + 0j)
    torch.testing.assert_close(beam_gains(strong, torch.ones(1), ArrayGeometry()), torch.tensor([[0.99]]))


def test_gain_expects_leakage_into_the_beams_beside_a_strong_one() -> None:
    signal = torch.zeros(1, 24)
    signal[0, 5] = 9.0
    line = gains_of_power(signal, torch.ones(1), LINE)[0]
    torch.testing.assert_close(line[4:7], torch.tensor([0.9 / 1.9, 0.9, 0.9 / 1.9]))
    panel = gains_of_power(signal, torch.ones(1), PANEL)[0]
    assert panel.nonzero().squeeze(1).tolist() == [1, 4, 5, 6, 9]  # the panel has 4 rows
