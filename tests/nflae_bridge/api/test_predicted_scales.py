"""Predictions of channels of any scale that single precision holds."""

from __future__ import annotations

import numpy as np
import pytest

from nflae_bridge import predict
from tests.nflae_bridge.live.moving_users import moving_users


@pytest.mark.parametrize("exponent", [-100, -60, 60, 120])
@pytest.mark.parametrize("geometry", ["none", "line"])
def test_a_power_of_two_scales_predictions(exponent: int, geometry: str) -> None:
    history = moving_users(16, 2, 16)
    scale = np.float32(2.0**exponent)
    expected, found = predict(history, geometry=geometry), predict(history * scale, geometry=geometry)
    assert found.method == expected.method
    np.testing.assert_allclose(found.channels / scale, expected.channels, rtol=1e-5, atol=1e-6)
