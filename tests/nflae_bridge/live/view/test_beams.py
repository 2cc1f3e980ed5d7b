"""Power of beams over directions and curvatures, against array responses of the simulator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nflae_bridge.live.view.beams import ANGLES, curvature_grid, locate, pooled, wave_power
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import wavefront_curvature
from simulator.geometry.steering import near_field_steering

ARRAY = UniformLinearArray(64, 28e9, 0.0, 0.0)
SINES = np.array([-0.75, -0.25, 0.0, 0.375, 0.8125])  # of the grid of directions
DISTANCES = np.array([1.5, 4.0, 9.0, 20.0, 300.0])


def responses(sines: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]) -> npt.NDArray[np.complex64]:
    angle = torch.from_numpy(np.arcsin(sines))
    return near_field_steering(ARRAY, angle, torch.from_numpy(distances), model="fresnel").numpy()


def curvatures(sines: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    angle = torch.from_numpy(np.arcsin(sines))
    return wavefront_curvature(ARRAY, angle, torch.from_numpy(distances)).numpy() ** 2


def test_power_is_that_of_the_array_response_at_the_place() -> None:
    parts = np.random.default_rng(0).normal(size=(2, 3, 64))
    beams = (parts[0] + 1j * parts[1]).astype(np.complex64)
    power = wave_power(beams, curvatures(SINES, DISTANCES))
    assert power.shape == (3, 5, ANGLES)
    places = responses(SINES, DISTANCES)
    for ring in range(5):
        index = round((SINES[ring] + 1) / 2 * ANGLES)
        expected = np.abs(beams @ places[ring].conj()) ** 2
        np.testing.assert_allclose(power[:, ring, index], expected, rtol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_users_are_located_under_either_sign_of_phase(sign: int) -> None:
    waves = responses(SINES, DISTANCES)
    located = locate(3e-4 * (waves if sign > 0 else waves.conj()), curvature_grid(64, 5))
    assert located.conjugated == (sign < 0)
    np.testing.assert_allclose(located.sine, SINES, atol=1 / 64)
    spacing = np.diff(curvature_grid(64, 5)).max()
    np.testing.assert_allclose(located.curvature, curvatures(SINES, DISTANCES), atol=spacing)
    assert located.is_single_wave.all()


def test_scattered_channels_have_no_place() -> None:
    parts = np.random.default_rng(1).normal(size=(2, 4, 64))
    assert not locate(parts[0] + 1j * parts[1], curvature_grid(64, 4)).is_single_wave.any()


def test_narrow_beams_remain_in_the_map() -> None:
    many = UniformLinearArray(1024, 28e9, 0.0, 0.0)
    angle = torch.asin(torch.tensor([0.1234], dtype=torch.float64))
    beam = near_field_steering(many, angle, torch.full_like(angle, 1e9)).numpy()
    power = pooled(wave_power(beam, np.zeros(1)))[0, 0]
    assert len(power) == ANGLES
    assert power.max() > 0.8
    assert abs((2 * power.argmax() + 1) / ANGLES - 1 - 0.1234) < 1 / ANGLES
