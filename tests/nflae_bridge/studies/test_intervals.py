"""Intervals: against the t interval for independent values, by their coverage for correlated ones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from nflae_bridge.studies.intervals import block_length, distribution_band, mean_interval


def correlated(count: int, memory: float, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    values = np.zeros(count + 100)
    for index in range(1, len(values)):
        values[index] = memory * values[index - 1] + generator.normal()
    return values[100:]


@pytest.mark.parametrize("count", [12, 400])
def test_the_interval_of_independent_values_is_that_of_student(count: int) -> None:
    values = np.random.default_rng(count).normal(3.0, 2.0, count)
    found = mean_interval(values)
    low, high = scipy.stats.t.interval(0.95, count - 1, values.mean(), values.std(ddof=1) / math.sqrt(count))
    assert found.block == 1
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(high - low, rel=0.06)
    assert (found.low + found.high) / 2 == pytest.approx(values.mean(), abs=0.06 * (high - low))


def test_the_interval_of_correlated_values_holds_their_mean() -> None:
    generator, inside, naive = np.random.default_rng(1), 0, 0
    for _ in range(60):
        values = correlated(400, 0.8, generator)
        found = mean_interval(values)
        inside += found.low <= 0 <= found.high
        naive += abs(values.mean()) < 1.96 * values.std() / 20
    assert inside >= 50  # 0.95 x 60 = 57 ideally; an interval for independent values holds it in about 30
    assert naive < 40


def test_blocks_follow_the_correlation() -> None:
    generator = np.random.default_rng(2)
    assert block_length(generator.normal(size=1000)) == 1
    lengths = [block_length(correlated(1000, memory, generator)) for memory in (0.5, 0.95)]
    assert 3 < lengths[0] < lengths[1] <= 200
    assert block_length(np.full(100, 0.3)) == 1


def test_equal_and_single_values() -> None:
    found = mean_interval(np.zeros(50))
    assert (found.mean, found.low, found.high, found.excludes_zero) == (0, 0, 0, False)
    assert math.isnan(mean_interval([1.0]).low)
    assert mean_interval(1 + np.arange(20) / 100).excludes_zero
    assert mean_interval(-1 - np.arange(20) / 100).excludes_zero


def test_the_band_has_the_width_of_massart_and_the_steps_of_the_sample() -> None:
    values, share, low, high = distribution_band([3.0, 1.0, 2.0, 2.5] * 25)
    assert values[[0, -1]].tolist() == [1.0, 3.0]
    assert share[values <= 2.0][-1] == 0.5
    half = math.sqrt(math.log(40) / 200)
    np.testing.assert_allclose(high[40] - share[40], half)
    np.testing.assert_allclose(share[60] - low[60], half)
    assert (low.min(), high.max()) == (0, 1)
