"""Iterate WMMSE for users with several receive antennas, in matrices of the size of all streams.

With h_i the channel of receive antenna i in units of sqrt(sigma^2 / P), beams w_j = sum_i c_ij h_i, and Gamma_ij =
h_i^H h_j, antenna i receives stream j with amplitude [Gamma C]_ij. T holds these amplitudes of the streams of the
antenna's own user, R the covariance of noise and other users' streams, block by block. With X = R^-1 T, the inverse of
the error matrices is E^-1 = I + T^H X, and the next beams are those of C = (X E X^H Gamma + t I)^-1 X, t = tr(X E X^H),
scaled to the power: the power constraint is folded into the noise. By the push-through identity
C = X (X^H Gamma X + t E^-1)^-1 E^-1, a system of the size of the streams.

References
----------
* Q. Shi, M. Razaviyayn, Z.-Q. Luo, C. He, "An iteratively weighted MMSE approach to distributed sum-utility
  maximization for a MIMO interfering broadcast channel", IEEE Transactions on Signal Processing, 2011.
"""

from __future__ import annotations

import math

import numpy as np

from simulator.interruption import check_interrupt
from simulator.problems.algebra import TINY, Bool, Complex, Real, diagonal


def filtered_streams(received: Complex, owner: Bool) -> tuple[Complex, Complex]:
    """Compute the MMSE filters X = R^-1 T of all streams, and E^-1 = I + T^H X.

    Parameters
    ----------
    received : ndarray
        Amplitude of every stream at every receive antenna, complex128 (drops, users, receive antennas, streams).
    owner : ndarray
        The stream is one of the user's own, bool (drops or 1, users, streams).

    Returns
    -------
    filters : ndarray
        X, complex128 (drops, users, receive antennas, streams); 0 at other users' antennas.
    inverse_errors : ndarray
        E^-1, complex128 (drops, streams, streams); 0 between streams of different users.
    """
    drops, users, antennas, streams = received.shape
    own = received * owner[:, :, None]
    others = received - own
    covariance = others @ others.conj().swapaxes(-1, -2)
    diagonal(covariance.reshape(-1, antennas, antennas))[:] += 1
    filters = np.linalg.solve(covariance, own)
    flat = (drops, users * antennas, streams)
    inverse_errors = own.reshape(flat).conj().transpose(0, 2, 1) @ filters.reshape(flat)
    diagonal(inverse_errors)[:] += 1
    return filters, inverse_errors


def sum_rates(received: Complex, owner: Bool) -> Real:
    """Compute sum_k log2 det(I + T_k^H R_k^-1 T_k), the rates of joint decoding of each user's streams.

    Parameters
    ----------
    received, owner : ndarray
        As in `filtered_streams`.

    Returns
    -------
    ndarray
        float64 (drops,), bps/Hz.
    """
    result: Real = np.linalg.slogdet(filtered_streams(received, owner)[1])[1] / math.log(2)
    return result


def block_wmmse(
    gram: Complex, received: Complex, owner: Bool, steps: int, momentum: float = 0.0
) -> tuple[Complex, Complex]:
    """Perform iterations of WMMSE; without momentum the sum rate never falls.

    Parameters
    ----------
    gram : ndarray
        Gamma of all receive antennas, complex128 (drops, users x receive antennas, users x receive antennas).
    received, owner : ndarray
        Amplitudes of the beams to start from, of total power 1, and their owners; as in `filtered_streams`.
    steps : int
        Number of iterations, at least 1.
    momentum : float
        Part of the difference of the last two iterates that is added to the last one before the next iteration.

    Returns
    -------
    coefficients : ndarray
        C of total power 1, complex128 (drops, users x receive antennas, streams).
    received : ndarray
        Its amplitudes.
    """
    shape = received.shape
    flat = (shape[0], shape[1] * shape[2], shape[3])
    coefficients = previous = np.zeros(flat, np.complex128)
    amplitudes = received.reshape(flat)
    for step in range(steps):
        check_interrupt()
        if momentum and step > 1:
            moved = coefficients + momentum * (coefficients - previous[0])
            seen = amplitudes + momentum * (amplitudes - previous[1])
            received = (seen * _unit_power((moved.conj() * seen).real.sum((1, 2)))).reshape(shape)
        else:
            received = amplitudes.reshape(shape)
        previous = np.stack([coefficients, amplitudes])
        coefficients, amplitudes = _iterated(gram, *filtered_streams(received, owner))
    return coefficients, amplitudes.reshape(shape)


def _iterated(gram: Complex, filters: Complex, inverse_errors: Complex) -> tuple[Complex, Complex]:
    """Return the next C and its amplitudes, complex128 (drops, users x receive antennas, streams)."""
    filters = filters.reshape(len(gram), gram.shape[1], -1)
    adjoint = filters.conj().transpose(0, 2, 1)
    seen = gram @ filters
    virtual = adjoint @ seen
    errors = np.linalg.inv(inverse_errors)
    trace = np.maximum((errors * (adjoint @ filters).transpose(0, 2, 1)).sum((1, 2)).real, TINY)
    mixing = np.linalg.solve(virtual + trace[:, None, None] * inverse_errors, inverse_errors)
    mixing *= _unit_power((mixing.conj() * (virtual @ mixing)).real.sum((1, 2)))
    return filters @ mixing, seen @ mixing


def _unit_power(power: Real) -> Real:
    """Return the factors of amplitudes for a power of 1, (drops, 1, 1)."""
    factor: Real = 1 / np.sqrt(np.maximum(power, TINY))
    return factor[:, None, None]
