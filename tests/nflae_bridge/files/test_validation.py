"""Which drops are usable, and that a check says nothing on stderr."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress

import numpy as np
import pytest

from nflae_bridge.files.validation import BadDrop, energy_bounds, energy_range, first_bad_drop, good_drops


def test_finite_channels_of_an_energy_beyond_float32_are_usable_without_a_warning() -> None:
    channels = np.full((2, 3, 4), 1e25 + 1e25j, np.complex64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert good_drops(channels).all()
        assert first_bad_drop(channels) is None
        channels[1, 2] = 0
        assert good_drops(channels).tolist() == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, complex(0, -np.inf), complex(np.nan, 1)])
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 0, 0), (1, 2, 3)])
def test_one_number_that_is_not_finite_is_found(value: complex, place: tuple[int, int, int]) -> None:
    channels = np.ones((2, 3, 4), np.complex64)
    assert first_bad_drop(channels) is None
    channels[place] = value
    found = first_bad_drop(channels)
    assert found is not None
    assert (found.drop, found.user, found.antenna) == place
    assert found.fault == ("NaN" if np.isnan(value) else "Inf")


def test_a_user_of_zeros_is_found_and_one_of_a_single_number_is_usable() -> None:
    channels = np.ones((2, 3, 4), np.complex64)
    channels[1, 1] = 0
    assert first_bad_drop(channels) == BadDrop(1, 1, None, "zero at every antenna")
    channels[1, 1, 2] = 1e-30
    assert first_bad_drop(channels) is None


def test_bounds_hold_for_the_energies_of_all_users() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        parts = scale * rng.standard_normal((2, 3, 5, 8)) * rng.uniform(0.01, 1, (3, 5, 1))
        channels = (parts[0] + 1j * parts[1]).astype(np.complex64)
        lower, upper = energy_bounds(channels)
        least, greatest = energy_range(channels)
        assert 0 < lower <= least <= greatest <= upper


def test_an_earlier_overflow_leaves_bounds_of_nan_without_an_error() -> None:
    channels = np.full((1, 2, 3), np.nan + 1j, np.complex64)
    with suppress(OverflowError):
        math.exp(1e3)  # leaves ERANGE, which CPython's abs of NaN takes for its own
    lower, upper = energy_bounds(channels)
    assert lower == 0
    assert math.isnan(upper)
