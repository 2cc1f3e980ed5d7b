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

from nflae_bridge.engine.numpy_backend.solution import Solution, sum_rate
from simulator.interruption import check_interrupt
from simulator.problems.algebra import Complex, Real, diagonal, squares

_LEAST_DUAL = np.float32(1e-8)  # moves no rate, and keeps the beams of users without power defined
_LEAST_ENERGY = np.float32(2.5e-7)  # below it differences have no digits, of beams of users next to switched off


class Beams(NamedTuple):
    """Hold beams of the optimal structure, single precision.

    Attributes
    ----------
    inverse
        B, (drops, users, users).
    own
        Its diagonal, real (drops, users).
    signal
        (1 - own)^2 / energy, real (drops, users).
    magnitude
        |B_ij|^2, 0 on the diagonal, real (drops, users, users).
    energy
        B_jj - sum_i |B_ij|^2, real (drops, users).
    """

    inverse: Complex
    own: Real
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
    """Hold arrays that depend on the number of users alone, float32 and complex64, not to be written to.

    Attributes
    ----------
    unit
        The unit matrix, in both orders of memory, (users, users).
    others
        1 beside the diagonal, 0 on it, (users, users).
    ones
        (users,).
    equal
        1 / K, (1, users).
    """

    unit: Complex
    others: Real
    ones: Real
    equal: Real


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
    ones = np.ones(users, np.float32)
    unit = np.asfortranarray(np.eye(users, dtype=np.complex64))
    found = Constants(unit, 1 - np.eye(users, dtype=np.float32), ones, (ones / users)[None])
    for values in found:
        values.flags.writeable = False
    return found


def regularised(gram: Complex) -> Beams:
    """Compute the beams of regularised zero forcing, mu = 1 / K.

    Parameters
    ----------
    gram
        Gamma, complex64 (drops, users, users).

    Returns
    -------
    Beams
    """
    return _beams(gram * np.float32(1 / gram.shape[1]))


def structured(gram: Complex, dual: Real) -> tuple[Beams, Complex]:
    """Compute the beams of mu.

    Parameters
    ----------
    gram
        Gamma, complex64 (drops, users, users).
    dual
        mu, float32 (drops, users), positive.

    Returns
    -------
    beams : Beams
        The beams.
    coefficients : Complex
        D B, for which the precoder's columns are those of H D B up to their norms, (drops, users, users).
    """
    root = np.sqrt(dual)
    rows = root[:, :, None]
    system = gram * rows
    system *= root[:, None]
    beams = _beams(system)
    return beams, beams.inverse * rows


def refined(gram: Complex, dual: Real, power_fractions: Real, refinements: int) -> Solution:
    """Compute the answer after steps of `simulator.downlink.structure.wmmse_step`.

    Parameters
    ----------
    gram
        Gamma, complex64 (drops, users, users).
    dual, power_fractions
        lambda / P and P_k / P, float32 (drops, users).
    refinements
        Number of steps.

    Returns
    -------
    Solution
    """
    dual = dual + _LEAST_DUAL
    beams, coefficients = structured(gram, dual)
    found, received = beams.sinr(dual, power_fractions)
    for _ in range(refinements):
        check_interrupt()
        weight = 1 + found
        share = found * dual
        share /= received * weight  # receivers: mu cancels, but for the one in the share
        dual = share / np.add.reduce(share, 1, keepdims=True)
        dual += _LEAST_DUAL
        beams, coefficients = structured(gram, dual)
        power_fractions = weight * share
        power_fractions *= beams.energy
        power_fractions /= dual
        power_fractions /= np.add.reduce(power_fractions, 1, keepdims=True)
        found, received = beams.sinr(dual, power_fractions)
    return Solution(coefficients, power_fractions, dual, found, sum_rate(found))


def _beams(system: Complex) -> Beams:
    """Return the beams of a system D Gamma D, to which the unit matrix is added in place."""
    constant = constants(system.shape[1])
    system += constant.unit
    inverse = _inverse(system, constant.unit)
    own = diagonal(inverse).real
    magnitude = squares(inverse) * constant.others
    signal = 1 - own
    energy = own * signal
    energy -= np.matvec(magnitude, constant.ones)
    np.maximum(energy, _LEAST_ENERGY, out=energy)
    signal *= signal
    signal /= energy
    return Beams(inverse, own, signal, magnitude, energy)


def _inverse(systems: Complex, unit: Complex) -> Complex:
    """Return the inverses of Hermitian matrices not below the unit matrix, contiguous."""
    count = len(systems)
    if count == 1:
        # Rows in memory are columns to LAPACK: the inverse of the conjugate, which its transpose undoes.
        inverse: Complex = lapack.cposv(systems[0].T, unit, overwrite_a=True)[1].T
        return inverse[None]
    if count <= _LAPACK_CALLS:
        for system in systems:
            system[:] = lapack.cposv(system.T, unit, overwrite_a=True)[1].T
        return systems
    factors = torch.linalg.cholesky_ex(torch.from_numpy(systems))[0]
    # Columns in memory: the conjugate, once more, is the contiguous form.
    result: Complex = torch.cholesky_inverse(factors).mT.numpy()
    return np.conjugate(result, out=result)


_LAPACK_CALLS = 4
"""Matrices up to which a call of LAPACK each takes less time than PyTorch's two for all."""
