"""Compute 95 % confidence intervals of means and of distribution functions, also of correlated drops."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 4000
_MOST_VALUES = 4096  # that are resampled; of more, means of successive ones
_CHUNK = 250  # resamples at a time, which bounds the memory


@dataclass(frozen=True)
class MeanInterval:
    """Hold a mean and its 95 % interval.

    Parameters
    ----------
    mean, low, high
        Mean, and ends of the interval; these are NaN for fewer than two values.
    block
        Length of the blocks of successive values that were resampled; 1 for independent values.
    """

    mean: float
    low: float
    high: float
    block: int

    @property
    def excludes_zero(self) -> bool:
        """Return whether 0 lies outside of the interval."""
        return self.low > 0 or self.high < 0


def mean_interval(values: npt.ArrayLike, seed: int = 0) -> MeanInterval:
    """Compute the mean of successive values and its interval by the circular block bootstrap.

    Percentiles of the resampled means, widened for few blocks by the quantile of the t distribution.

    Parameters
    ----------
    values
        Values in the order of the drops, real (drops,).
    seed
        Seed of the resampling.

    Returns
    -------
    MeanInterval
    """
    numbers = np.asarray(values, np.float64)
    count, mean = len(numbers), float(np.mean(numbers))
    if count < 2:
        return MeanInterval(mean, math.nan, math.nan, 1)
    grouped = -(-count // _MOST_VALUES)
    numbers = numbers[: count - count % grouped].reshape(-1, grouped).mean(1)
    count, block = len(numbers), block_length(numbers)
    blocks = -(-count // block)
    generator = np.random.default_rng(seed)
    total = np.concatenate([[0.0], np.cumsum(np.concatenate([numbers, numbers[:block]]) - numbers.mean())])
    sums = total[block : block + count] - total[:count]  # of the block from each value on, around the end
    means = [
        sums[generator.integers(count, size=(_CHUNK, blocks))].sum(1) / (blocks * block)
        for _ in range(_RESAMPLES // _CHUNK)
    ]
    tail = 50 * (1 - CONFIDENCE)
    spread = _small_sample_factor(count / block)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail]) * spread
    return MeanInterval(mean, mean + float(low), mean + float(high), block * grouped)


def _small_sample_factor(blocks: float) -> float:
    """Return the ratio of a t interval to the percentile interval, whose variance is small by (n - 1) / n."""
    z, freedom = 1.959964, max(blocks - 1, 1.0)
    quantile = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return quantile / z * math.sqrt((freedom + 1) / freedom)


def block_length(values: Reals) -> int:
    """Compute the length of the blocks for the circular block bootstrap from the autocorrelation.

    Parameters
    ----------
    values
        Values in order, float64 (drops,).

    Returns
    -------
    int
        1 for values without a significant autocorrelation, at most a fifth of their number.

    References
    ----------
    D. N. Politis, H. White, "Automatic block-length selection for the dependent bootstrap", Econometric Reviews 23,
    2004, with the correction of A. Patton, D. N. Politis, H. White, Econometric Reviews 28, 2009.
    """
    count = len(values)
    centred = values - values.mean()
    variance = float(centred @ centred) / count
    if count < 10 or variance <= 1e-24 * max(1.0, float(values.mean()) ** 2):
        return 1
    successive = max(5, math.ceil(math.sqrt(math.log10(count))))
    largest = min(count - 2, math.ceil(math.sqrt(count)) + successive)
    lags = np.arange(1, largest + 1)
    covariances = np.array([float(centred[lag:] @ centred[:-lag]) / count for lag in lags])
    small = np.abs(covariances / variance) < 2 * math.sqrt(math.log10(count) / count)
    runs = (small[start : start + successive].all() for start in range(len(lags)))
    significant = next((start for start, run in enumerate(runs) if run), len(lags))
    if significant == 0:
        return 1
    width = min(2 * significant, len(lags))
    taper = np.clip(2 * (1 - lags[:width] / width), 0, 1)
    weighted = taper * covariances[:width]
    spectrum = variance + 2 * weighted.sum()
    slope = 2 * (weighted * lags[:width]).sum()
    length = (1.5 * slope**2 / spectrum**2 * count) ** (1 / 3) if spectrum > 0 else count
    return int(np.clip(math.ceil(length), 1, max(1, count // 5)))


def distribution_band(values: npt.ArrayLike) -> tuple[Reals, Reals, Reals, Reals]:
    """Compute the empirical distribution function with its Dvoretzky-Kiefer-Wolfowitz band.

    The band holds the whole distribution function with 95 % probability if the values are independent.

    Parameters
    ----------
    values
        Values, real (drops,).

    Returns
    -------
    values, share, low, high : numpy.ndarray
        Values in ascending order; share of the values up to each, and ends of the band, float64 (drops,).

    References
    ----------
    P. Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18, 1990.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    share = np.arange(1, len(ordered) + 1) / len(ordered)
    half = math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * len(ordered)))
    return ordered, share, np.maximum(share - half, 0), np.minimum(share + half, 1)
