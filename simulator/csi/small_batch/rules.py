"""Compute classical prediction coefficients in NumPy, as the rules of `simulator.csi.prediction` do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from simulator.csi.prediction.autoregressive import LEAST_RIDGE
from simulator.csi.prediction.esprit import LEAST_SHARE, NOISE_FACTOR, RIDGE, window_length
from simulator.csi.prediction.kalman import LEAST_NOISE, POLE_ERROR
from simulator.csi.small_batch.arrays import ArrayPredictor, Complex, Index, Problem, Real, diagonal, squares

_TINY = float(np.finfo(np.float64).tiny)
_LEAST_REST = 1e-12
_FEW_ROWS = 16  # up to which one call of all eigenvalue problems takes less time than one per size
_LEAST_POLE = 1e-9  # below it, the eigenvalue of a pole that is absent


def sums_of_windows(gram: Complex, order: int, ahead: int, weights: Real | None = None) -> tuple[Complex, Complex]:
    """Compute `simulator.csi.prediction.temporal.window_sums`.

    Parameters
    ----------
    gram
        Complex (rows, history, history).
    order, ahead
        Length of the windows and largest horizon.
    weights
        Factor per window, real (rows, history - order), or None.

    Returns
    -------
    normal, cross
        Complex (rows, ahead, order, order) and (rows, ahead, order).
    """
    rows, history, _ = gram.shape
    windows = history - order
    padded = np.zeros((rows, history, history + ahead), gram.dtype)
    padded[..., :history] = gram
    normal = np.empty((rows, ahead, order, order), gram.dtype)
    total = np.zeros((rows, order, order + ahead), gram.dtype)
    weighted = np.empty_like(total)
    for start in range(windows):
        block = padded[:, start : start + order, start : start + order + ahead]
        if weights is not None:
            block = np.multiply(block, weights[:, start, None, None], out=weighted)
        total += block
        if start >= windows - ahead:
            normal[:, windows - 1 - start] = total[..., :order]
    return normal, total[..., order:].swapaxes(1, 2)


def autoregression(problem: Problem) -> Complex:
    """Compute `simulator.csi.prediction.autoregressive.autoregressive`.

    Parameters
    ----------
    problem
        Gram matrices, noise and horizon.

    Returns
    -------
    Complex
        complex128 (series, rows, history, ahead).
    """
    series, rows, history, _ = problem.gram.shape
    gram, noise = problem.both_directions.reshape(-1, history, history), problem.noise.ravel()
    order = max(1, history // 2)
    direct = min(problem.ahead, history - order)
    normal, cross = sums_of_windows(gram, order, direct)
    trace = diagonal(gram).real.sum(-1)
    diagonal(normal)[...] += np.maximum(np.maximum(noise, LEAST_RIDGE * trace), _TINY)[:, None, None]
    taps = np.linalg.solve(normal, cross[..., None])[..., 0]
    found = np.zeros((len(gram), history, direct), gram.dtype)
    found[:, history - order :] = taps.swapaxes(1, 2)
    return _iterated(found, problem.ahead).reshape(series, rows, history, problem.ahead)


def _each(rule: Callable[[Problem], Complex]) -> ArrayPredictor:
    return lambda problems: [rule(problem) for problem in problems]


def _iterated(coefficients: Complex, ahead: int) -> Complex:
    """Compute `simulator.csi.prediction.temporal.iterate_coefficients`."""
    rows, history, direct = coefficients.shape
    if ahead <= direct:
        return coefficients
    basis = np.broadcast_to(np.eye(history, dtype=coefficients.dtype), (rows, history, history))
    known = np.concatenate([basis, coefficients], -1)
    longest = coefficients[:, :, -1:]
    for _ in range(ahead - direct):
        end = known.shape[-1] - direct + 1
        known = np.concatenate([known, known[:, :, end - history : end] @ longest], -1)
    return known[:, :, history:]


def esprit(problem: Problem) -> Complex:
    """Compute `simulator.csi.prediction.esprit.esprit`.

    Parameters
    ----------
    problem
        Gram matrices, noise and horizon.

    Returns
    -------
    Complex
        complex128 (series, rows, history, ahead).
    """
    found = _Amplitudes.of(problem)
    history = problem.gram.shape[-1]
    coefficients: Complex = found.weights.swapaxes(1, 2) @ found.waves[:, history:].swapaxes(1, 2)
    return coefficients.reshape(*problem.gram.shape[:3], problem.ahead)


def kalman(problem: Problem) -> Complex:
    """Compute `simulator.csi.prediction.kalman.kalman`.

    Parameters
    ----------
    problem
        Gram matrices, noise and horizon.

    Returns
    -------
    Complex
        complex128 (series, rows, history, ahead).
    """
    found = _Amplitudes.of(problem)
    history = problem.gram.shape[-1]
    correlation = (_variances(found, history) @ found.waves.swapaxes(1, 2)).reshape(len(found.poles), -1)
    places, targets = _lags(history, problem.ahead)
    matrix = np.concatenate([correlation, correlation.conj()], 1).take(places, 1)
    diagonal(matrix)[...] += (found.noise + LEAST_NOISE)[:, None]
    coefficients: Complex = np.linalg.solve(matrix, correlation.take(targets, 1))
    return coefficients.reshape(*problem.gram.shape[:3], problem.ahead)


@dataclass(frozen=True, eq=False)
class _Amplitudes:
    """Hold the poles of each row and their amplitudes; rows with fewer poles are filled up with zeros.

    ``poles`` z, complex128 (rows, poles); ``waves`` z^t, (rows, history + ahead, poles); ``weights`` of the snapshots
    for the amplitudes, (rows, poles, history); ``gram`` and ``noise`` at a mean diagonal of 1.
    """

    poles: Complex
    waves: Complex
    weights: Complex
    gram: Complex
    noise: Real

    @staticmethod
    def of(problem: Problem) -> _Amplitudes:
        history = problem.gram.shape[-1]
        gram, noise = problem.gram.reshape(-1, history, history), problem.noise.ravel()
        scale = 1 / np.maximum(diagonal(gram).real.mean(-1), _TINY)
        gram, noise = gram * scale[:, None, None], noise * scale
        poles = _poles(gram, noise)
        waves = np.empty((len(poles), history + problem.ahead, poles.shape[1]), poles.dtype)
        waves[:, 0] = poles != 0
        waves[:, 1:] = poles[:, None]
        np.cumprod(waves, 1, out=waves)
        adjoint = waves[:, :history].conj().swapaxes(1, 2)
        normal = adjoint @ waves[:, :history]
        diagonal(normal)[...] += (RIDGE * np.minimum(noise, 1) + LEAST_SHARE)[:, None]
        return _Amplitudes(poles, waves, np.linalg.solve(normal, adjoint), gram, noise)


def _poles(gram: Complex, noise: Real) -> Complex:
    """Compute `simulator.csi.prediction.esprit.poles_by_number`, absent poles zero, complex128 (rows, poles)."""
    history = gram.shape[-1]
    length = window_length(history)
    windows = history - length + 1
    forward = np.zeros((len(gram), length, length), gram.dtype)
    for start in range(windows):
        forward += gram[:, start : start + length, start : start + length]
    values, vectors = np.linalg.eigh(forward.conj() + forward[:, ::-1, ::-1])
    floor = np.maximum(2 * NOISE_FACTOR * windows * noise, LEAST_SHARE * values[:, -1])
    count = (values > floor[:, None]).sum(-1).clip(1, length - 1)
    most = int(count.max(initial=1))
    space = vectors[:, :, length - most :] * (np.arange(most) >= most - count[:, None])[:, None]
    first, last = space[:, :-1], space[:, -1, :, None]
    # least squares: first^H first = I - last^* last^T, inverted by the formula of Sherman and Morrison
    moved = first.conj().swapaxes(1, 2) @ space[:, 1:]
    rest = np.maximum(1 - squares(last).sum(1, keepdims=True), _LEAST_REST)
    turns = moved + last.conj() @ (last.swapaxes(1, 2) @ moved) / rest
    poles = np.zeros(turns.shape[:2], np.complex128)
    sizes = count if len(count) > _FEW_ROWS else np.full_like(count, most)
    for number in set(sizes.tolist()):  # the rest of the matrix is zero
        alike = sizes == number
        poles[alike, most - number :] = np.linalg.eigvals(turns[alike, most - number :, most - number :])
    size = np.abs(poles)
    return np.where(size > _LEAST_POLE, poles / np.maximum(size, 1), 0)


def _variances(found: _Amplitudes, history: int) -> Real:
    """Return the variances of the states at every snapshot, float64 (rows, history, poles)."""
    weights, noise = found.weights, found.noise
    power = ((weights.conj() @ found.gram) * weights).sum(-1).real
    power = np.maximum(power - noise[:, None] * squares(weights).sum(-1), 1e-3 * power)
    decay = squares(found.waves[:, :history])
    result: Real = power[:, None] + POLE_ERROR * noise[:, None, None] * (decay.cumsum(1) - decay)
    return result


@cache
def _lags(history: int, ahead: int) -> tuple[Index, Index]:
    """Return the places of pairs of known snapshots, and of known and future ones, in an array of (snapshot, lag).

    Those of a later and an earlier snapshot are in the complex conjugate, which follows the array.
    """
    lags, row, column = history + ahead, np.arange(history)[:, None], np.arange(history + ahead)
    places: Index = np.minimum(row, column) * lags + np.abs(column - row) + (column < row) * (history * lags)
    return places[:, :history], places[:, history:]


ARRAY_RULES: dict[str, ArrayPredictor] = {
    "ar": _each(autoregression),
    "ar-global": _each(autoregression),
    "esprit": _each(esprit),
    "kalman": _each(kalman),
}
