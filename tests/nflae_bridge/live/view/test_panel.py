"""Directions, distances and beams of a panel, against array responses of the simulator."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nflae_bridge import precode
from nflae_bridge.live.view.panel import DIRECTIONS, direction_offset, locate_on_panel, panel_of, panel_power
from nflae_bridge.live.view.picture import picture_of
from nflae_bridge.live.view.sampler import Sample
from simulator.geometry.panels import UniformPlanarArray, spherical_wave
from tests.channel_files import random_channels

SIZE = 8, 24  # rows and columns differ, so that neither axis can stand for the other
PANEL = UniformPlanarArray(*SIZE, carrier=28e9)
PLACES = np.array([[-0.6, 0.3], [0.25, -0.5], [0.0, 0.1], [0.5, 0.25]])  # (u, v)
DISTANCES = np.array([0.5, 0.4, 0.8, 400.0])  # m; the last one is in the far field


def waves(sign: int = 1) -> npt.NDArray[np.complex64]:
    found = spherical_wave(PANEL, torch.from_numpy(PLACES), torch.from_numpy(DISTANCES)).numpy()
    return found if sign > 0 else found.conj()


def place_of(index: int, antennas: int) -> float:
    return -1 + (index + direction_offset(antennas)) * 2 / DIRECTIONS


@pytest.mark.parametrize("sign", [1, -1])
def test_users_are_located_under_either_sign_of_phase(sign: int) -> None:
    located = locate_on_panel(3e-4 * waves(sign), panel_of(SIZE, PANEL.wavelength))
    assert located.conjugated == (sign < 0)
    np.testing.assert_allclose(located.direction, PLACES, atol=2e-3)
    np.testing.assert_allclose(located.distance[:3], DISTANCES[:3], rtol=0.02)
    assert np.isnan(located.distance[3])  # only its direction is known
    np.testing.assert_allclose(located.share, 1, atol=1e-2)
    assert "distance" not in located.describe()[3]


def test_scattered_channels_have_no_place() -> None:
    assert locate_on_panel(random_channels(1, 5, PANEL.antennas)[0], PANEL).describe() == [{}] * 5


@pytest.mark.parametrize("size", [SIZE, (2, 160)])
def test_power_is_that_of_the_array_response_in_the_direction(size: tuple[int, int]) -> None:
    """The far field; of the wide panel, of several directions the largest."""
    array = UniformPlanarArray(*size, carrier=28e9)
    beams = random_channels(1, 4, array.antennas).reshape(2, 2, -1)
    power = panel_power(beams, None, array)
    assert power.shape == (2, DIRECTIONS, DIRECTIONS)
    step = 1 if size == SIZE else 4
    for row, column in [(30, 80), (64, 64), (100, 40)]:
        v = place_of(row, size[0])
        u = np.array([-1 + (step * column + part) * 2 / DIRECTIONS / step for part in range(step)])
        assert place_of(column, size[1]) == pytest.approx(u.mean())
        direction = torch.from_numpy(np.stack([u, np.full_like(u, v)], -1))
        response = spherical_wave(array, direction, torch.full((step,), 1e9)).numpy()
        expected = (np.abs(beams @ response.conj().T) ** 2).sum(1).max(-1)
        np.testing.assert_allclose(power[:, row, column], expected, rtol=2e-3)


def drop_of(channels: npt.NDArray[Any], panel: tuple[int, int], scheme: str = "mrt", user: int | None = None) -> Any:
    found = precode(channels[None], scheme=scheme, noise_power=0.02)
    sample = Sample(channels[None], {"precoder": found.precoder, "power": found.power, "rate": found.rate}, 0.02)
    return json.loads(json.dumps(picture_of(sample, PANEL.wavelength, panel).event(user), allow_nan=False))


@pytest.mark.parametrize("sign", [1, -1])
def test_each_beam_is_brightest_at_its_user(sign: int) -> None:
    channels = waves(sign)
    for index, ((u, v), distance) in enumerate(zip(PLACES, DISTANCES, strict=True)):
        drop = drop_of(channels, SIZE, user=index)
        levels = np.frombuffer(base64.b64decode(drop["map"]["levels"]), np.uint8).reshape(DIRECTIONS, DIRECTIONS)
        row, column = np.unravel_index(levels.argmax(), levels.shape)
        assert (place_of(int(column), SIZE[1]), place_of(int(row), SIZE[0])) == pytest.approx((u, v), abs=0.02)
        assert drop["map"]["user"] == index
        user = drop["users"][index]
        assert (user["u"], user["v"]) == pytest.approx((u, v), abs=2e-3)
        assert user.get("distance") == (pytest.approx(distance, rel=0.02) if index < 3 else None)


def test_a_beam_in_the_near_field_is_focused_on_its_user() -> None:
    """Its peak has all of its power, that of the far field does not."""
    beams = waves()[:, None]
    located = locate_on_panel(waves(), PANEL)
    focused, flat = panel_power(beams, located.wavefront, PANEL), panel_power(beams, None, PANEL)
    assert focused.max((1, 2)) == pytest.approx(np.ones(4), abs=0.02)
    assert (flat.max((1, 2))[:3] < 0.9).all()


def test_another_number_of_antennas_is_said() -> None:
    drop = drop_of(waves(), (4, 24))
    assert "map" not in drop
    assert "u" not in drop["users"][0]
    assert drop["notes"] == ["--http-array panel:4x24 has 96 antennas, the channels 192: no beams are drawn"]
