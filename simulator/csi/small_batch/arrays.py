"""Define the arrays that predictors of small batches take and return, and the Gram matrix in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complexfloating[Any, Any]]
Real = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Problem:
    """Hold Gram matrices from which coefficients are computed.

    Parameters
    ----------
    gram
        Complex128 (series, rows, history, history), see `simulator.csi.prediction.window.Predictor`.
    noise
        Noise in their diagonals, float64 (series, rows).
    ahead
        Number of snapshots to predict.
    """

    gram: Complex
    noise: Real
    ahead: int

    @cached_property
    def both_directions(self) -> Complex:
        """Gram matrices of `forward_backward`, which several predictors use."""
        return forward_backward(self.gram)

    def earlier(self) -> Problem:
        """Return the problem of predicting the last ``ahead`` known snapshots from those before them.

        Returns
        -------
        Problem
        """
        known = self.gram.shape[-1] - self.ahead
        return Problem(self.gram[..., :known, :known], self.noise, self.ahead)


class ArrayPredictor(Protocol):
    """Compute the coefficients of several problems of the same series at once.

    A `simulator.csi.prediction.window.Predictor` with this form returns it, or None, from ``array_predictor()``.
    """

    def __call__(self, problems: Sequence[Problem]) -> list[Complex]:
        """Compute coefficients.

        Parameters
        ----------
        problems
            Problems.

        Returns
        -------
        list of Complex
            complex128 (series, rows, history, ahead) per problem.
        """


def squares(values: Complex) -> Real:
    """Compute |z|^2.

    Parameters
    ----------
    values
        z, complex.

    Returns
    -------
    Real
    """
    result: Real = values.real**2 + values.imag**2
    return result


def gram_of(snapshots: Complex) -> Complex:
    """Compute R_ts = x_t^H x_s in double precision.

    Parameters
    ----------
    snapshots
        Complex (..., history, antennas).

    Returns
    -------
    Complex
        complex128 (..., history, history).
    """
    exact = snapshots.astype(np.complex128)
    result: Complex = exact.conj() @ exact.swapaxes(-1, -2)
    return result


def forward_backward(gram: Complex) -> Complex:
    """Compute `simulator.csi.prediction.temporal.forward_backward`.

    Parameters
    ----------
    gram
        Complex (..., history, history).

    Returns
    -------
    Complex
    """
    result: Complex = gram[..., ::-1, ::-1].conj()
    result += gram
    result *= 0.5
    return result


def diagonal(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return diagonals, to be read and, of contiguous arrays, written.

    Parameters
    ----------
    matrices
        (..., n, n).

    Returns
    -------
    ndarray
        (..., n).
    """
    size = matrices.shape[-1]
    return matrices.reshape(*matrices.shape[:-2], size * size)[..., :: size + 1]
