"""Combine predictors by hindsight in NumPy, as `simulator.csi.prediction.hindsight` and `.registry` do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.csi.prediction.hindsight import EXPONENT, JUDGED_ROWS, LEAST_ERROR, LEAST_NOISE_SHARE, SHARE
from simulator.csi.small_batch.arrays import ArrayPredictor, Complex, Problem, Real
from simulator.csi.small_batch.preparation import PreparedArrays


def combine(
    prepared: PreparedArrays, predictors: Sequence[ArrayPredictor], priority: Sequence[float], ahead: int
) -> tuple[Complex, Real, Real]:
    """Predict with several predictors, weighted by their errors on the last known snapshots.

    Parameters
    ----------
    prepared
        Window of `simulator.csi.prediction.hindsight.LEAST_HISTORY` snapshots at least.
    predictors
        Predictors.
    priority
        p_m of each predictor.
    ahead
        Number of snapshots to predict.

    Returns
    -------
    channels
        complex64 (series, ahead, antennas).
    error_db
        float64 (series, ahead), dB.
    weights
        float64 (series, predictors).
    """
    gram, noise = prepared.problem.gram, prepared.problem.noise
    judged = max(1, min(ahead, gram.shape[-1] // SHARE))
    later, rows = Problem(gram, noise, ahead), slice(0, JUDGED_ROWS)
    known = Problem(gram[:, rows], noise[:, rows], judged)
    problems = later, known.earlier()
    found = [predictor(problems) for predictor in predictors]
    cross, share = _look_back(known, prepared.shares[:, rows], [early for _, early in found])
    least = LEAST_NOISE_SHARE * share + LEAST_ERROR
    errors = np.maximum(np.diagonal(cross, axis1=2, axis2=3).mean(1), least[:, None])
    weights = np.asarray(priority) / errors**EXPONENT
    weights /= weights.sum(1, keepdims=True)
    mixed = (weights[:, None, None] @ cross @ weights[:, None, :, None])[..., 0, 0]
    error_db = 10 * np.log10(np.maximum(mixed, least[:, None]))[:, np.minimum(np.arange(ahead), judged - 1)]
    coefficients = found[0][0] * weights[:, 0, None, None, None]
    for index, (whole, _) in enumerate(found[1:], 1):
        coefficients += whole * weights[:, index, None, None, None]
    return prepared.apply(coefficients), error_db, weights


def _look_back(known: Problem, shares: Real, found: Sequence[Complex]) -> tuple[Real, Real]:
    """Return `simulator.csi.prediction.hindsight.Hindsight`'s cross products and noise."""
    gram, noise, judged = known.gram, known.noise, known.ahead
    series, rows, history, _ = gram.shape
    last = history - judged
    deviation = np.zeros((series, rows, judged, len(found), history), gram.dtype)
    for index, coefficients in enumerate(found):
        deviation[..., index, :last] = coefficients.swapaxes(-1, -2)
    steps = np.arange(judged)
    deviation[:, :, steps, :, last + steps] = -1
    seen = (deviation.reshape(series, rows, -1, history) @ gram.swapaxes(-1, -2)).reshape(deviation.shape)
    cross = (deviation.conj() @ seen.swapaxes(-1, -2)).real - noise[..., None, None, None]
    signal = (np.maximum(1 - noise, 0.02) * shares).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a series of zeros
        relative = (cross * shares[..., None, None, None]).sum(1) / signal[:, None, None, None]
        return relative, (noise * shares).sum(1) / signal
