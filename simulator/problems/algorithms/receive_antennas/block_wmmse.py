"""Iterate WMMSE for users with several receive antennas, in matrices of the size of all receive antennas.

With h_i the channel of receive antenna i in units of sqrt(sigma^2 / P), beams w_j = sum_i c_ij h_i, and Gamma_ij =
h_i^H h_j, antenna i receives stream j with amplitude [Gamma C]_ij. For the MMSE receivers U_k and the error
matrices E_k of the users, D the block-diagonal matrix of U_k E_k^-1 U_k^H and B that of U_k E_k^-1, the next beams are
those of C = (D Gamma + tr(D) I)^-1 B, scaled to the power: the power constraint is folded into the noise, and the
push-through identity replaces the matrix of all transmit antennas.

References
----------
* Q. Shi, M. Razaviyayn, Z.-Q. Luo, C. He, "An iteratively weighted MMSE approach to distributed sum-utility
  maximization for a MIMO interfering broadcast channel", IEEE Transactions on Signal Processing, 2011.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def own_streams(received: Tensor) -> Tensor:
    """Return the amplitudes of each user's own streams.

    Parameters
    ----------
    received : Tensor
        Amplitude of every stream at every receive antenna, complex (drops, users, receive antennas, users x streams).

    Returns
    -------
    Tensor
        complex (drops, users, receive antennas, streams).
    """
    drops, users, antennas, _ = received.shape
    return received.reshape(drops, users, antennas, users, -1).diagonal(dim1=1, dim2=3).movedim(-1, 1)


def block_diagonal(blocks: Tensor) -> Tensor:
    """Place blocks on the diagonal of a matrix.

    Parameters
    ----------
    blocks : Tensor
        (drops, users, rows, columns).

    Returns
    -------
    Tensor
        (drops, users x rows, users x columns).
    """
    drops, users, rows, columns = blocks.shape
    spread = torch.diag_embed(blocks.movedim(1, -1), dim1=1, dim2=3)
    return spread.reshape(drops, users * rows, users * columns)


def interference(received: Tensor) -> Tensor:
    """Compute the covariance of the noise and the other users' streams.

    Parameters
    ----------
    received : Tensor
        As in `own_streams`.

    Returns
    -------
    Tensor
        complex (drops, users, receive antennas, receive antennas).
    """
    drops, users, antennas, _ = received.shape
    others = ~torch.eye(users, dtype=torch.bool, device=received.device)
    split = received.reshape(drops, users, antennas, users, -1)
    masked = (split * others.reshape(1, users, 1, users, 1)).flatten(-2)
    covariance: Tensor = masked @ masked.mH + torch.eye(antennas, dtype=received.dtype, device=received.device)
    return covariance


def own_basis(received: Tensor) -> tuple[Tensor, Tensor]:
    """Find the rotation of each user's streams after which MMSE receivers leave no interference among them.

    Parameters
    ----------
    received : Tensor
        As in `own_streams`.

    Returns
    -------
    rotation : Tensor
        Unitary Q_k, complex (drops, users, streams, streams); the strongest stream comes first.
    sinr : Tensor
        SINRs of the rotated streams, real (drops, users, streams); sum log2(1 + SINR) is the rate of joint decoding.
    """
    own = own_streams(received)
    gain = own.mH @ torch.linalg.solve_ex(interference(received), own)[0]
    values, vectors = torch.linalg.eigh((gain + gain.mH) / 2)
    return vectors.flip(-1), values.flip(-1).clamp(min=0)


def sum_rates(received: Tensor) -> Tensor:
    """Compute sum_k log2 det(I + T_k^H R_k^-1 T_k), the rates of joint decoding of each user's streams.

    Parameters
    ----------
    received : Tensor
        As in `own_streams`.

    Returns
    -------
    Tensor
        Real (drops,), bps/Hz.
    """
    own = own_streams(received)
    gain = own.mH @ torch.linalg.solve_ex(interference(received), own)[0]
    identity = torch.eye(gain.shape[-1], dtype=gain.dtype, device=gain.device)
    nats: Tensor = torch.linalg.slogdet(identity + gain)[1].sum(-1)
    return nats / math.log(2)


def block_wmmse(gram: Tensor, received: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Perform iterations of WMMSE; the sum rate never falls.

    Parameters
    ----------
    gram : Tensor
        Gamma of all receive antennas, complex128 (drops, users x receive antennas, users x receive antennas).
    received : Tensor
        Amplitudes of the beams to start from, of total power 1; as in `own_streams`, complex128.
    steps : int
        Number of iterations, at least 1.

    Returns
    -------
    coefficients : Tensor
        C of total power 1, complex128 (drops, users x receive antennas, users x streams).
    received : Tensor
        Its amplitudes.
    """
    users, antennas = received.shape[1:3]
    coefficients = torch.zeros_like(received.flatten(1, 2))
    diagonal = torch.eye(users * antennas, dtype=gram.dtype, device=gram.device)
    for _ in range(steps):
        own = own_streams(received)
        quiet = interference(received)
        # E^-1 = I + H^H R^-1 H and R_all^-1 H = R^-1 H E, so that U E^-1 = R^-1 H needs no difference of near-equals.
        filtered = torch.linalg.solve_ex(quiet, own)[0]
        identity = torch.eye(own.shape[-1], dtype=own.dtype, device=own.device)
        weighted = filtered @ torch.linalg.solve_ex(identity + own.mH @ filtered, filtered.mH)[0]
        trace = weighted.diagonal(dim1=-2, dim2=-1).real.sum((-2, -1)).reshape(-1, 1, 1)
        trace = trace.clamp(min=torch.finfo(trace.dtype).tiny)
        system = block_diagonal(weighted) @ gram + trace * diagonal
        coefficients = torch.linalg.solve_ex(system, block_diagonal(filtered))[0]
        amplitudes = gram @ coefficients
        power = (coefficients.conj() * amplitudes).real.sum((-2, -1))
        scale = power.clamp(min=torch.finfo(power.dtype).tiny).rsqrt().reshape(-1, 1, 1)
        coefficients = coefficients * scale
        received = (amplitudes * scale).unflatten(1, (users, antennas))
    return coefficients, received
