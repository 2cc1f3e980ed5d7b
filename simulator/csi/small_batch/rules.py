"""Compute classical prediction coefficients in NumPy, as the rules of `simulator.csi.prediction` do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.csi.prediction.autoregressive import LEAST_RIDGE
from simulator.csi.prediction.esprit import LEAST_SHARE, NOISE_FACTOR, RIDGE, window_length
from simulator.csi.prediction.kalman import LEAST_NOISE, POLE_ERROR
from simulator.csi.small_batch.arrays import ArrayPredictor, Complex, Index, Problem, Real, diagonal, squares

Amplitudes = Callable[[Complex, Complex, Complex, Real], Complex]

_TINY = float(np.finfo(np.float64).tiny)
_LEAST_REST = 1e-12


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
    normal = np.empty((rows, ahead, order, order), gram.dtype)
    cross = np.zeros((rows, ahead, order), gram.dtype)
    total = np.zeros((rows, order, order), gram.dtype)
    for start in range(windows):
        reach = min(ahead, windows - start)
        block = gram[:, start : start + order, start : start + order + reach]
        if weights is not None:
            block = block * weights[:, start, None, None]
        total += block[:, :, :order]
        cross[:, :reach] += block[:, :, order:].swapaxes(1, 2)
        if start >= windows - ahead:
            normal[:, windows - 1 - start] = total
    return normal, cross


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
    gram, noise = problem.gram.reshape(-1, history, history), problem.noise.ravel()
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
    history = problem.gram.shape[-1]
    later = np.arange(history, history + problem.ahead)
    return _from_poles(problem, lambda poles, weights, gram, noise: weights, later)


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
    return _from_poles(problem, _states, np.arange(1, problem.ahead + 1))


def _from_poles(problem: Problem, amplitudes: Amplitudes, steps: Index) -> Complex:
    """Return the coefficients of amplitudes of poles, as combinations of snapshots, advanced by steps."""
    history = problem.gram.shape[-1]
    gram, noise = problem.gram.reshape(-1, history, history), problem.noise.ravel()
    level = np.maximum(diagonal(gram).real.mean(-1), _TINY)
    gram, noise = gram / level[:, None, None], noise / level
    found = np.empty((len(gram), history, problem.ahead), gram.dtype)
    time = np.arange(history)
    for rows, poles in _poles_by_number(gram, noise):
        waves = poles[:, None] ** time[:, None]
        adjoint = waves.conj().swapaxes(1, 2)
        normal = adjoint @ waves
        diagonal(normal)[...] += (RIDGE * np.minimum(noise[rows], 1) + LEAST_SHARE)[:, None]
        combined = amplitudes(poles, np.linalg.solve(normal, adjoint), gram[rows], noise[rows])
        found[rows] = combined.swapaxes(1, 2) @ poles[:, :, None] ** steps
    return found.reshape(*problem.gram.shape[:3], problem.ahead)


def _poles_by_number(gram: Complex, noise: Real) -> list[tuple[Index, Complex]]:
    """Compute `simulator.csi.prediction.esprit.poles_by_number`."""
    history = gram.shape[-1]
    length = window_length(history)
    windows = history - length + 1
    forward = np.zeros((len(gram), length, length), gram.dtype)
    for start in range(windows):
        forward += gram[:, start : start + length, start : start + length]
    values, vectors = np.linalg.eigh(forward.conj() + forward[:, ::-1, ::-1])
    floor = np.maximum(2 * NOISE_FACTOR * windows * noise, LEAST_SHARE * values[:, -1])
    count = (values > floor[:, None]).sum(-1).clip(1, length - 1)
    groups: list[tuple[Index, Complex]] = []
    for number in np.unique(count).tolist():
        rows = np.flatnonzero(count == number)
        space = vectors[rows, :, length - number :]
        first, last = space[:, :-1], space[:, -1, :, None]
        # least squares: first^H first = I - last^* last^T, inverted by the formula of Sherman and Morrison
        moved = first.conj().swapaxes(1, 2) @ space[:, 1:]
        rest = np.maximum(1 - squares(last).sum(1, keepdims=True), _LEAST_REST)
        poles = np.linalg.eigvals(moved + last.conj() @ (last.swapaxes(1, 2) @ moved) / rest)
        groups.append((rows, (poles / np.maximum(np.abs(poles), 1)).astype(np.complex128, copy=False)))
    return groups


def _states(poles: Complex, weights: Complex, gram: Complex, noise: Real) -> Complex:
    """Return the filtered states after the last snapshot as combinations of snapshots, (rows, poles, history)."""
    history = gram.shape[-1]
    power = ((weights.conj() @ gram) * weights).sum(-1).real
    power = np.maximum(power - noise[:, None] * squares(weights).sum(-1), 1e-3 * power)
    size = poles.shape[1]
    covariance = np.zeros((len(poles), size, size), poles.dtype)
    diagonal(covariance)[...] = power
    renewal = power * np.maximum(1 - squares(poles), 0) + POLE_ERROR * noise[:, None]
    spread = poles[:, :, None] * poles.conj()[:, None]
    states = np.zeros((len(poles), size, history), poles.dtype)
    for time in range(history):
        if time:
            states *= poles[:, :, None]
            covariance *= spread
            diagonal(covariance)[...] += renewal
        seen = covariance.sum(-1)
        gain = seen / (seen.sum(-1).real + noise + LEAST_NOISE)[:, None]
        error = -states.sum(1, keepdims=True)
        error[:, :, time] += 1
        states += gain[:, :, None] * error
        covariance -= gain[:, :, None] * seen.conj()[:, None]
    return states


ARRAY_RULES: dict[str, ArrayPredictor] = {
    "ar": _each(autoregression),
    "ar-global": _each(autoregression),
    "esprit": _each(esprit),
    "kalman": _each(kalman),
}
