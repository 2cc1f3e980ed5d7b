"""From paths to a frequency response: hand-computed, and against numpy's own sum."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets


def test_two_paths_by_hand() -> None:
    """1 at 0 s and 1j at 25 ns: at 10 MHz the second has turned by a quarter back, at 20 MHz by a half."""
    coefficients = torch.tensor([1.0, 1.0j], dtype=torch.complex64)
    found = frequency_response(coefficients, torch.tensor([0.0, 25e-9]), torch.tensor([0.0, 10e6, 20e6, -10e6]))
    torch.testing.assert_close(found, torch.tensor([1 + 1j, 2 + 0j, 1 - 1j, 0 + 0j], dtype=torch.complex64))


def test_subcarriers_lie_evenly_around_the_carrier() -> None:
    assert subcarrier_offsets(None, None).tolist() == [0.0]
    assert subcarrier_offsets(1, None).tolist() == [0.0]
    assert subcarrier_offsets(4, 20e6).tolist() == [-7.5e6, -2.5e6, 2.5e6, 7.5e6]
    assert subcarrier_offsets(3, 30e6).tolist() == [-10e6, 0.0, 10e6]


@given(seed=st.integers(0, 2**32 - 1), paths=st.integers(1, 30), count=st.integers(1, 9))
def test_agrees_with_the_sum_in_double_precision(seed: int, paths: int, count: int) -> None:
    """Delays to 10 us at 1 GHz: ten thousand cycles, which single precision would lose."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((2, 3, paths)) + 1j * rng.standard_normal((2, 3, paths))
    tau = rng.uniform(0, 10e-6, (2, 1, paths))
    f = rng.uniform(-1e9, 1e9, count)
    expected = (a[..., None] * np.exp(-2j * np.pi * tau[..., None] * f)).sum(-2)
    found = frequency_response(torch.from_numpy(a), torch.from_numpy(tau), torch.from_numpy(f))
    np.testing.assert_allclose(found, expected, atol=1e-8 * paths)
    single = frequency_response(torch.from_numpy(a.astype(np.complex64)), torch.from_numpy(tau), torch.from_numpy(f))
    assert single.dtype == torch.complex64
    np.testing.assert_allclose(single, expected, atol=1e-5 * paths)
