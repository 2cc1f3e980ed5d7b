"""Scenarios and channels: where users stand, what their channels are made of, and noisy CSI."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import torch

from simulator.channels.multipath import multipath_channels
from simulator.channels.scenario import GROUND_USER_HEIGHT, Scenario, scenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import is_near_field
from simulator.geometry.steering import near_field_steering


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_multipath_is_the_sum_of_spherical_waves() -> None:
    array, rng = UniformLinearArray(antennas=16), np.random.default_rng(0)
    angles, distances = rng.uniform(-1, 1, (2, 3)), rng.uniform(2, 50, (2, 3))
    gains = rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3))
    found = multipath_channels(array, *(torch.from_numpy(value) for value in (angles, distances, gains))).numpy()
    for user in range(2):
        expected = np.zeros(16, complex)
        for path in range(3):
            for n in range(16):
                nd = (n - 7.5) * array.spacing
                r, theta = distances[user, path], angles[user, path]
                r_n = math.sqrt(r * r - 2 * nd * r * math.sin(theta) + nd * nd)
                expected[n] += gains[user, path] * np.exp(-2j * math.pi * (r_n - r) / array.wavelength) / 4
        np.testing.assert_allclose(found[user], expected, atol=2e-6)


def test_paper_scenario_is_line_of_sight_of_unit_norm_in_its_rectangle() -> None:
    drops = scenario("paper", users=6, antennas=64).draw(200, seeded())
    assert drops.channels.shape == (200, 6, 64)
    assert drops.channels.dtype == torch.complex64
    np.testing.assert_allclose(torch.linalg.vector_norm(drops.channels, dim=-1), 1, atol=1e-5)
    assert 0 <= float(drops.x.min()) < 5
    assert 195 < float(drops.x.max()) <= 200
    assert 0 <= float(drops.height.min()) < 1
    assert 29 < float(drops.height.max()) <= 30
    angle, distance = angle_and_distance(drops.x, drops.height, UniformLinearArray(antennas=64))
    torch.testing.assert_close(drops.angle, angle)
    torch.testing.assert_close(drops.distance, distance)
    expected = near_field_steering(UniformLinearArray(antennas=64), angle, distance)
    overlap = (expected.conj() * drops.channels).sum(-1).abs()  # equal but for a phase a user
    np.testing.assert_allclose(overlap, 1, atol=1e-5)
    phases = (expected.conj() * drops.channels).sum(-1).angle()
    assert float(torch.polar(torch.ones_like(phases), phases).mean().abs()) < 0.1


def test_labels_are_those_of_the_theory_at_the_scenarios_loss() -> None:
    for loss in (0.05, 0.1, 0.3):
        scene = replace(scenario("paper", users=5), near_field_loss=loss)
        drops = scene.draw(50, seeded(3))
        assert torch.equal(drops.near_field, is_near_field(scene.array, drops.angle, drops.distance, loss))


def test_uav_scenario_has_ground_users_and_path_loss() -> None:
    drops = scenario("uav", users=10, antennas=32).draw(300, seeded(1))
    ground = drops.height == GROUND_USER_HEIGHT
    assert float(ground.double().mean()) == pytest.approx(0.4, abs=0.03)
    assert bool((drops.height[~ground] >= 5).all())
    assert bool((drops.height <= 60).all())
    line_of_sight = replace(scenario("uav", users=10, antennas=32), scattered_paths=0).draw(50, seeded(1))
    gain = torch.linalg.vector_norm(line_of_sight.channels, dim=-1).double()
    torch.testing.assert_close(gain, 60 / line_of_sight.distance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor_db", [0.0, 10.0])
def test_rician_factor_is_line_of_sight_power_over_the_rest(factor_db: float) -> None:
    scene = Scenario(UniformLinearArray(antennas=64), users=10, scattered_paths=3, rician_factor_db=factor_db)
    drops = scene.draw(600, seeded(4))
    # The users' random phases make the two parts uncorrelated: mean power is the sum 1 + 1 / factor.
    power = torch.linalg.vector_norm(drops.channels, dim=-1).double().square().mean()
    assert float(power) == pytest.approx(1 + 10 ** (-factor_db / 10), rel=0.05)


def test_the_same_generator_state_gives_the_same_drops_and_another_other_ones() -> None:
    scene = scenario("uav", users=3, antennas=16)
    first, second, other = (scene.draw(4, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.channels, second.channels)
    assert not torch.equal(first.channels, other.channels)


def test_stream_gives_all_drops_in_blocks() -> None:
    sizes = [len(block.channels) for block in scenario("paper", 2, 8).stream(600, seeded(), block=256)]
    assert sizes == [256, 256, 88]


@pytest.mark.parametrize(("name", "users", "antennas"), [("lab", 4, 8), ("paper", 0, 8), ("uav", 4, 0)])
def test_impossible_scenario_is_refused(name: str, users: int, antennas: int) -> None:
    with pytest.raises(ValueError, match=r"unknown scenario|at least 1"):
        scenario(name, users, antennas)  # type: ignore[arg-type]


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_csi_noise_is_white_and_as_strong_as_it_should_be(snr_db: float, scale: float) -> None:
    gains = torch.tensor([1.0, 0.1])[:, None] * scale
    channels = gains * near_field_steering(
        UniformLinearArray(antennas=4096), torch.tensor([0.1, -0.4]), torch.tensor([100.0, 300.0])
    )
    error = noisy_csi(channels, snr_db, seeded(8)) - channels
    signal = channels.abs().square().mean(-1)
    measured = 10 * torch.log10(signal / error.abs().square().mean(-1))
    np.testing.assert_allclose(measured, snr_db, atol=0.3)
    normalised = error / error.abs().square().mean(-1, keepdim=True).sqrt()
    assert float((normalised[:, 1:] * normalised[:, :-1].conj()).mean(-1).abs().max()) < 0.06
    assert float(normalised.square().mean(-1).abs().max()) < 0.06  # circular
    assert float(normalised.mean(-1).abs().max()) < 0.06
    assert float((normalised[0] * normalised[1].conj()).mean().abs()) < 0.06


def test_csi_snr_may_differ_per_drop() -> None:
    channels = torch.ones(3, 2, 2048, dtype=torch.complex64)
    error = noisy_csi(channels, torch.tensor([[0.0], [10.0], [30.0]]), seeded()) - channels
    measured = -10 * torch.log10(error.abs().square().mean((-1, -2)))
    np.testing.assert_allclose(measured, [0, 10, 30], atol=0.4)


def test_subcarriers_follow_the_drop_without_changing_its_users() -> None:
    scene = scenario("uav", users=3, antennas=16)
    narrow, wide = scene.draw(4, seeded(1)), replace(scene, offsets=(-1e8, 0.0, 1e8)).draw(4, seeded(1))
    assert wide.channels.shape == (12, 3, 16)
    assert torch.equal(wide.channels[1::3], narrow.channels)
    assert torch.equal(wide.x, narrow.x)


def test_beam_split_of_plane_waves_is_the_dirichlet_kernel() -> None:
    antennas, carrier, sine = 128, 100e9, 0.6
    array = UniformLinearArray(antennas=antennas, carrier=carrier, height=0.0, tilt=0.0)
    offsets = (0.0, 0.5e9, 1.5e9, 2.5e9)
    far = (torch.full((1, 1), math.asin(sine)), torch.full((1, 1), 1e7), torch.ones(1, 1, dtype=torch.complex128))
    responses = [multipath_channels(array, *far, offset)[0] for offset in offsets]
    for offset, response in zip(offsets, responses, strict=True):
        turn = math.pi * sine * offset / carrier / 2  # half the phase step that the carrier's beam leaves uncompensated
        expected = 1.0 if offset == 0 else abs(math.sin(antennas * turn) / (antennas * math.sin(turn)))
        assert float(torch.vdot(responses[0], response).abs()) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("offset", [-2.5e9, -1e9, 1e9, 2.5e9])
@pytest.mark.parametrize(("sine", "distance"), [(0.4, 12.0), (-0.2, 6.0), (0.0, 1.0)])
def test_beam_split_of_a_focused_beam_is_the_fresnel_integral(offset: float, sine: float, distance: float) -> None:
    """5 GHz around 100 GHz: the loss of the carrier's beam by SciPy's Fresnel integrals, and its new focus."""
    carrier, antennas = 100e9, 256
    array = UniformLinearArray(antennas=antennas, carrier=carrier, height=0.0, tilt=0.0)
    place = torch.tensor([[math.asin(sine)]]), torch.tensor([[distance]], dtype=torch.float64)
    beam, wave = (multipath_channels(array, *place, torch.ones(1, 1).cdouble(), df)[0] for df in (0.0, offset))
    # Over the aperture, |t| <= 1/2, the phase 2 pi (slope t + bend t^2) is left.
    ratio, aperture = offset / carrier, antennas / 2
    slope = ratio * aperture * sine
    bend = -ratio * aperture**2 * (1 - sine**2) * array.wavelength / (2 * distance)
    shift, width = slope / (2 * bend), 2 * math.sqrt(abs(bend))
    ends = [scipy.special.fresnel(width * (t + shift)) for t in (-0.5, 0.5)]
    loss = math.hypot(ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]) / width
    assert float(torch.vdot(beam, wave).abs()) == pytest.approx(loss, abs=4e-3)
    # The focus moves to f_c / f of sin(theta) and of cos^2(theta) / r.
    new_sine = sine / (1 + ratio)
    farther = distance * (1 - new_sine**2) / (1 - sine**2) * (1 + ratio)
    focus = torch.tensor([[math.asin(new_sine)]]), torch.tensor([[farther]], dtype=torch.float64)
    there = multipath_channels(array, *focus, torch.ones(1, 1).cdouble(), offset)[0]
    assert float(torch.vdot(beam, there).abs()) > 0.9995 > float(torch.vdot(beam, wave).abs())


def test_paths_turn_by_their_delay_relative_to_the_line_of_sight() -> None:
    scene = replace(scenario("uav", users=2, antennas=1), rician_factor_db=0.0)
    offsets = tuple(torch.linspace(-20e6, 20e6, 401).tolist())
    response = replace(scene, offsets=offsets).draw(1, seeded(2)).channels[:, 0, 0]
    scatterers = replace(scene, scattered_paths=0, offsets=offsets).draw(1, seeded(2)).channels[:, 0, 0]
    assert float((scatterers - scatterers[0]).abs().max()) < 1e-6  # one path turns nowhere
    delays = torch.linspace(-0.2e-6, 1.2e-6, 561, dtype=torch.float64)
    kernel = torch.polar(torch.ones(561, 401).double(), 2 * math.pi * delays[:, None] * torch.tensor(offsets).double())
    profile = (kernel @ response.to(torch.complex128)).abs()
    assert float(profile[delays < -0.05e-6].max()) < 0.3 * float(profile.max())  # no path before the line of sight
