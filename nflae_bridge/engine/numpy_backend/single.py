"""Compute beams of the optimal structure and their SINRs in single precision, from one inverse per drop.

With D = diag(mu)^1/2 and B = (I + D Gamma D)^-1, the beams are H D B up to their norms, and D Gamma D B = I - B. So the
gains of beam j at user k and the energy of beam j follow from B alone: |delta_kj - B_kj|^2 / mu_k and
B_jj - sum_i |B_ij|^2, without a product with Gamma.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import lapack

from nflae_bridge.engine.numpy_backend.solution import Solution
from simulator.interruption import check_interrupt
from simulator.problems.algebra import Bool, Complex, Real, diagonal, squares, sums

# Arrays without an axis, which NumPy takes in less time than numbers.
_ONE = np.array(1, np.float32)
_LEAST_DUAL = np.array(1e-8, np.float32)  # moves no rate, and keeps the beams of users without power defined
_LEAST_ENERGY = np.array(2.5e-7, np.float32)  # below it differences have no digits, of beams of users next to off


class Beams(NamedTuple):
    """Hold beams of the optimal structure, single precision.

    Attributes
    ----------
    inverse
        B, (drops, users, users).
    signal
        (1 - B_kk)^2 / energy, real (drops, users).
    magnitude
        |B_ij|^2, 0 on the diagonal, real (drops, users, users).
    energy
        B_jj - sum_i |B_ij|^2, real (drops, users).
    """

    inverse: Complex
    signal: Real
    magnitude: Real
    energy: Real

    def sinr(self, dual: Real, power_fractions: Real) -> tuple[Real, Real]:
        """Compute the SINRs at given powers.

        Parameters
        ----------
        dual, power_fractions
            mu = lambda / P of these beams, and P_k / P, real (drops or 1, users).

        Returns
        -------
        sinr : Real
            SINRs, (drops, users).
        received : Real
            mu_k (1 + interference of user k over the noise), (drops, users).
        """
        received: Real = np.matvec(self.magnitude, power_fractions / self.energy)
        received += dual
        signal: Real = self.signal * power_fractions
        signal /= received
        return signal, received


class Constants(NamedTuple):
    """Hold arrays that depend on the number of users alone, not to be written to.

    Attributes
    ----------
    unit
        The unit matrix, complex64 (users, users).
    above
        1 above the diagonal, bool (users, users).
    """

    unit: Complex
    above: Bool


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
    unit = np.asfortranarray(np.eye(users, dtype=np.complex64))
    above = np.triu(np.ones((users, users), np.bool_), 1)
    found = Constants(unit, above)
    for values in found:
        values.flags.writeable = False
    return found


class Answers(NamedTuple):
    """Hold answers to drops, several to each, single precision.

    Attributes
    ----------
    inverse
        B, (answers, users, users).
    root
        D, (answers, users).
    power_fractions, dual_power_fractions, sinr
        P_k / P, lambda / P and SINRs, (answers, users).
    sum_rate
        bps/Hz, (answers,).
    """

    inverse: Complex
    root: Real
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real
    sum_rate: Real

    def select(self, answers: list[int]) -> Solution:
        """Return some of the answers, with D B as coefficients."""
        chosen = slice(answers[0], answers[0] + 1) if len(answers) == 1 else answers
        return Solution(
            self.inverse[chosen] * self.root[chosen, :, None],
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
    beams, root = _structured(gram, dual)
    found, received = beams.sinr(dual, power_fractions)
    computed = Answers(beams.inverse, root, power_fractions, dual, found, _sum_rate(found))
    if not refinements:
        return computed
    own = slice(rivals, None)
    gram = gram if len(gram) == 1 else gram[own]
    dual, found, received = dual[own], found[own], received[own]
    for _ in range(refinements):
        check_interrupt()
        weight = _ONE + found
        share = found * dual
        share /= received * weight  # receivers: mu cancels, but for the one in the share
        dual = share / np.add.reduce(share, 1, keepdims=True)
        dual += _LEAST_DUAL
        beams, root = _structured(gram, dual)
        power_fractions = weight * share
        power_fractions *= beams.energy
        power_fractions /= dual
        power_fractions /= np.add.reduce(power_fractions, 1, keepdims=True)
        found, received = beams.sinr(dual, power_fractions)
    refined = Answers(beams.inverse, root, power_fractions, dual, found, _sum_rate(found))
    return Answers(*(np.concatenate([first[:rivals], last]) for first, last in zip(computed, refined, strict=True)))


def _structured(gram: Complex, dual: Real) -> tuple[Beams, Real]:
    """Return the beams of mu > 0, and D."""
    root = np.sqrt(dual)
    constant = constants(root.shape[1])
    system = gram * (root[:, :, None] * root[:, None])
    system += constant.unit
    inverse = _inverse(system, constant.unit)
    own = diagonal(inverse).real
    magnitude = squares(inverse)
    diagonal(magnitude)[:] = 0
    signal = _ONE - own
    energy = own * signal
    energy -= sums(magnitude)[:, :, 0]
    np.maximum(energy, _LEAST_ENERGY, out=energy)
    signal *= signal
    signal /= energy
    return Beams(inverse, signal, magnitude, energy), root


def _sum_rate(sinr: Real) -> Real:
    return sums(np.log2(sinr + _ONE))[:, 0]


def _inverse(systems: Complex, unit: Complex) -> Complex:
    """Return the inverses of Hermitian matrices not below the unit matrix, contiguous; ``systems`` is overwritten."""
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
