"""Geometry and steering against Euclidean distances to explicit element coordinates."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulator.geometry.arrays import SPEED_OF_LIGHT, UniformLinearArray, angle_and_distance
from simulator.geometry.steering import far_field_steering, near_field_steering

ARRAY = UniformLinearArray()


def user(x: float, height: float, array: UniformLinearArray = ARRAY, convention: str = "signed"):
    place = torch.tensor([x, height], dtype=torch.float64)
    return angle_and_distance(place[0], place[1], array, convention)  # type: ignore[arg-type]


def elements(array: UniformLinearArray) -> np.ndarray:
    """Element coordinates (antennas, 2) in long double: from the top end, n = -(N-1)/2, down along the tilted array.

    A tilt looks down, so the array's normal is (cos tilt, -sin tilt); the array lies at right angles to it.
    """
    n = np.arange(array.antennas, dtype=np.longdouble) - np.longdouble(array.antennas - 1) / 2
    along = np.array([-np.sin(np.longdouble(array.tilt)), -np.cos(np.longdouble(array.tilt))])
    assert abs(along @ np.array([math.cos(array.tilt), -math.sin(array.tilt)])) < 1e-15
    return np.array([0, array.height], np.longdouble) + n[:, None] * np.longdouble(array.spacing) * along


def response_from_distances(array: UniformLinearArray, x: float, height: float) -> np.ndarray:
    """exp(-j 2 pi (r_n - r) / lambda) / sqrt(N), every r_n the distance between two points of the plane."""
    place = np.array([x, height], np.longdouble)
    to_elements = np.sqrt(((elements(array) - place) ** 2).sum(1))
    to_centre = np.sqrt(((np.array([0, array.height], np.longdouble) - place) ** 2).sum())
    cycles = (to_elements - to_centre) / np.longdouble(array.wavelength)
    phase = (2 * np.pi * (cycles - np.round(cycles))).astype(float)
    return np.exp(-1j * phase) / np.sqrt(array.antennas)


def test_array_is_centred_half_wavelength_spaced_and_as_long_as_it_says() -> None:
    array = UniformLinearArray(antennas=7, carrier=15e9)
    offsets = array.element_offsets().numpy()
    assert offsets.sum() == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(np.diff(offsets), SPEED_OF_LIGHT / 15e9 / 2, rtol=1e-12)
    assert array.aperture == pytest.approx(7 * SPEED_OF_LIGHT / 15e9 / 2)


@pytest.mark.parametrize("x", [0.5, 8.0, 60.0, 200.0, 10_000.0])
@pytest.mark.parametrize("height", [0.0, 1.5, 14.9, 15.0, 22.0, 300.0])
@pytest.mark.parametrize("tilt_degrees", [0.0, 5.0, -10.0, 40.0])
def test_exact_steering_is_the_distance_to_every_element(x: float, height: float, tilt_degrees: float) -> None:
    array = UniformLinearArray(antennas=64, tilt=math.radians(tilt_degrees))
    steering = near_field_steering(array, *user(x, height, array)).numpy()
    np.testing.assert_allclose(steering, response_from_distances(array, x, height), atol=3e-7)


def test_signed_angle_is_positive_below_the_normal_and_zero_on_it() -> None:
    level = UniformLinearArray(tilt=0.0)
    assert user(30.0, 5.0, level)[0] == pytest.approx(math.atan2(10, 30))
    assert user(30.0, 25.0, level)[0] == pytest.approx(-math.atan2(10, 30))
    tilted = UniformLinearArray(tilt=math.radians(20))
    on_normal = user(10 * math.cos(tilted.tilt), 15 - 10 * math.sin(tilted.tilt), tilted)
    assert on_normal[0] == pytest.approx(0, abs=1e-7)
    assert on_normal[1] == pytest.approx(10, rel=1e-6)


def test_a_lower_user_is_nearer_to_the_lower_elements() -> None:
    """Ties the sign of n to the geometry: the last element is the array's bottom, as `elements` says."""
    assert elements(ARRAY)[-1, 1] < ARRAY.height < elements(ARRAY)[0, 1]
    array = UniformLinearArray(antennas=2, tilt=0.0)
    below = near_field_steering(array, *user(20.0, 5.0, array))
    assert torch.angle(below[1] / below[0]) > 0  # nearer means less delay: a phase ahead


