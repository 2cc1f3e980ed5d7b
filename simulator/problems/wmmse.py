"""Iterate WMMSE in NumPy on (mu, q) = (lambda / P, P_k / P), in K x K matrices."""

from __future__ import annotations

import numpy as np

from simulator.interruption import check_interrupt
from simulator.problems.algebra import (
    Beams,
    Complex,
    Real,
    diagonal,
    gains_in_range,
    normalised,
    sinr,
    structured_beams,
)


def wmmse_step(
    gram: Complex, beams: Beams, power: Real, weights: Real | None = None, together: int = 1
) -> tuple[Real, Beams, Real]:
    """Perform one iteration of WMMSE on (mu, q), see `simulator.downlink.structure.wmmse_step`.

    Parameters
    ----------
    gram
        Gamma, complex128 (drops, users, users).
    beams
        Beams of the current mu.
    power
        Current q, float64 (drops, users).
    weights
        a >= 0, float64 (drops or 1, users); 1 by default.
    together
        Consecutive drops with one power for all of them.

    Returns
    -------
    dual, beams, power
        Next mu, its beams, and next q, of sum 1.
    """
    check_interrupt()
    gains = beams.effective_gains
    weight = 1 + sinr(gains, power)
    if weights is not None:
        weight *= weights
    received = 1 + np.matvec(gains, power)
    receiver = weight * diagonal(gains) * power / (received * received)
    dual = normalised(receiver, together)
    beams = structured_beams(gram, dual)
    return dual, beams, normalised(weight * receiver * beams.energy, together)


def wmmse_steps(
    gram: Complex,
    dual: Real,
    power: Real,
    steps: int,
    weights: Real | None = None,
    together: int = 1,
    in_range: bool = False,
) -> tuple[Real, Beams, Real]:
    """Perform WMMSE iterations for sum_k a_k R_k from given (mu, q).

    Parameters
    ----------
    gram, weights, together
        As in `wmmse_step`.
    dual, power
        mu and q to start from, float64 (drops, users), of sum 1.
    steps
        Number of iterations; 0 returns the beams of the start.
    in_range
        Single precision suffices for the inner products, see `UserGram`: energies may then be differences.

    Returns
    -------
    dual, beams, power
        Last mu, its beams, and last q.
    """
    if in_range:
        return _steps_in_range(gram, dual, power, steps, weights, together)
    beams = structured_beams(gram, dual)
    for _ in range(steps):
        dual, beams, power = wmmse_step(gram, beams, power, weights, together)
    return dual, beams, power


def _steps_in_range(
    gram: Complex, dual: Real, power: Real, steps: int, weights: Real | None, together: int
) -> tuple[Real, Beams, Real]:
    """Perform the iterations by `gains_in_range`, in half the time."""
    coefficients, squared, energy = gains_in_range(gram, dual)
    for _ in range(steps):
        check_interrupt()
        scaled = power / energy
        total = np.matvec(squared, scaled)
        total += 1
        signal = diagonal(squared) * scaled
        weight = total / (total - signal)
        if weights is not None:
            weight *= weights
        signal /= total
        signal /= total
        receiver = weight * signal
        dual = normalised(receiver, together)
        coefficients, squared, energy = gains_in_range(gram, dual)
        receiver *= weight
        receiver *= energy
        power = normalised(receiver, together)
    squared /= energy[:, None]
    return dual, Beams(coefficients, squared, energy), power
