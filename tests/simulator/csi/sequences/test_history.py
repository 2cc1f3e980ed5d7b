"""Gaps and times of sequences: moving plane waves whose values between snapshots are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.sequences.history import (
    check_gaps,
    check_times,
    fill_gaps,
    find_gaps,
    interpolate,
    take_snapshots,
)


def wave(times: Tensor, turns: float, antennas: int = 8) -> Tensor:
    """A plane wave whose phase turns by ``turns`` cycles per slot, (times, antennas)."""
    phase = 2 * math.pi * (turns * times.unsqueeze(-1) + 0.2 * torch.arange(antennas))
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)


def name(index: int) -> str:
    return f"drop {index + 1}"


SLOTS = torch.arange(16, dtype=torch.float64)


def test_nan_inf_and_zero_snapshots_are_gaps_one_antenna_of_zero_is_not() -> None:
    channels = wave(SLOTS, 0.1)[:, None].repeat(1, 4, 1)
    channels[2, 0, 5] = complex(math.nan, 0)
    channels[3, 1, 0] = complex(0, math.inf)
    channels[4, 2] = 0
    channels[5, 3, 1] = 0
    assert find_gaps(channels).nonzero().tolist() == [[2, 0], [3, 1], [4, 2]]
    taken = take_snapshots(channels)
    assert bool(taken.channels.abs().isfinite().all())
    assert taken.missing.sum() == 3


@pytest.mark.parametrize("turns", [0.0, 0.11, -0.4])
@pytest.mark.parametrize("gap", [0, 7, 15])
def test_a_gap_in_a_turning_wave_is_filled_exactly(turns: float, gap: int) -> None:
    series = torch.stack([wave(SLOTS, turns), wave(SLOTS, -turns)])
    missing = torch.zeros(2, 16, dtype=torch.bool)
    missing[1, gap] = True
    holed = torch.where(missing.unsqueeze(-1), 0, series)
    torch.testing.assert_close(fill_gaps(holed, missing), series, atol=2e-5, rtol=0)
    assert not holed[1, gap].any(), "the argument is not changed"


def test_a_series_of_gaps_alone_stays_zero() -> None:
    nothing = torch.zeros(1, 4, 3, dtype=torch.complex64)
    assert not fill_gaps(nothing, torch.ones(1, 4, dtype=torch.bool)).any()


def test_interpolation_is_linear_in_amplitude() -> None:
    places = torch.tensor([0.0, 1.0], dtype=torch.float64)
    known = torch.tensor([[1.0 + 0j], [3.0 + 0j]], dtype=torch.complex64)
    found = interpolate(known, places, torch.tensor([-1.0, 0.25, 1.0, 5.0], dtype=torch.float64))
    torch.testing.assert_close(found.real.squeeze(), torch.tensor([1.0, 1.5, 3.0, 3.0]))
    wide = interpolate(known, 4 * places, torch.tensor([1.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(wide.real.squeeze(), torch.tensor([1.5, 2.5]))


def test_a_quarter_of_gaps_is_filled_more_is_refused_by_name() -> None:
    missing = torch.zeros(16, 3, dtype=torch.bool)
    assert check_gaps(missing, name) is None
    missing[[3, 4, 9, 10], 1] = True
    assert "drop 4, user 2" in str(check_gaps(missing, name))
    assert "4 such gaps are filled" in str(check_gaps(missing, name))
    missing[12, 1] = True
    with pytest.raises(NflaeError, match="drop 4, user 2: NaN, Inf or zero at every antenna; 5 of the 16 snapshots"):
        check_gaps(missing, name)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([0.0, 1.0, 1.0, 2.0], "snapshot 3 at 1 s follows snapshot 2 at 1 s"),
        ([0.0, 2.0, 1.0, 3.0], "snapshot 3 at 1 s follows snapshot 2 at 2 s"),
        ([0.0, math.nan, 1.0, 3.0], "snapshot 2 is not finite"),
        ([0.0, 1.0], "one number per snapshot, 4"),
    ],
)
def test_times_that_are_none(times: list[float], told: str) -> None:
    with pytest.raises(NflaeError, match=told):
        check_times(torch.tensor(times, dtype=torch.float64), 4)


def test_even_times_change_nothing_but_state_the_spacing() -> None:
    channels = wave(SLOTS, 0.1)[:, None]
    taken = take_snapshots(channels, 7 + 2.5e-4 * SLOTS)
    assert taken.spacing == pytest.approx(2.5e-4)
    assert not taken.notes
    assert torch.equal(taken.channels, channels)


def test_uneven_times_are_resampled_and_said() -> None:
    jitter = torch.tensor(np.random.default_rng(1).uniform(-0.2, 0.2, 16))
    places = SLOTS + jitter
    channels = torch.stack([wave(places, 0.07), wave(places, -0.02)], dim=1)
    taken = take_snapshots(channels, 1e-3 * places)
    assert taken.spacing is not None
    grid = places[-1] + taken.spacing / 1e-3 * torch.arange(1 - len(taken.channels), 1)
    assert "resampled to" in taken.notes[0]
    inside = grid > places[0]
    for user, turns in enumerate((0.07, -0.02)):
        error = (taken.channels[inside, user] - wave(grid[inside], turns)).abs().max()
        assert float(error) < 0.05
    torch.testing.assert_close(taken.channels[-1], channels[-1], atol=1e-5, rtol=0)


def test_a_missing_instant_is_a_gap_and_too_many_are_refused() -> None:
    there = SLOTS[torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])]
    taken = take_snapshots(wave(there, 0.1)[:, None], there)
    assert taken.missing.squeeze().nonzero().squeeze(-1).tolist() == [4]
    assert len(taken.channels) == 9
    assert not taken.channels[4].any()
    sparse = SLOTS[torch.tensor([0, 1, 2, 3, 9, 10])]
    with pytest.raises(NflaeError, match=r"5 of 11 instants 1000 ms apart .* snapshots 4 and 5"):
        take_snapshots(wave(sparse, 0.1)[:, None], sparse)


@pytest.mark.parametrize("last", [1e12, 1e300, 1.7e308])
def test_times_far_apart_are_refused_before_memory_is_taken(last: float) -> None:
    times = torch.tensor([-last, *range(6), last], dtype=torch.float64)
    with pytest.raises(NflaeError, match=r"unevenly spaced: .* between snapshots"):
        take_snapshots(torch.ones(8, 1, 4, dtype=torch.complex64), times)
