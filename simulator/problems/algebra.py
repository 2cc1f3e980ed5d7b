"""State the optimal structure and WMMSE in NumPy, in K x K matrices.

For one drop of ten users the arithmetic takes 60 us, and the overhead of PyTorch's operations 2 ms. Here the
mathematics of `simulator.downlink.structure`, `.sinr` and `.gram` is stated a second time for algorithms of many small
operations; `tests/simulator/problems/test_algebra.py` and `tests/nflae_bridge/engine/test_numpy_backend.py` compare the
two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

Complex = npt.NDArray[np.complexfloating[Any, Any]]
Real = npt.NDArray[np.floating[Any]]
Bool = npt.NDArray[np.bool_]

TINY = float(np.finfo(np.float64).tiny)
_ROUNDING = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Beams:
    """Hold beam directions of the optimal structure, as `simulator.downlink.structure.Beams` does.

    Attributes
    ----------
    coefficients
        C, complex128 (drops, users, users).
    effective_gains
        F, float64 (drops, users, users).
    energy
        ||H c_k||^2 P / sigma^2, float64 (drops, users).
    """

    coefficients: Complex
    effective_gains: Real
    energy: Real


def structured_beams(gram: Complex, dual: Real) -> Beams:
    """Compute the beams of C = (I + diag(mu) Gamma)^-1, see `simulator.downlink.structure.structured_beams`.

    Parameters
    ----------
    gram
        Gamma, complex128 (drops, users, users).
    dual
        mu = lambda / P >= 0, float64 (drops, users).

    Returns
    -------
    Beams
    """
    return formed_beams(gram, *structured_coefficients(gram, dual))


def beams_in_range(gram: Complex, dual: Real) -> Beams:
    """Compute the same in fewer operations where single precision suffices for the inner products.

    Parameters
    ----------
    gram, dual
        As in `structured_beams`.

    Returns
    -------
    Beams
    """
    coefficients, squared, energy = gains_in_range(gram, dual)
    squared /= energy[:, None]
    return Beams(coefficients, squared, energy)


def gains_in_range(gram: Complex, dual: Real) -> tuple[Complex, Real, Real]:
    """Compute C, |T|^2 with T = Gamma C, and the energies of the beams, where single precision suffices.

    C = I - diag(mu) T, so that the energies are T_kk - sum_i mu_i |T_ik|^2, differences of numbers that are then not
    nearly equal.

    Parameters
    ----------
    gram, dual
        As in `structured_beams`.

    Returns
    -------
    coefficients
        C, complex128 (drops, users, users).
    squared
        |T|^2, float64 (drops, users, users); over the energies of the columns, the effective gains.
    energy
        float64 (drops, users).
    """
    coefficients, received = structured_coefficients(gram, dual)
    squared = squares(received)
    energy = np.maximum(diagonal(received).real - np.vecmat(dual, squared), TINY)
    return coefficients, squared, energy


def structured_coefficients(gram: Complex, dual: Real) -> tuple[Complex, Complex]:
    """Compute C = (I + diag(mu) Gamma)^-1 and Gamma C.

    Parameters
    ----------
    gram, dual
        As in `structured_beams`.

    Returns
    -------
    coefficients, received
        complex128 (drops, users, users).
    """
    system = dual[:, :, None] * gram
    diagonal(system)[:] += 1
    coefficients = inverse(system)
    return coefficients, gram @ coefficients


def formed_beams(gram: Complex, coefficients: Complex, received: Complex) -> Beams:
    """Compute effective gains and energies of the beams of coefficients.

    Parameters
    ----------
    gram
        Gamma, complex128 (drops, users, users).
    coefficients, received
        C and Gamma C, complex128 (drops, users, beams).

    Returns
    -------
    Beams
    """
    energy: Real = np.vecdot(coefficients, received, axis=1).real  # type: ignore[call-overload]  # its stub lacks axis
    energy = np.maximum(energy, 0)
    gains = diagonal(gram).real
    rounding = _ROUNDING * np.vecmat(gains, squares(coefficients))
    least = np.maximum(np.maximum(energy, rounding), TINY)
    return Beams(coefficients, np.minimum(squares(received) / least[:, None], gains[:, :, None]), energy)


def sinr(effective_gains: Real, power: Real) -> Real:
    """Compute SINR_k = F_kk q_k / (1 + sum_{j != k} F_kj q_j).

    Parameters
    ----------
    effective_gains
        F, float64 (drops, users, users).
    power
        q, float64 (drops, users).

    Returns
    -------
    ndarray
        SINRs, linear, float64 (drops, users).
    """
    received = effective_gains * power[:, None]
    signal = diagonal(received).copy()
    diagonal(received)[:] = 0  # the sum without the signal, not the sum minus it
    result: Real = signal / (1 + np.add.reduce(received, 2))
    return result


def exact_gram(channels: Complex, factor: Real) -> Complex:
    """Compute Gamma with sums in double precision.

    Parameters
    ----------
    channels
        Complex (drops, users, antennas).
    factor
        P / sigma^2, float64 (drops or 1, 1, 1).

    Returns
    -------
    ndarray
        complex128 (drops, users, users).
    """
    scaled = channels * np.sqrt(factor).astype(np.complex128)
    result: Complex = scaled.conj() @ scaled.transpose(0, 2, 1)
    return result


def rates(sinr_linear: Real) -> Real:
    """Compute R_k = log2(1 + SINR_k).

    Parameters
    ----------
    sinr_linear
        SINRs, linear.

    Returns
    -------
    ndarray
        Rates, bps/Hz, of the same shape.
    """
    result: Real = np.log2(1 + sinr_linear)
    return result


def normalised(values: Real, together: int = 1) -> Real:
    """Scale non-negative values to the sum 1 over users and the drops that belong together.

    Parameters
    ----------
    values
        float64 (drops, users).
    together
        Consecutive drops that belong together.

    Returns
    -------
    ndarray
        float64 (drops, users); zeros where all values are.
    """
    total = np.add.reduce(values, 1, keepdims=True)
    if together > 1:
        total = np.repeat(np.add.reduce(total.reshape(-1, together), 1, keepdims=True), together, 0)
    result: Real = values / np.maximum(total, TINY)
    return result


def inverse(system: Complex) -> Complex:
    """Invert matrices whose eigenvalues are at least 1.

    Parameters
    ----------
    system
        complex128 (drops, n, n); may be overwritten.

    Returns
    -------
    ndarray
        complex128 (drops, n, n).
    """
    if len(system) > 1:
        try:
            result: Complex = np.linalg.inv(system)
            return result
        except np.linalg.LinAlgError:  # identical users at 160 dB: 1 is lost beside their gains
            return np.concatenate([inverse(one[None]) for one in system])
    # LAPACK itself takes half the time for one matrix; rows in memory are columns to it, also in the result.
    factors, pivots, _ = lapack.zgetrf(system[0].T, overwrite_a=True)
    inverted: Complex = lapack.zgetri(factors, pivots, overwrite_lu=True)[0].T
    return inverted[None]


def diagonal(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return diagonals to read and write; NumPy's function takes ten times as long.

    Parameters
    ----------
    matrices
        Contiguous (drops, n, n).

    Returns
    -------
    ndarray
        View, (drops, n).
    """
    return matrices.reshape(len(matrices), -1)[:, :: matrices.shape[1] + 1]


