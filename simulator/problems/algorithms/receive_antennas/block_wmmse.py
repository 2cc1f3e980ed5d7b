"""Iterate WMMSE for users with several receive antennas, in matrices of the size of all streams.

With h_i the channel of receive antenna i in units of sqrt(sigma^2 / P), beams w_j = sum_i c_ij h_i, and Gamma_ij =
h_i^H h_j, antenna i receives stream j with amplitude [Gamma C]_ij. T holds these amplitudes of the streams of the
antenna's own user, R the covariance of noise and other users' streams, block by block. With X = R^-1 T, the inverse of
the error matrices is E^-1 = I + T^H X, and the next beams are those of C = (X E X^H Gamma + t I)^-1 X, t = tr(X E X^H),
scaled to the power: the power constraint is folded into the noise. By the push-through identity
C = X (X^H Gamma X + t E^-1)^-1 E^-1, a system of the size of the streams. With B = R + T T^H, X E = B^-1 T, so that
t = tr(X^H B^-1 T), and det E^-1 = det B / det R: the only inverse beside it is that of blocks of one user's antennas.

References
----------
* Q. Shi, M. Razaviyayn, Z.-Q. Luo, C. He, "An iteratively weighted MMSE approach to distributed sum-utility
  maximization for a MIMO interfering broadcast channel", IEEE Transactions on Signal Processing, 2011.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import lapack

from simulator.downlink.gram import MAX_FP32_SNR
from simulator.interruption import check_interrupt
from simulator.problems.algebra import TINY, Bool, Complex, Real, diagonal

_FEW = 4  # drops up to which one call of LAPACK each takes less time than PyTorch's batch


def own_filters(received: Complex) -> tuple[Complex, Complex]:
    """Compute the MMSE filters X = R^-1 T of all streams, and E^-1 = I + T^H X, of users with equally many streams.

    Parameters
    ----------
    received : ndarray
        Amplitude of every stream at every receive antenna, complex (drops, users, receive antennas, streams of all
        users), streams user by user.

    Returns
    -------
    filters : ndarray
        X at the users' own antennas, complex (drops, users, receive antennas, streams per user).
    inverse_errors : ndarray
        E^-1 of the users, complex (drops, users, streams per user, streams per user).
    """
    drops, users, receive, _ = received.shape
    others = received.reshape(drops, users, receive, users, -1).copy()
    index = np.arange(users)
    own = others[:, index, :, index].swapaxes(0, 1)
    others[:, index, :, index] = 0
    others = others.reshape(received.shape)
    quiet = others @ others.conj().swapaxes(2, 3) + np.eye(receive)
    filters = _inverses(quiet)[0] @ own
    return filters, own.conj().swapaxes(2, 3) @ filters + np.eye(own.shape[3])


def sum_rates(received: Complex, owner: Bool) -> Real:
    """Compute sum_k log2 det(I + T_k^H R_k^-1 T_k), the rates of joint decoding of each user's streams.

    Parameters
    ----------
    received : ndarray
        Amplitude of every stream at every receive antenna, complex (drops, users, receive antennas, streams).
    owner : ndarray
        The stream is one of the user's own, bool (drops or 1, users, streams).

    Returns
    -------
    ndarray
        float64 (drops,), bps/Hz.
    """
    quiet, loud = _inverses(_covariances(received, owner)[1])[1]
    result: Real = (loud - quiet).sum(1)
    return result


def block_wmmse(
    gram: Complex,
    received: Complex,
    owner: Bool,
    steps: int,
    momentum: float = 0.0,
    previous: Complex | None = None,
) -> tuple[Complex, Complex, Complex]:
    """Perform iterations of WMMSE, in single precision where the gains allow it.

    Without momentum the sum rate never falls, to rounding.

    Parameters
    ----------
    gram : ndarray
        Gamma of all receive antennas, complex128 (drops, users x receive antennas, users x receive antennas).
    received, owner : ndarray
        Amplitudes of the beams to start from, of total power 1, and their owners; as in `sum_rates`.
    steps : int
        Number of iterations, at least 1.
    momentum : float
        Part of the difference of the last two iterates that is added to the last one before the next iteration. It
        changes the power in the second order of that difference only.
    previous : ndarray, optional
        Iterate before `received`, from former iterations; without it the first two iterations have no momentum.

    Returns
    -------
    coefficients : ndarray
        C of total power 1, complex128 (drops, users x receive antennas, streams).
    received, previous : ndarray
        Its amplitudes, and those before the last iteration, of the precision of the iterations.
    """
    single = bool(diagonal(gram).real.max(initial=0) < MAX_FP32_SNR)
    precision = np.complex64 if single else np.complex128
    gram, received = gram.astype(precision, copy=False), received.astype(precision, copy=False)
    first = 2 if previous is None else 0
    previous = received if previous is None else previous.astype(precision, copy=False)
    for step in range(steps):
        check_interrupt()
        start = received + precision(momentum) * (received - previous) if momentum and step >= first else received
        previous = received
        filters, mixing, seen = _iterated(gram, start, owner)
        received = (seen @ mixing).reshape(received.shape)
    coefficients = (filters @ mixing).astype(np.complex128, copy=False)
    return coefficients, received, previous


def _iterated(gram: Complex, received: Complex, owner: Bool) -> tuple[Complex, Complex, Complex]:
    """Return X, Y with the next C = X Y, and Gamma X."""
    drops, _, _, streams = received.shape
    own, covariances = _covariances(received, owner)
    quiet_filters, loud_filters = _inverses(covariances)[0] @ own
    trace = np.maximum(_inner_products(quiet_filters, loud_filters), TINY).astype(own.real.dtype)
    inverse_errors = _inverse_errors(own, quiet_filters)
    filters = quiet_filters.reshape(drops, -1, streams)
    seen = gram @ filters
    virtual = filters.conj().swapaxes(1, 2) @ seen
    system = virtual + trace[:, None, None] * inverse_errors
    mixing = _solved(system, inverse_errors)
    power = np.maximum(_inner_products(mixing, virtual @ mixing), TINY)
    mixing *= (1 / np.sqrt(power)).astype(own.real.dtype)[:, None, None]
    return filters, mixing, seen


def _covariances(received: Complex, owner: Bool) -> tuple[Complex, Complex]:
    """Return T, 0 at other users' antennas, and R with B = R + T T^H, (2, drops, users, receive antennas, ...)."""
    own, others = np.zeros((2, *received.shape), received.dtype)
    np.copyto(own, received, where=owner[:, :, None])
    np.copyto(others, received, where=~owner[:, :, None])
    covariances = np.empty((2, *received.shape[:3], received.shape[2]), received.dtype)
    quiet, loud = covariances
    np.matmul(others, others.conj().swapaxes(-1, -2), out=quiet)
    diagonal(quiet.reshape(-1, *quiet.shape[2:]))[:] += 1
    np.matmul(own, own.conj().swapaxes(-1, -2), out=loud)
    loud += quiet
    return own, covariances


