"""Which drops are usable, and that a check says nothing on stderr."""

from __future__ import annotations

import warnings

import numpy as np

from nflae_bridge.files.validation import first_bad_drop, good_drops


def test_finite_channels_of_an_energy_beyond_float32_are_usable_without_a_warning() -> None:
    channels = np.full((2, 3, 4), 1e25 + 1e25j, np.complex64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert good_drops(channels).all()
        assert first_bad_drop(channels) is None
        channels[1, 2] = 0
        assert good_drops(channels).tolist() == [True, False]