@pytest.mark.parametrize("up", [0.5, 7.0, 14.0])
def test_users_mirrored_about_the_mast_differ_only_with_signed_angles(up: float) -> None:
    below, above = ARRAY.height - up, ARRAY.height + up
    absolute = [near_field_steering(ARRAY, *user(40.0, h, convention="absolute")) for h in (below, above)]
    signed = [near_field_steering(ARRAY, *user(40.0, h)) for h in (below, above)]
    torch.testing.assert_close(absolute[0], absolute[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(signed[0], absolute[0], rtol=0, atol=1e-6)  # below the mast both say the same
    assert abs(torch.vdot(*signed)) < 0.9


@pytest.mark.parametrize(("distance", "antennas"), [(10_000.0, 256), (3.0, 256), (10_000.0, 4096), (0.7, 32)])
def test_phases_keep_their_meaning_over_many_cycles(distance: float, antennas: int) -> None:
    array = UniformLinearArray(antennas=antennas, carrier=100e9)
    angle = 0.3
    steering = near_field_steering(array, torch.tensor(angle), torch.tensor(distance, dtype=torch.float64)).numpy()
    sine = mpmath.mpf(float(torch.sin(torch.tensor(angle).double())))
    with mpmath.workdps(40):
        r, d = mpmath.mpf(distance), mpmath.mpf(array.spacing)
        for index in range(0, antennas, antennas // 16):
            n = mpmath.mpf(index) - mpmath.mpf(antennas - 1) / 2
            r_n = mpmath.sqrt(r**2 - 2 * n * d * r * sine + (n * d) ** 2)
            expected = mpmath.expj(-2 * mpmath.pi * (r_n - r) / mpmath.mpf(array.wavelength)) / mpmath.sqrt(antennas)
            assert abs(complex(expected) - complex(steering[index])) < 4e-7 / math.sqrt(antennas)


@given(
    angle=st.floats(-1.5, 1.5),
    distance=st.floats(0.5, 1e5),
    antennas=st.integers(1, 300),
    model=st.sampled_from(["exact", "fresnel"]),
)
def test_responses_have_unit_norm(angle: float, distance: float, antennas: int, model: str) -> None:
    array = UniformLinearArray(antennas=antennas)
    near = near_field_steering(array, torch.tensor(angle), torch.tensor(distance), model)  # type: ignore[arg-type]
    far = far_field_steering(array, torch.tensor(angle))
    assert near.dtype == far.dtype == torch.complex64
    assert float(torch.linalg.vector_norm(near)) == pytest.approx(1, abs=1e-5)
    assert float(torch.linalg.vector_norm(far)) == pytest.approx(1, abs=1e-5)


def test_plane_wave_is_exp_j_pi_n_sin_theta() -> None:
    angle = 0.7
    n = np.arange(256) - 127.5
    expected = np.exp(1j * np.pi * n * math.sin(angle)) / 16
    steering = far_field_steering(ARRAY, torch.tensor(angle, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(steering, expected, atol=1e-7)


@pytest.mark.parametrize("angle", [-1.2, -0.2, 0.0, 0.6, 1.3])
def test_spherical_wave_becomes_plane_far_away(angle: float) -> None:
    theta = torch.tensor(angle, dtype=torch.float64)
    far = far_field_steering(ARRAY, theta)
    errors = [float((near_field_steering(ARRAY, theta, torch.tensor(r)) - far).abs().max()) for r in (1e3, 1e4, 1e7)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


@pytest.mark.parametrize("angle", [-0.5, 0.3, 0.9])
def test_fresnel_form_misses_the_exact_one_by_the_third_order_term(angle: float) -> None:
    """r_n = r - n d sin + (n d)^2 cos^2 / 2 r + (n d)^3 sin cos^2 / 2 r^2 + ...: the error is the cubic term."""
    theta, edge = torch.tensor(angle, dtype=torch.float64), float(ARRAY.element_offsets()[-1])
    for distance in (20.0, 40.0, 80.0):
        r = torch.tensor(distance, dtype=torch.float64)
        exact, fresnel = (near_field_steering(ARRAY, theta, r, model) for model in ("exact", "fresnel"))
        cubic = edge**3 * math.sin(angle) * math.cos(angle) ** 2 / (2 * distance**2)
        missed = -float(torch.angle(exact[-1] / fresnel[-1])) * ARRAY.wavelength / (2 * math.pi)
        assert missed == pytest.approx(cubic, rel=0.06)
    assert abs(torch.vdot(exact, fresnel)) > 0.99999


def test_fresnel_form_fails_close_to_the_array() -> None:
    theta, r = torch.tensor(0.6), torch.tensor(1.5)
    exact, fresnel = (near_field_steering(ARRAY, theta, r, model) for model in ("exact", "fresnel"))
    assert abs(torch.vdot(exact, fresnel)) < 0.9


def test_steering_takes_any_shape() -> None:
    angle = torch.rand(2, 3, 4)
    together = near_field_steering(ARRAY, angle, 5 + angle)
    assert together.shape == (2, 3, 4, 256)
    torch.testing.assert_close(together[1, 2, 3], near_field_steering(ARRAY, angle[1, 2, 3], 5 + angle[1, 2, 3]))
