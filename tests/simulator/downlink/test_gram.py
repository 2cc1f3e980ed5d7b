"""The Gram matrix against loops over its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from tests.simulator.definitions import draw_channels


def test_gram_is_hermitian_and_in_units_of_the_noise() -> None:
    channels = draw_channels(0, users=3, antennas=5, drops=2)
    power, noise = torch.tensor([1.0, 4.0]), torch.tensor([0.01, 0.5])
    gram = normalised_gram(channels, LinkBudget(power, noise)).numpy()
    for drop, ratio in enumerate((100.0, 8.0)):
        h = channels[drop].numpy().astype(complex)
        expected = [[ratio * np.vdot(h[i], h[j]) for j in range(3)] for i in range(3)]
        np.testing.assert_allclose(gram[drop], expected, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_unit_of_the_channels_cancels_against_the_noise(unit: float) -> None:
    channels = draw_channels(0, users=4, antennas=6)
    reference = normalised_gram(channels, LinkBudget(1.0, 0.01))
    scaled = normalised_gram(channels * unit, LinkBudget(1.0, 0.01 * unit**2))
    torch.testing.assert_close(scaled, reference, rtol=1e-5, atol=1e-5)
