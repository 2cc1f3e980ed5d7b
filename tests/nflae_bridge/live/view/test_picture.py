"""The description of a drop for the page, against the results of `nflae_bridge.precode`."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from matlab_io.result import RESULT_ARRAYS
from nflae_bridge import precode
from nflae_bridge.live.view.picture import MAX_USERS, Picture, picture_of
from nflae_bridge.live.view.sampler import Sample
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import effective_rayleigh_distance
from simulator.geometry.steering import near_field_steering
from tests.channel_files import random_channels

NOISE = 0.02
ARRAY = UniformLinearArray(64, 28e9, 0.0, 0.0)


def answered(channels: npt.NDArray[Any], *names: str, direct: bool = False, scheme: str = "nflae") -> Sample:
    """The answer to channels, with some of its arrays, or all."""
    found = precode(channels.conj() if direct else channels, scheme=scheme, noise_power=NOISE)
    arrays = {entry.name: getattr(found, entry.field) for entry in RESULT_ARRAYS}
    return Sample(channels, {name: arrays[name] for name in names or arrays}, NOISE, direct)


def line_of_sight() -> npt.NDArray[np.complex64]:
    angle = torch.tensor([-0.6, 0.1, 0.7], dtype=torch.float64)
    distance = torch.tensor([3.0, 8.0, 500.0], dtype=torch.float64)
    return near_field_steering(ARRAY, angle, distance).numpy()[None].astype(np.complex64)


def seen(picture: Picture, user: int | None = None) -> dict[str, Any]:
    """What a page receives."""
    found: dict[str, Any] = json.loads(json.dumps(picture.event(user), allow_nan=False))
    return found


def test_the_last_drop_is_described() -> None:
    channels = random_channels(3)
    sample = answered(channels)
    drop = seen(picture_of(sample.last_drop(), math.nan))
    assert [user["rate"] for user in drop["users"]] == pytest.approx(sample.arrays["rate"][-1], rel=1e-4)
    assert [user["power"] for user in drop["users"]] == pytest.approx(sample.arrays["power"][-1], rel=1e-4)
    assert drop["sum_rate"] == pytest.approx(sample.arrays["sum_rate"][-1], rel=1e-4)
    assert [user["label"] == "near" for user in drop["users"]] == list(sample.arrays["near_field"][-1])
    assert (drop["feasible"], drop["fallback"]) == (True, bool(sample.arrays["fallback"][-1]))
    assert len(drop["pattern"]["curves"]) == 3


@pytest.mark.parametrize("direct", [False, True])
def test_rates_follow_from_precoders(direct: bool) -> None:
    channels = random_channels(2)
    expected = answered(channels, direct=direct).arrays["rate"][-1]
    drop = seen(picture_of(answered(channels, "precoder", "power", direct=direct), math.nan))
    assert [user["rate"] for user in drop["users"]] == pytest.approx(expected, rel=1e-3)


def test_precoders_follow_from_the_dual_powers() -> None:
    channels = line_of_sight()
    whole, formed = (
        picture_of(answered(channels, *names, scheme="wmmse"), ARRAY.wavelength) for names in ((), ("lambda", "power"))
    )
    assert whole.maps is not None
    np.testing.assert_allclose(formed.maps, whole.maps, atol=1e-3 * whole.maps.max())
    assert not seen(formed)["notes"]


def test_an_answer_without_precoders_says_so() -> None:
    drop = seen(picture_of(answered(random_channels(1), "rate", "near_field"), math.nan))
    assert drop["notes"] == ["the answer holds no precoders: no beams are drawn"]
    assert "pattern" not in drop
    assert drop["users"][0]["power"] is None


def test_each_beam_is_brightest_at_its_user() -> None:
    picture = picture_of(answered(line_of_sight(), scheme="mrt"), ARRAY.wavelength)
    for index, user in enumerate(seen(picture)["users"]):
        shown = seen(picture, index)["map"]
        levels = np.frombuffer(base64.b64decode(shown["levels"]), np.uint8).reshape(len(shown["curvatures"]), -1)
        ring, column = np.unravel_index(levels.argmax(), levels.shape)
        assert shown["user"] == index
        assert abs((2 * column + 1) / 256 - 1 - user["sine"]) < 1 / 64
        assert abs(shown["curvatures"][ring] - user["curvature"]) <= np.diff(shown["curvatures"]).max()
        assert levels.max() == 255


def test_distances_and_the_border_of_the_near_field_are_those_of_the_array() -> None:
    drop = seen(picture_of(answered(line_of_sight(), scheme="mrt"), ARRAY.wavelength))
    near = [drop["map"]["scale"] * (1 - user["sine"] ** 2) / max(user["curvature"], 1e-9) for user in drop["users"]]
    assert near[0] == pytest.approx(3.0, rel=0.15)
    assert near[1] == pytest.approx(8.0, rel=0.3)
    assert near[2] > drop["map"]["border"]
    assert drop["map"]["border"] == pytest.approx(float(effective_rayleigh_distance(ARRAY, torch.zeros(1))), rel=1e-3)


def test_unusable_values_are_left_out() -> None:
    channels = random_channels(1)
    sample = answered(channels)
    arrays = {name: np.array(values) for name, values in sample.arrays.items()}
    arrays["rate"][0, 1] = np.inf
    history = np.full_like(channels, np.nan)
    drop = seen(picture_of(Sample(history, arrays, NOISE), math.nan))
    assert drop["users"][1]["rate"] is None
    assert "sine" not in drop["users"][0]


def test_streams_and_receive_antennas() -> None:
    rng = np.random.default_rng(5)
    channels = (rng.normal(size=(1, 2, 3, 16)) + 1j * rng.normal(size=(1, 2, 3, 16))).astype(np.complex64)
    precoder = (rng.normal(size=(1, 2, 2, 16)) + 0j).astype(np.complex64)
    arrays = {"precoder": precoder, "power": np.ones((1, 2, 2)), "rate": np.full((1, 2, 2), 1.5)}
    drop = seen(picture_of(Sample(channels, arrays, NOISE), 0.01))
    assert [user["power"] for user in drop["users"]] == [2.0, 2.0]
    assert [user["rate"] for user in drop["users"]] == [3.0, 3.0]
    each = {"precoder": precoder.reshape(1, 4, 16).repeat(2, 1)[:, :6], "power": np.ones((1, 6))}
    assert len(seen(picture_of(Sample(channels, each, NOISE), 0.01))["users"]) == 6


def test_a_crowd_is_cut() -> None:
    channels = random_channels(1, 130, 132)
    drop = seen(picture_of(answered(channels, "precoder", "power", scheme="mrt"), 0.01))
    assert len(drop["users"]) == MAX_USERS
    assert drop["notes"] == ["130 users, of which 128 are listed"]
