"""Compute beams of the optimal structure and their SINRs in single precision, from one inverse per drop.

With M = diag(mu) and X = (Gamma + M^-1)^-1, the beams are H X up to their norms, and Gamma X = I - M^-1 X. So the gains
of beam j at user k and the energy of beam j follow from X alone: |mu_k delta_kj - X_kj|^2 / mu_k^2 and
X_jj - sum_i |X_ij|^2 / mu_i, without a product with Gamma.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import lapack

from nflae_bridge.engine.numpy_backend.solution import Solution
from simulator.interruption import check_interrupt
from simulator.problems.algebra import Complex, Real, diagonal

# Arrays without an axis, which NumPy takes in less time than numbers.
_ONE = np.array(1, np.float32)
_LEAST_DUAL = np.array(1e-8, np.float32)  # moves no rate, and keeps the beams of users without power defined
_LEAST_ENERGY = np.array(
    2.5e-7, np.float32
)  # times mu: below, differences have no digits, of beams of users next to off


class Constants(NamedTuple):
    """Hold arrays that depend on the number of users alone, not to be written to.

    Attributes
    ----------
    unit
        The unit matrix, complex64 (users, users).
    others
        0 on the diagonal, else 1, float32 (users, users).
    ones
        Ones, float32 (users, users): a product with it is the sum over users, for each user, in the least time.
    """

    unit: Complex
    others: Real
    ones: Real


@cache
def constants(users: int) -> Constants:
    """Return the constants of a number of users, the same arrays at every call.

    Parameters
    ----------
    users
        K.

    Returns
    -------
    Constants
    """
    ones = np.ones((users, users), np.float32)
    found = Constants(np.eye(users, dtype=np.complex64), ones - np.eye(users, dtype=np.float32), ones)
    for values in found:
        values.flags.writeable = False
    return found


class Answers(NamedTuple):
    """Hold answers to drops, several to each, single precision.

    Attributes
    ----------
    inverse
        X, (answers, users, users).
    power_fractions, dual_power_fractions, sinr
        P_k / P, lambda / P and SINRs, (answers, users).
    sum_rate
        bps/Hz, (answers,).
    """

    inverse: Complex
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real
    sum_rate: Real

    def select(self, answers: list[int]) -> Solution:
        """Return some of the answers, with X as coefficients."""
        chosen = slice(answers[0], answers[0] + 1) if len(answers) == 1 else answers
        return Solution(
            self.inverse[chosen],
            self.power_fractions[chosen],
            self.dual_power_fractions[chosen],
            self.sinr[chosen],
            self.sum_rate[chosen],
        )


def answers(gram: Complex, dual: Real, power_fractions: Real, refinements: int, rivals: int) -> Answers:
    """Compute beams and SINRs at given powers, after steps of `simulator.downlink.structure.wmmse_step`.

    Parameters
    ----------
    gram
        Gamma, complex64 (answers or 1, users, users).
    dual, power_fractions
        lambda / P and P_k / P, float32 (answers, users).
    refinements
        Number of steps.
    rivals
        Answers at the beginning from which no step is taken.

    Returns
    -------
    Answers
    """
    dual = dual + _LEAST_DUAL
    beams = _structured(gram, dual)
    found, received = beams.sinr(power_fractions / beams.energy)
    if refinements:
        own, power_fractions = slice(rivals, None), power_fractions.copy()
        values = (beams.inverse, power_fractions, dual, found)
        start = (beams.squared_dual[own], found[own], received[own])
        refined = _refined(gram if len(gram) == 1 else gram[own], *start, refinements)
        for first, last in zip(values, refined, strict=True):
            first[own] = last
    sum_rate = np.log2(found + _ONE).dot(constants(found.shape[1]).ones[0])
    return Answers(beams.inverse, power_fractions, dual, found, sum_rate)


class _Beams(NamedTuple):
    """Hold beams of the optimal structure, single precision.

    Attributes
    ----------
    inverse
        X, (drops, users, users).
    squared_dual
        mu^2, (drops, users).
    signal
        (mu_k - X_kk)^2, (drops, users).
    magnitude
        |X_ij|^2, 0 on the diagonal, (drops, users, users).
    energy
        X_jj - sum_i |X_ij|^2 / mu_i, (drops, users).
    """

    inverse: Complex
    squared_dual: Real
    signal: Real
    magnitude: Real
    energy: Real

    def sinr(self, level: Real) -> tuple[Real, Real]:
        """Return SINRs and mu_k^2 (1 + interference of user k over the noise), by P_k / P over the energies."""
        received = np.matvec(self.magnitude, level)
        received += self.squared_dual
        sinr = self.signal * level
        sinr /= received
        return sinr, received


def _refined(
    gram: Complex, squared_dual: Real, sinr: Real, received: Real, steps: int
) -> tuple[Complex, Real, Real, Real]:
    """Return X, P_k / P, lambda / P and SINRs after steps from mu^2 and what `_Beams.sinr` returns."""
    ones = constants(sinr.shape[1]).ones
    for _ in range(steps):
        check_interrupt()
        weight = sinr + _ONE
        share = sinr * squared_dual
        share /= received * weight  # receivers: mu cancels, but for the one in the share
        dual = share / share.dot(ones)
        dual += _LEAST_DUAL
        beams = _structured(gram, dual)
        squared_dual = beams.squared_dual
        share *= weight
        share /= squared_dual
        level = share / (share * beams.energy).dot(ones)
        sinr, received = beams.sinr(level)
    level *= beams.energy
    return beams.inverse, level, dual, sinr


def _structured(gram: Complex, dual: Real) -> _Beams:
    """Return the beams of mu > 0."""
    users = dual.shape[1]
    unit, others, _ = constants(users)
    inverse_dual = np.reciprocal(dual)
    system = np.empty((len(dual), users, users), np.complex64)
    system[:] = gram
    on_diagonal = diagonal(system).real
    on_diagonal += inverse_dual
    inverse = _inverse(system, unit)
    own = diagonal(inverse).real
    magnitude = np.abs(inverse)
    magnitude *= magnitude
    magnitude *= others
    signal = dual - own
    energy = own * signal
    energy *= inverse_dual
    energy -= np.matvec(magnitude, inverse_dual)
    np.maximum(energy, _LEAST_ENERGY * dual, out=energy)
    signal *= signal
    return _Beams(inverse, dual * dual, signal, magnitude, energy)


def _inverse(systems: Complex, unit: Complex) -> Complex:
    """Return the inverses of Hermitian positive definite matrices, contiguous; ``systems`` is overwritten."""
    if len(systems) <= _LAPACK_CALLS:
        inverse = np.empty_like(systems)
        inverse[:] = unit
        for system, result in zip(systems, inverse, strict=True):
            # Rows in memory are columns to LAPACK: the inverse of the conjugate, which its transpose undoes.
            lapack.cposv(system.T, result.T, 0, 1, 1)  # overwrites both
        return inverse
    factors = torch.linalg.cholesky_ex(torch.from_numpy(systems))[0]
    # Columns in memory: the conjugate, once more, is the contiguous form.
    inverse = torch.cholesky_inverse(factors).mT.numpy()
    return np.conjugate(inverse, out=inverse)


_LAPACK_CALLS = 6
"""Matrices up to which a call of LAPACK each takes less time than PyTorch's two for all."""