def _solved(systems: Complex, right: Complex) -> Complex:
    """Return X of A X = B for Hermitian positive definite A, complex (drops, streams, streams)."""
    if len(systems) <= _FEW:
        solve = lapack.cposv if systems.dtype == np.complex64 else lapack.zposv
        # Rows in memory are columns to LAPACK, and the transpose of a Hermitian matrix is its conjugate.
        found: Complex = np.stack(
            [solve(one.T, values.conj(), overwrite_b=True)[1] for one, values in zip(systems, right, strict=True)]
        )
        return np.conjugate(found, out=found)
    factors = torch.linalg.cholesky_ex(torch.from_numpy(systems))[0]
    inverses: Complex = torch.cholesky_inverse(factors).numpy()
    return inverses @ right


def _inverse_errors(own: Complex, filters: Complex) -> Complex:
    flat = (len(own), -1, own.shape[-1])
    result: Complex = own.reshape(flat).conj().swapaxes(1, 2) @ filters.reshape(flat)
    diagonal(result)[:] += 1
    return result


def _inverses(blocks: Complex) -> tuple[Complex, Real]:
    """Invert small Hermitian positive definite matrices by Gauss-Jordan elimination, all at once.

    A call of LAPACK per matrix takes several times as long.

    Parameters
    ----------
    blocks : ndarray
        Complex (..., n, n).

    Returns
    -------
    inverses : ndarray
        Of the same shape.
    log_determinants : ndarray
        Logarithms to base 2, float64 (...).
    """
    size = blocks.shape[-1]
    rows = np.zeros((size, 2 * size, blocks[..., 0, 0].size), blocks.dtype)
    rows[:, :size] = blocks.reshape(-1, size, size).transpose(1, 2, 0)
    logarithms = np.zeros(rows.shape[2])
    for index in range(size):
        pivot = rows[index, index].real.copy()
        logarithms += np.log2(pivot)
        used = slice(index + 1, size + index + 1)
        rows[index, size + index] = 1
        scaled = rows[index, used] / pivot
        rows[:, used] -= rows[:, index, None] * scaled
        rows[index, used] = scaled
    inverses = np.ascontiguousarray(rows[:, size:].transpose(2, 0, 1))
    return inverses.reshape(blocks.shape), logarithms.reshape(blocks.shape[:-2])


def _inner_products(left: Complex, right: Complex) -> Real:
    """Return Re tr(A^H B) of every drop, float64 (drops,)."""
    flat = (len(left), -1)
    products: Real = np.vecdot(left.reshape(flat), right.reshape(flat)).real.astype(np.float64)
    return products
