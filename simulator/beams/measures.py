"""Measure beam forecasts: share of hits among the best one and three beams, and power loss, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.beams.windows import Windows

__all__ = ["MEASURES", "Measured", "hits", "measure"]

MEASURES = ("top1", "top3", "loss_db")
_DRAWS = 1000
_QUANTILES = (0.025, 0.975)
_FEWEST = 5  # flights; the extremes of fewer have more than 5 % of the draws


@dataclass(frozen=True)
class Measured:
    """Hold the measures of a forecaster per sample ahead.

    Parameters
    ----------
    values
        top1 and top3, shares from 0 to 1, and loss_db, float64 (3, ahead); loss_db is NaN without measured powers.
    low, high
        Ends of the 95 % intervals over flights, float64 (3, ahead); NaN where there are too few flights for one.
    """

    values: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def hits(scores: npt.NDArray[np.float32], future: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Evaluate each window.

    Parameters
    ----------
    scores
        Scores (windows, ahead, beams).
    future
        Powers (windows, ahead, beams).

    Returns
    -------
    numpy.ndarray
        float64 (3, windows, ahead): whether the strongest beam has the best score, whether it has one of the best
        three, and the power of the beam with the best score over that of the strongest.
    """
    best = future.argmax(-1)[..., None]
    order = np.argsort(-scores, -1, kind="stable")[..., :3]
    received = np.take_along_axis(future, order[..., :1], -1)[..., 0] / future.max(-1)
    return np.stack([(order[..., :1] == best).any(-1), (order == best).any(-1), received]).astype(np.float64)


def measure(scores: npt.NDArray[np.float32], windows: Windows, seed: int = 0) -> Measured:
    """Average over windows, with intervals of 1,000 bootstrap draws of whole flights.

    Windows of one flight are alike: intervals that took them for independent would be too short. Draws of fewer than
    five flights, or of flights with equal results, do not show how others differ: there is no interval then.

    Parameters
    ----------
    scores
        Scores (windows, ahead, beams).
    windows
        The windows.
    seed
        Seed of the draws.

    Returns
    -------
    Measured
    """
    each = hits(scores, windows.future)
    flights, group = np.unique(windows.flight, return_inverse=True)
    sums = np.zeros((len(flights), 3, windows.ahead))
    np.add.at(sums, group, each.swapaxes(0, 1))
    sizes = np.bincount(group).astype(np.float64)
    draws = np.random.default_rng(seed).multinomial(len(flights), np.full(len(flights), 1 / len(flights)), _DRAWS)
    drawn = np.tensordot(draws, sums, 1) / (draws @ sizes)[:, None, None]
    low, high = np.quantile(drawn, _QUANTILES, 0)
    values = each.mean(1)
    if windows.measured:
        values[2], low[2], high[2] = (np.abs(10 * np.log10(np.clip(part[2], 1e-30, 1))) for part in (values, high, low))
    else:
        values[2] = low[2] = high[2] = np.nan
    unknown = np.isclose(high, low, rtol=1e-9, atol=1e-12) | (len(flights) < _FEWEST)
    low[unknown] = high[unknown] = np.nan
    return Measured(values, low, high)
