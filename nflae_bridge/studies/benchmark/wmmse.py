"""Compute WMMSE with one product and one Cholesky factorisation of K x K per iteration.

Restates `simulator.downlink.structure.wmmse_step` for arrays of PyTorch or NumPy, as the fastest form of WMMSE to
compare the network with; ``test_every_implementation_of_wmmse_computes_wmmse`` tests that the two forms agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

Inverse = Callable[[Any], Any]


def wmmse_coefficients(gram: Any, identity: Any, iterations: int, inverse: Inverse) -> Any:
    """Compute X of the precoder V = H X after some iterations from regularised zero forcing with equal powers.

    With S = Gamma X, e = Re tr(X^H S) (the power constraint folded into the noise) and the received power
    r_k = e + sum_j |S_kj|^2, receivers and weights are u_k = S_kk / r_k and w_k = r_k / (r_k - |S_kk|^2) = 1 + SINR_k;
    mu_k ~ w_k |u_k|^2 sums to one. The next precoder is H (I + diag(mu) Gamma)^-1 diag(u w), and with D = diag(mu)^1/2

        (I + D^2 Gamma)^-1 = D (I + D Gamma D)^-1 D^-1,    X = D (I + D Gamma D)^-1 diag(w)^1/2

    is the same up to phases and a common factor: a Hermitian matrix to factorise, and no division by the mu of users
    that are switched off.

    Parameters
    ----------
    gram
        Gamma, complex (..., users, users); a tensor or a NumPy array.
    identity
        The unit matrix (users, users), of the same kind and dtype.
    iterations
        Number of iterations; 0 is RZF.
    inverse
        Inverse of Hermitian matrices not below the unit matrix.

    Returns
    -------
    Tensor or ndarray
        X, complex (..., users, users).
    """
    users = gram.shape[-1]
    coefficients = inverse(identity + gram / users)
    seen = gram @ coefficients
    energy = (coefficients.real * seen.real + coefficients.imag * seen.imag).sum(-2)
    # Equal powers; a beam without energy (a null channel) stays finite.
    scale = (energy + float(np.finfo(np.float32).tiny)) ** -0.5
    coefficients = coefficients * scale[..., None, :]
    for step in range(iterations):
        seen = gram @ coefficients if step else seen * scale[..., None, :]
        magnitude = seen.real**2 + seen.imag**2
        energy = (coefficients.real * seen.real + coefficients.imag * seen.imag).sum((-2, -1))
        received = magnitude.sum(-1) + energy[..., None]
        signal = magnitude.diagonal(0, -2, -1)
        weight = received / (received - signal)
        uplink = weight * signal / received**2
        root = (uplink / uplink.sum(-1)[..., None]) ** 0.5
        system = identity + root[..., None] * root[..., None, :] * gram
        coefficients = root[..., None] * (weight**0.5)[..., None, :] * inverse(system)
    return coefficients


def cholesky_inverse(matrices: Tensor) -> Tensor:
    """Compute A^-1 = L^-H L^-1, without the error check, which on a GPU costs a transfer to the host.

    Parameters
    ----------
    matrices
        A, Hermitian positive definite, complex (..., users, users).

    Returns
    -------
    Tensor
        A^-1, of the same shape and dtype.
    """
    factor, _ = torch.linalg.cholesky_ex(matrices)
    if not matrices.is_cuda:  # LAPACK's potri takes two thirds of the time of the triangular solve
        return torch.cholesky_inverse(factor)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    lower = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    inverse: Tensor = lower.mH @ lower
    return inverse


def lu_inverse(matrices: Tensor) -> Tensor:
    """Compute A^-1 by elimination, without the error check; on some devices faster than `cholesky_inverse`.

    Parameters
    ----------
    matrices
        A, complex (..., users, users).

    Returns
    -------
    Tensor
        A^-1, of the same shape and dtype.
    """
    inverse: Tensor = torch.linalg.inv_ex(matrices)[0]
    return inverse


def one_inverse(matrix: Any) -> Any:
    """Compute A^-1 of one NumPy matrix by LAPACK's Cholesky solver, in a third of the time of `np.linalg.inv`.

    Parameters
    ----------
    matrix
        A, Hermitian positive definite, complex64 or complex128 (users, users); overwritten.

    Returns
    -------
    ndarray
        A^-1, of the same shape and dtype.
    """
    solve = lapack.cposv if matrix.dtype == np.complex64 else lapack.zposv
    # Rows in memory are columns to LAPACK: the inverse of the conjugate, which its transpose undoes, without copies.
    return solve(matrix.T, _identity(len(matrix), matrix.dtype.char), overwrite_a=True)[1].T


@cache
def _identity(users: int, precision: str) -> Any:
    return np.asfortranarray(np.eye(users, dtype=precision))
