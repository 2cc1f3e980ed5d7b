"""Compute beams of the optimal structure and their SINRs in single precision, from one inverse per drop.

With D = diag(mu)^1/2 and B = (I + D Gamma D)^-1, the beams are H D B up to their norms, and D Gamma D B = I - B. So the
gains of beam j at user k and the energy of beam j follow from B alone: |delta_kj - B_kj|^2 / mu_k and
B_jj - sum_i |B_ij|^2, without a product with Gamma.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.linalg import lapack

from nflae_bridge.engine.numpy_backend.solution import Solution
from simulator.interruption import check_interrupt
from simulator.problems.algebra import Complex, Real, diagonal, squares
from simulator.problems.user_gram import UserGram

_LEAST_DUAL = np.float32(1e-8)  # moves no rate, and keeps the beams of users without power defined
_LEAST_ENERGY = np.float32(2.5e-7)  # below it differences have no digits, of beams of users next to switched off


@dataclass(frozen=True)
class Beams:
    """Hold beams of the optimal structure, single precision.

    Attributes
    ----------
    inverse
        B, (drops, users, users).
    own
        Its diagonal, real (drops, users).
    magnitude
        |B_ij|^2, 0 on the diagonal, real (drops, users, users).
    energy
        B_jj - sum_i |B_ij|^2, real (drops, users).
    """

    inverse: Complex
    own: Real
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
        sent = power_fractions / self.energy
        received: Real = np.matvec(self.magnitude, sent)
        received += dual
        signal: Real = 1 - self.own
        signal *= signal
        signal *= sent
        signal /= received
        return signal, received


def regularised(drops: UserGram, equal: Real) -> Beams:
    """Compute the beams of regularised zero forcing.

    Parameters
    ----------
    drops
        Drops in single precision.
    equal
        mu = 1 / K, float32 (1, users).

    Returns
    -------
    Beams
    """
    return _beams(drops.gram * equal[0, 0])


def structured(drops: UserGram, dual: Real) -> tuple[Beams, Complex]:
    """Compute the beams of mu.

    Parameters
    ----------
    drops
        Drops in single precision.
    dual
        mu, real (drops, users), positive.

    Returns
    -------
    beams : Beams
        The beams.
    coefficients : Complex
        D B, for which the precoder's columns are those of H D B up to their norms, (drops, users, users).
    """
    root = np.sqrt(dual)
    rows = root[:, :, None]
    system = drops.gram * rows
    system *= root[:, None]
    beams = _beams(system)
    return beams, beams.inverse * rows


def refined(drops: UserGram, dual: Real, power_fractions: Real, refinements: int) -> Solution:
    """Compute the answer after steps of `simulator.downlink.structure.wmmse_step`.

    Parameters
    ----------
    drops
        Drops in single precision.
    dual, power_fractions
        lambda / P and P_k / P, real (drops, users).
    refinements
        Number of steps.

    Returns
    -------
    Solution
    """
    dual = dual + _LEAST_DUAL
    beams, coefficients = structured(drops, dual)
    found, received = beams.sinr(dual, power_fractions)
    for _ in range(refinements):
        check_interrupt()
        weight = 1 + found
        share = found * received * dual
        share /= (received * weight) ** 2  # receivers: mu cancels, but for the one in the share
        share *= weight
        dual = share / np.add.reduce(share, 1, keepdims=True) + _LEAST_DUAL
        beams, coefficients = structured(drops, dual)
        power_fractions = weight * share * beams.energy / dual
        power_fractions /= np.add.reduce(power_fractions, 1, keepdims=True)
        found, received = beams.sinr(dual, power_fractions)
    return Solution(coefficients, power_fractions, dual, found)


def _beams(system: Complex) -> Beams:
    """Return the beams of a system D Gamma D, to which the unit matrix is added in place."""
    diagonal(system)[:] += 1
    inverse = _inverse(system)
    own = diagonal(inverse).real
    magnitude = squares(inverse)
    diagonal(magnitude)[:] = 0
    energy = own * (1 - own)
    energy -= np.add.reduce(magnitude, 2)
    np.maximum(energy, _LEAST_ENERGY, out=energy)
    return Beams(inverse, own, magnitude, energy)


@cache
def _identity(users: int) -> Complex:
    return np.asfortranarray(np.eye(users, dtype=np.complex64))


def _inverse(systems: Complex) -> Complex:
    """Return the inverses of Hermitian matrices not below the unit matrix, contiguous."""
    if len(systems) == 1:
        # Rows in memory are columns to LAPACK: the inverse of the conjugate, which its transpose undoes.
        inverse: Complex = lapack.cposv(systems[0].T, _identity(systems.shape[1]), overwrite_a=True)[1].T
        return inverse[None]
    factors = torch.linalg.cholesky_ex(torch.from_numpy(systems))[0]
    # Columns in memory: the conjugate, once more, is the contiguous form.
    result: Complex = torch.cholesky_inverse(factors).mT.numpy()
    return np.conjugate(result, out=result)
