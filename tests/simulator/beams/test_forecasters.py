"""Windows, splits, rivals and measures of beam forecasts, against plain loops and worlds where a rival is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from matlab_io.sequences import Sequences
from nflae_bridge.beams.table import table_cells, table_csv
from simulator.beams.centroids import around, centroid, normalised_db
from simulator.beams.measures import measure
from simulator.beams.methods.kalman import filtered
from simulator.beams.methods.velocity import extrapolate
from simulator.beams.registry import forecaster, forecaster_names
from simulator.beams.splits import folds, leakage, split
from simulator.beams.windows import Windows, cut_windows
from tests.beam_sequences import MAST, passing_users

NAMES = ["kalman", "knn", "knn-position", "position-map", "random-features", "repeat", "ridge"]
NAMES += ["velocity-centroid", "velocity-index"]


def renamed(sequences: Sequences, name: str) -> Sequences:
    return replace(sequences, path=Path(name))


def test_windows_are_runs_of_consecutive_samples() -> None:
    made = passing_users(3, 10)
    keep = ~np.isin(np.arange(30), [4, 25])
    parts = {name: getattr(made, name)[keep] for name in ("powers", "sequence", "step", "flight", "user", "mast")}
    windows = cut_windows([replace(made, **parts)], 3, 2)
    starts = [s for s in range(26) if s // 10 == (s + 4) // 10 and not {4, 25} & set(range(s, s + 5))]
    assert len(windows) == len(starts)
    np.testing.assert_array_equal(windows.past, [made.powers[s : s + 3] for s in starts])
    np.testing.assert_array_equal(windows.future, [made.powers[s + 3 : s + 5] for s in starts])
    positions = made.positions()
    assert positions is not None
    np.testing.assert_array_equal(windows.position, [positions[s : s + 3] for s in starts])
    np.testing.assert_array_equal(windows.flight, [s // 10 for s in starts])


def test_folders_are_joined_by_mast_and_told_apart_by_beams_and_content() -> None:
    near, far = passing_users(seed=1, mast=(MAST[0] + 4e-5, MAST[1])), passing_users(seed=2, mast=(33.5, -111.9))
    windows = cut_windows([passing_users(), renamed(near, "near"), renamed(far, "far")], 5, 3)
    assert [windows.site[windows.folder == number][0] for number in range(3)] == [0, 0, 2]
    assert len(np.unique(windows.flight)) == 18
    with pytest.raises(NflaeError, match=r"other: has 8 beams, made has 16"):
        cut_windows([passing_users(), renamed(passing_users(beams=8), "other")], 5, 3)
    copied = replace(near, powers=np.concatenate([near.powers[:-14], passing_users().powers[14:28]]))
    with pytest.raises(NflaeError, match="copy: sequence 6 is sequence 2 of made: the same recording"):
        cut_windows([passing_users(), renamed(copied, "copy")], 5, 3)
    with pytest.raises(NflaeError, match="no sequence has 15 consecutive samples"):
        cut_windows([passing_users()], 10, 5)


def test_splits_share_no_flight_or_no_site_and_random_ones_leak() -> None:
    others = [renamed(passing_users(seed=seed, mast=(33 + seed, 0.0)), str(seed)) for seed in (1, 2)]
    windows = cut_windows([passing_users(), *others], 5, 3)
    by_flight = split(windows, "sequence", 0)
    assert leakage(windows, by_flight) == (0, 3)
    assert all(0 < by_flight[windows.folder == folder].mean() < 0.5 for folder in range(3))
    by_site = split(windows, "site", 0)
    assert leakage(windows, by_site) == (0, 0)
    assert len(np.unique(windows.site[by_site])) == 1
    assert leakage(windows, split(windows, "random", 0))[0] > 10
    assert (split(windows, "sequence", 1) != by_flight).any()
    with pytest.raises(NflaeError, match=r"only one site \(mast\)"):
        split(windows.part(windows.folder == 0), "site", 0)
    with pytest.raises(NflaeError, match="only one sequence"):
        split(windows.part(windows.flight == 0), "sequence", 0)


def test_centroid_and_scores_follow_a_beam_between_two() -> None:
    centre = np.array([3.0, 7.4, 11.75])
    powers = np.exp(-((np.arange(16) - centre[:, None]) ** 2)).astype(np.float32)
    np.testing.assert_allclose(centroid(powers), centre, atol=0.02)
    np.testing.assert_array_equal(around(np.array([2.2, 99.0]), 4).argmax(-1), [2, 3])
    np.testing.assert_allclose(normalised_db(np.array([[1, 0.1, 1e-9]], np.float32), -20), [[0, -10, -20]], atol=1e-5)


def test_extrapolation_is_the_line_of_least_squares_and_the_filter_follows_a_line() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5))
    expected = [np.polyval(np.polyfit(np.arange(5), row, 1), [5, 6, 7]) for row in values]
    np.testing.assert_allclose(extrapolate(values, 3), expected)
    line = 2.0 + 0.7 * np.arange(30)[None]
    np.testing.assert_allclose(filtered(line, 3, 0.1), 2 + 0.7 * np.arange(30, 33)[None], atol=1e-3)


def test_every_forecaster_uses_the_past_alone_and_beats_chance() -> None:
    windows = cut_windows([passing_users(40)], 5, 3)
    test = split(windows, "sequence", 0)
    train, held = windows.part(~test), windows.part(test)
    hidden = replace(held, future=np.ones_like(held.future))
    assert forecaster_names() == NAMES
    for name in NAMES:
        method = forecaster(name)
        state = method.state(train, 0)
        scores = method.scores(hidden, state)
        assert scores.shape == held.future.shape
        assert measure(scores, held).values[0].min() > 0.25, name
        again = method.scores(held, {key: value.copy() for key, value in state.items()})
        np.testing.assert_array_equal(again, scores, name)
    with pytest.raises(NflaeError, match="unknown beam forecaster 'oracle'"):
        forecaster("oracle")


def test_a_map_of_positions_belongs_to_its_site() -> None:
    windows = cut_windows([passing_users(20)], 5, 3)
    method = forecaster("position-map")
    state = method.state(windows, 0)
    here = measure(method.scores(windows, state), windows).values[0]
    elsewhere = replace(windows, site=windows.site + 1)
    last = measure(forecaster("repeat").scores(windows, {}), windows).values
    np.testing.assert_allclose(measure(method.scores(elsewhere, state), elsewhere).values, last)
    assert here[2] > last[0][2] + 0.1


def test_measures_equal_a_loop_and_intervals_are_over_flights() -> None:
    rng = np.random.default_rng(3)
    future = rng.exponential(size=(60, 2, 8)).astype(np.float32)
    scores = (future + rng.exponential(size=future.shape)).astype(np.float32)
    flight = np.repeat(np.arange(6), 10)
    windows = Windows(future, future, None, flight * 0, flight, flight * 0, True, flight)
    found = measure(scores, windows)
    order = np.argsort(-scores, -1)
    top1 = [[order[w, s, 0] == future[w, s].argmax() for s in range(2)] for w in range(60)]
    top3 = [[future[w, s].argmax() in order[w, s, :3] for s in range(2)] for w in range(60)]
    share = [[future[w, s, order[w, s, 0]] / future[w, s].max() for s in range(2)] for w in range(60)]
    expected = [np.mean(top1, 0), np.mean(top3, 0), -10 * np.log10(np.mean(share, 0))]
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert (found.low <= found.values).all()
    assert (found.values <= found.high).all()
    whole = np.repeat(future[:1], 60, 0)  # every flight alike inside, half of the flights wrong
    wrong = whole.copy()
    wrong[:30] = -whole[:30]
    apart = measure(wrong, replace(windows, past=whole, future=whole))
    assert apart.high[0, 0] - apart.low[0, 0] > 0.6  # 0.25 if the windows were independent
    assert np.isnan(measure(scores, replace(windows, measured=False)).values[2]).all()


def test_neighbours_with_heights_are_near_in_elevation_not_in_metres() -> None:
    rng = np.random.default_rng(5)
    count = 900
    elevation, azimuth = rng.uniform(-0.8, 0.8, count), rng.uniform(-0.4, 0.4, count)
    distance = rng.uniform(20, 140, count)
    across = distance * np.sqrt(1 - elevation**2)
    place = np.stack([across * np.cos(azimuth), across * np.sin(azimuth), distance * elevation], -1)
    future = np.eye(16, dtype=np.float32)[np.floor((elevation + 1) * 8).astype(int)][:, None] + np.float32(1e-3)
    past = np.repeat(future[:1], count, 0).repeat(2, 1)  # tells nothing
    number = np.arange(count)
    windows = Windows(past, future, place[:, None].repeat(2, 1), 0 * number, number, 0 * number, True, number)
    train, held = windows.part(number < 800), windows.part(number >= 800)
    method = forecaster("knn-position")
    assert measure(method.scores(held, method.state(train, 0)), held).values[0, 0] > 0.6


def test_few_or_equal_flights_have_no_interval() -> None:
    rng = np.random.default_rng(4)
    future = rng.exponential(size=(50, 2, 8)).astype(np.float32)
    scores = (future + rng.exponential(size=future.shape)).astype(np.float32)
    flight = np.repeat(np.arange(5), 10)
    windows = Windows(future, future, None, flight * 0, flight, flight * 0, True, flight)
    assert np.isfinite(measure(scores, windows).low).all()
    few = measure(scores[:40], windows.part(flight < 4))
    assert np.isfinite(few.values).all()
    assert np.isnan([few.low, few.high]).all()
    equal = measure(future, windows)
    np.testing.assert_array_equal(equal.values[:2], 1)
    assert np.isnan([equal.low, equal.high]).all()
    assert table_cells("repeat", few)[2] == table_cells("repeat", equal)[2] == "n too small"
    assert table_csv({"repeat": few}).decode().splitlines()[1].endswith(",,,,,,")


def test_folds_are_whole_flights_or_sites_of_similar_size() -> None:
    other = renamed(passing_users(seed=1, mast=(33.5, 0.0)), "far")
    windows = cut_windows([passing_users(), other], 5, 3)
    by_flight = folds(windows, "sequence", 0, 3)
    assert all(len(np.unique(by_flight[windows.flight == flight])) == 1 for flight in range(12))
    assert np.bincount(by_flight).tolist() == [len(windows) // 3] * 3
    by_site = folds(windows, "site", 0, 3)
    assert len(np.unique(by_site)) == 2
    assert all(len(np.unique(by_site[windows.site == site])) == 1 for site in np.unique(windows.site))
    alone = windows.part(windows.folder == 0)
    assert len(np.unique(folds(alone, "site", 0, 3))) == 3
    with pytest.raises(NflaeError, match="only one sequence remains"):
        folds(windows.part(windows.flight == 0), "sequence", 0, 3)