def squares(values: Complex) -> Real:
    """Compute |z|^2 in half the time that squares of the parts take.

    Parameters
    ----------
    values
        z, complex.

    Returns
    -------
    ndarray
        Real, of the same shape.
    """
    result: Real = (values * values.conj()).real
    return result


def sums(values: Real) -> Real:
    """Return sums over the last axis, which stays: a product with ones takes half the time of `numpy.add.reduce`.

    Parameters
    ----------
    values
        Real (..., n), contiguous.

    Returns
    -------
    ndarray
        Real (..., 1).
    """
    result: Real = values.reshape(-1, values.shape[-1]).dot(_ones(values.shape[-1], values.dtype))
    return result.reshape(*values.shape[:-1], 1)


@cache
def _ones(count: int, precision: np.dtype[Any]) -> Real:
    return np.ones(count, precision)


def extremes(values: Real) -> tuple[float, float]:
    """Return the smallest and the largest of some numbers.

    Parameters
    ----------
    values
        Real, of any shape, without NaN.

    Returns
    -------
    smallest, largest
        Python's numbers.
    """
    if values.size <= _FEW:  # Python's functions take less time
        numbers = values.reshape(-1).tolist()
        return min(numbers), max(numbers)
    return float(np.minimum.reduce(values, None)), float(np.maximum.reduce(values, None))


_FEW = 32


def gains_and_coherence(gram: Complex) -> tuple[Real, Real]:
    """Return users' gains and the squared coherences of their channels.

    Parameters
    ----------
    gram
        Gamma, complex128 (drops, users, users), contiguous.

    Returns
    -------
    gains
        float64 (drops, users), > 0.
    coherence
        float64 (drops, users, users), 0 on the diagonal.
    """
    gains = np.maximum(diagonal(gram).real, 1e-30)
    coherence = np.minimum(squares(gram) / (gains[:, :, None] * gains[:, None]), 1.0)
    diagonal(coherence)[:] = 0
    return gains, coherence
