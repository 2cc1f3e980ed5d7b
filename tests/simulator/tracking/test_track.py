"""Tracks of simulated flights: accuracy, honest deviations, blocked users, lost satellites, and plane wavefronts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.localization import most_likely_positions
from simulator.geometry.steering import near_field_steering
from simulator.tracking.beam_powers import lobe_angles
from simulator.tracking.filter import Fixes, TrackFilter, TrackSettings
from simulator.tracking.result import BEAM_SOURCES, SOURCES
from simulator.tracking.track import track as track_all
from simulator.tracking.tracker import Observations, Track, Tracker, codebook_sines

STEP = 0.25
ARRAY = UniformLinearArray(antennas=128, height=12.0, tilt=math.radians(5))


def flight(array: UniformLinearArray, steps: int = 24, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, np.ndarray]:
    """Two users on straight lines, line of sight in white noise; positions (steps, users, 2)."""
    time = STEP * np.arange(steps)[:, None]
    place = np.stack([[20.0, 60.0] + time * [3.0, -8.0], [6.0, 25.0] + time * [1.0, 2.0]], -1)
    x, z = (torch.from_numpy(place[..., axis].copy()) for axis in (0, 1))
    wave = math.sqrt(array.antennas) * near_field_steering(array, *angle_and_distance(x, z, array))
    generator = torch.Generator().manual_seed(seed)
    return wave.to(torch.complex64) + noise * torch.randn(wave.shape, dtype=torch.complex64, generator=generator), place


def track(array: UniformLinearArray, channels: Tensor, step: float, gps: np.ndarray | None = None) -> Track:
    return track_all(array, Observations(channels=channels, gps=gps), step)


def errors(found: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.asarray(np.hypot(*np.moveaxis(found - place, -1, 0)))


def test_positions_are_accurate_and_their_deviations_honest() -> None:
    channels, place = flight(ARRAY)
    gps = place + 1.5 + np.random.default_rng(1).normal(size=place.shape)
    found = track(ARRAY, channels, STEP, gps)
    error = errors(found.position, place)[6:]
    assert np.median(error) < 0.6
    assert (error < 4 * found.deviation[6:]).all()
    assert found.deviation[6:].max() < 1.5
    assert (errors(gps, place)[6:].mean() / error.mean()) > 3
    truth = angle_and_distance(*(torch.from_numpy(place[..., axis].copy()) for axis in (0, 1)), ARRAY)
    np.testing.assert_allclose(found.angle[6:], truth[0][6:], atol=math.radians(0.1))
    np.testing.assert_allclose(found.distance[6:], truth[1][6:], atol=2)
    assert found.in_sight.all()
    assert (found.source == SOURCES.index("csi+gps")).all()


def test_tracks_need_no_satellites_and_ignore_their_bias() -> None:
    channels, place = flight(ARRAY)
    found = track(ARRAY, channels, STEP)
    assert np.median(errors(found.position, place)[6:, 0]) < 0.6
    assert (found.source == SOURCES.index("csi")).all()
    conjugated = track(ARRAY, channels.conj(), STEP)
    np.testing.assert_allclose(conjugated.position, found.position, atol=1e-6)
    np.testing.assert_array_equal(conjugated.beam, found.beam)
    np.testing.assert_array_equal(conjugated.next_beams, found.next_beams)
    assert (conjugated.conjugated, found.conjugated) == (True, False)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_sign_of_phase_is_that_of_all_snapshots(wrong: bool) -> None:
    channels, place = flight(ARRAY)
    channels[:, 0] = torch.nan  # leaves the user at 65 m
    channels = channels.conj() if wrong else channels
    reflection = near_field_steering(ARRAY, torch.tensor([-0.6]), torch.tensor([500.0])) * math.sqrt(ARRAY.antennas)
    channels[:4] += 0.5 * reflection  # a plane one
    found = track(ARRAY, channels, STEP)
    assert found.conjugated is wrong
    assert errors(found.position, place)[8:, 1].max() < 5
    small = UniformLinearArray(antennas=16, height=12.0)
    assert track(small, flight(small)[0], STEP).conjugated is None


def test_a_wrong_sign_of_phase_is_revised_by_later_snapshots() -> None:
    channels, place = flight(ARRAY)
    follower = Tracker(ARRAY)
    assert follower.advance(np.zeros(1), Observations(channels=channels[:1].conj())).conjugated
    later = follower.advance(STEP * np.arange(1, 24), Observations(channels=channels[1:]))
    assert later.conjugated is False
    assert np.median(errors(later.position, place[1:])[6:, 0]) < 0.6


@pytest.mark.parametrize("antennas", [16, 128])
def test_waves_of_reversed_antennas_contradict_the_satellites(antennas: int) -> None:
    array = UniformLinearArray(antennas, height=12.0, tilt=0.0)
    channels, place = flight(array)
    channels[15:, 0] = 0
    channels[12, 1] += 5 * torch.randn(antennas, dtype=torch.complex64, generator=torch.Generator().manual_seed(5))
    assert not track(array, channels, STEP, place).contradicted.any()
    reversed_order = track(array, channels.flip(-1), STEP, place).contradicted
    assert reversed_order[:8, 0].all()  # later near the normal
    assert not reversed_order[15:, 0].any()
    assert not reversed_order[12, 1]  # noise is no wave


def test_users_out_of_sight_follow_satellites_or_the_prediction() -> None:
    channels, place = flight(ARRAY)
    channels[12:18, 0] = torch.randn(6, 128, dtype=torch.complex64, generator=torch.Generator().manual_seed(5))
    channels[15, 1] = torch.nan
    gps = place.copy()
    gps[14:16] = np.nan
    found = track(ARRAY, channels, STEP, gps)
    assert found.source[12:18, 0].tolist() == [SOURCES.index("gps")] * 2 + [0] * 2 + [SOURCES.index("gps")] * 2
    assert found.source[15].tolist() == [0, 0]
    assert not found.in_sight[12:18, 0].any()
    assert found.in_sight[18:, 0].all()
    assert found.deviation[15, 0] > found.deviation[13, 0]
    assert errors(found.position, place)[12:18].max() < 1.5
    np.testing.assert_array_equal(found.next_beams[13, 0, 2], found.next_beams[13, 0, 0])


def test_beams_now_and_next_are_those_of_the_codebook() -> None:
    channels, place = flight(ARRAY, noise=0.01)
    found = track(ARRAY, channels, STEP, place)
    code = np.exp(1j * np.pi * np.outer(codebook_sines(128), np.arange(128) - 63.5))
    power = np.abs(channels.numpy() @ code.conj().T)
    np.testing.assert_array_equal(found.beam, power.argmax(-1))
    for ahead in range(3):
        best = power.argmax(-1)[8 + ahead + 1 :]
        assert (found.next_beams[8 : -ahead - 1, :, ahead] == best[..., None]).any(-1).mean() > 0.8
    assert codebook_sines(4).tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_a_plane_wavefront_leaves_the_distance_unresolved() -> None:
    small = UniformLinearArray(antennas=16, height=12.0, tilt=0.0)
    channels, place = flight(small, noise=0.1)
    found = track(small, channels, STEP)
    assert not found.distance_resolved[:, 1].any()
    truth = np.arctan2(12 - place[..., 1], place[..., 0])
    assert np.degrees(np.abs(found.angle - truth))[4:].max() < 1
    aided = track(small, channels, STEP, place)
    assert aided.distance_resolved[4:].all()
    assert (aided.source[4:] == SOURCES.index("csi+gps")).all()
    assert (aided.angle_source[4:] == SOURCES.index("csi")).all()
    assert (aided.distance_source[4:] == SOURCES.index("gps")).all()
    assert (found.distance_source[:, 1] == SOURCES.index("prediction")).all()
    assert (errors(found.position, place) < 2 * found.deviation).mean() > 0.9
    swept = track_all(small, Observations(powers=beam_powers(small, channels)), STEP)
    assert (errors(swept.position, place) < 2 * swept.deviation).all()
    assert (swept.deviation >= 50).all()


def test_64_antennas_give_angles_within_a_sixth_of_a_degree() -> None:
    medium = UniformLinearArray(antennas=64, height=12.0, tilt=0.0)
    channels, place = flight(medium, noise=10**-0.5)
    truth = np.arctan2(12 - place[..., 1], place[..., 0])
    found = track(medium, channels, STEP)
    assert np.degrees(np.median(np.abs(found.angle - truth))) < 0.05
    assert (np.abs(found.angle - truth) < 5 * found.angle_deviation).all()
    assert not found.distance_resolved[:, 1].any()


def test_a_reflection_that_contradicts_the_satellites_moves_no_user() -> None:
    channels, place = flight(ARRAY)
    wall = near_field_steering(ARRAY, torch.tensor([0.5]), torch.tensor([30.0])) * math.sqrt(ARRAY.antennas)
    channels[8:, 1] = wall + 0.1 * channels[8:, 1]
    found = track(ARRAY, channels, STEP, place)
    assert not found.in_sight[8:, 1].any()
    assert (found.source[8:, 1] == SOURCES.index("gps")).all()
    assert errors(found.position, place)[8:, 1].max() < 1.5
    assert found.in_sight[:, 0].all()


@pytest.mark.parametrize("missing", [0.0, math.nan])
def test_snapshots_without_any_channel_are_predicted(missing: float) -> None:
    channels, place = flight(ARRAY)
    follower = Tracker(ARRAY)
    follower.advance(STEP * np.arange(20), Observations(channels=channels[:20]))
    gap = follower.advance(np.array([20 * STEP]), Observations(channels=channels[20:21] * missing))
    assert (gap.source == SOURCES.index("prediction")).all()
    assert errors(gap.position[0], place[20]).max() < 1.2
    assert not gap.in_sight.any()
    whole = track(ARRAY, channels * missing, STEP, place)
    assert (whole.source == SOURCES.index("gps")).all()
    assert np.median(errors(whole.position, place)) < 0.5


def test_a_lost_user_is_located_anew() -> None:
    channels, place = flight(ARRAY)
    channels[10:] = channels[10:].flip(1)  # the users change places
    found = track(ARRAY, channels, STEP)
    assert (found.source[10:12] == 0).all()
    assert np.median(errors(found.position, place[:, ::-1])[14:]) < 2


def test_deviations_of_waves_are_those_of_white_noise() -> None:
    generator = torch.Generator().manual_seed(2)
    wave = near_field_steering(ARRAY, torch.full((400,), 0.3), torch.full((400,), 15.0)) * math.sqrt(128)
    noisy = wave.to(torch.complex64) + 0.5 * torch.randn(wave.shape, dtype=torch.complex64, generator=generator)
    angle, distance, _ = most_likely_positions(ARRAY, noisy, False)
    fixes = Fixes(angle.numpy(), distance.numpy(), np.full(400, 0.8), np.full((400, 2), np.nan))
    sigma_angle, sigma_curvature = fixes.deviations(ARRAY)
    assert angle.std().item() == pytest.approx(sigma_angle.mean() / 1.5, rel=0.15)
    assert (1 / distance).std().item() == pytest.approx(sigma_curvature.mean() / 1.5, rel=0.15)


def test_prediction_without_measurements_grows_uncertain() -> None:
    empty = Fixes(np.full(1, np.nan), np.full(1, np.nan), np.zeros(1), np.array([[30.0, 10.0]]))
    follower = TrackFilter(ARRAY, empty, TrackSettings())
    np.testing.assert_array_equal(follower.state[0, :2], [30, 10])
    state, covariance = follower.predicted(2.0)
    np.testing.assert_array_equal(state[0, :2], [30, 10])
    assert covariance[0, 0, 0] > follower.covariance[0, 0, 0] + 4 * 99


def beam_powers(array: UniformLinearArray, channels: Tensor) -> np.ndarray:
    code = np.exp(1j * np.pi * np.outer(codebook_sines(array.antennas), np.arange(array.antennas)))
    return np.asarray(np.abs(channels.numpy() @ code.conj().T) ** 2)


@pytest.mark.parametrize("place", [0.0, 7.25, 15.5, 30.8])
def test_angles_between_the_beams_are_those_of_the_wave(place: float) -> None:
    sines = codebook_sines(32).numpy()
    sine = np.interp(place, np.arange(32), sines)
    offset = np.pi * np.arange(32)
    powers = np.abs(np.exp(1j * offset * sine) @ np.exp(-1j * np.outer(offset, sines))) ** 2
    angle, deviation, share = lobe_angles(powers[None], sines)
    assert np.sin(angle[0]) == pytest.approx(sine, abs=0.1 / 32)
    assert 0 < deviation[0] * np.cos(angle[0]) < 0.5 / 32
    assert share[0] > 0.8


def test_deviations_of_angles_from_powers_are_honest_and_missing_powers_have_none() -> None:
    rng, sines = np.random.default_rng(3), codebook_sines(32).numpy()
    true = rng.uniform(-0.8, 0.8, 500)
    offset = np.pi * np.arange(32)
    wave = np.exp(1j * np.outer(true, offset)) + 0.5 * rng.normal(size=(500, 32, 2)).view(np.complex128)[..., 0]
    angle, deviation, _ = lobe_angles(np.abs(wave @ np.exp(-1j * np.outer(offset, sines))) ** 2, sines)
    ratio = np.abs(angle - np.arcsin(true)) / deviation
    assert 0.05 < np.median(ratio) < 0.7
    assert np.percentile(ratio, 95) < 2
    powers = np.stack([np.full(32, np.nan), np.zeros(32)])
    assert np.isnan(lobe_angles(powers, sines)[0]).all()
    with pytest.raises(ValueError, match="codebook has 32 beams, the powers 16"):
        lobe_angles(powers[:, :16], sines)


def test_beam_powers_give_angles_and_satellites_the_distance() -> None:
    channels, place = flight(ARRAY)
    seen = Observations(powers=beam_powers(ARRAY, channels), gps=place + 1.0)
    found = track_all(ARRAY, seen, STEP)
    truth, distance = angle_and_distance(*(torch.from_numpy(place[..., axis].copy()) for axis in (0, 1)), ARRAY)
    # sin(theta) of the codebook is about the normal: the tilt of the array is in the angle's origin alone.
    assert np.degrees(np.median(np.abs(found.angle - truth.numpy()))) < 0.15
    assert found.in_sight.all()
    assert (found.distance_source == SOURCES.index("gps")).all()
    assert np.abs(found.distance - distance.numpy())[6:].max() < 3
    channel_beams = track(ARRAY, channels, STEP).beam
    np.testing.assert_array_equal(found.beam, channel_beams)
    alone = track_all(ARRAY, Observations(powers=seen.powers), STEP)
    assert not alone.distance_resolved[0].any()


def test_detections_are_given_to_the_users_that_they_fit() -> None:
    channels, place = flight(ARRAY)
    blind = torch.full_like(channels, torch.nan)
    blind[:4] = channels[:4]
    angle, distance = angle_and_distance(*(torch.from_numpy(place[..., axis].copy()) for axis in (0, 1)), ARRAY)
    objects = np.stack([angle.numpy(), distance.numpy()], -1)[:, ::-1]  # in another order than the users
    stranger = np.broadcast_to([0.9, 5.0], (len(objects), 1, 2))
    found = track_all(ARRAY, Observations(channels=blind, detections=np.concatenate([objects, stranger], 1)), STEP)
    assert (found.source[4:] == SOURCES.index("detection")).all()
    assert errors(found.position, place)[6:].max() < 2
    assert (found.beam_source[4:] == BEAM_SOURCES.index("position")).all()
    without = track_all(ARRAY, Observations(channels=blind), STEP)
    assert errors(without.position, place)[-1].min() > 2
    bearings = objects.copy()
    bearings[..., 1] = np.inf
    angled = track_all(ARRAY, Observations(channels=blind, detections=bearings), STEP)
    assert (angled.distance_source[4:] == 0).all()
    assert np.degrees(np.abs(angled.angle - angle.numpy()))[4:].max() < 1.5


def test_blocks_of_snapshots_continue_a_track_and_times_rise() -> None:
    channels, place = flight(ARRAY)
    whole = track(ARRAY, channels, STEP, place)
    follower, parts = Tracker(ARRAY), []
    for start in range(0, 24, 8):
        block = slice(start, start + 8)
        seen = Observations(channels=channels[block], gps=place[block])
        parts.append(follower.advance(STEP * np.arange(start, start + 8), seen).position)
    np.testing.assert_allclose(np.concatenate(parts), whole.position, atol=1e-9)
    with pytest.raises(ValueError, match=r"time 5.75 s of snapshot 1 is not after 5.75 s"):
        follower.advance(np.array([5.75]), Observations(channels=channels[:1]))
    with pytest.raises(ValueError, match=r"time 1 s of snapshot 2 is not after 2 s"):
        Tracker(ARRAY).advance(np.array([2.0, 1.0]), Observations(channels=channels[:2]))
    with pytest.raises(ValueError, match="1 users: this track has 2"):
        follower.advance(np.array([9.0]), Observations(channels=channels[:1, :1]))


def test_snapshots_without_any_wave_are_predicted_also_at_the_beginning() -> None:
    channels, place = flight(ARRAY)
    tracker = Tracker(ARRAY)
    missing = torch.full((1, *channels.shape[1:]), torch.nan, dtype=torch.complex64)
    first = tracker.advance(np.zeros(1), Observations(channels=missing))
    assert (first.source == SOURCES.index("prediction")).all()
    assert not first.in_sight.any()
    tracker.advance(STEP * np.arange(1, 24), Observations(channels=channels[:23]))
    last = tracker.advance(np.array([24 * STEP]), Observations(channels=missing))
    assert (last.source == SOURCES.index("prediction")).all()
    assert errors(last.position[0], place[23]).max() < 4
