"""WMMSE in plain NumPy: the rival where one drop comes at a time and calls, not sums, cost the time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[Any]
Real = npt.NDArray[Any]
Precision = type[np.complex64] | type[np.complex128]
Solve = Callable[[Complex], tuple[Complex, Real]]

_TINY = float(np.finfo(np.float32).tiny)


def wmmse_numpy(
    channels: Complex, power: float, noise_power: float, iterations: int, precision: Precision
) -> tuple[Complex, Real]:
    """The answer of `simulator.schemes.wmmse` without constraints C3 and C4: the same iteration, fewer calls.

    With signal s_k = F_kk q_k and all that is received r_k = 1 + sum_j F_kj q_j, a step of
    `simulator.structure.wmmse_step` is mu_k ~ s_k / (r_k (r_k - s_k)), C = (I + diag(mu) Gamma)^-1, and
    q_k ~ s_k / (r_k - s_k)^2 e_k with the new directions' energy e_k.

    channels: complex64 (..., users, antennas); power, noise_power: W; precision: of the K x K matrices; the sums over
    antennas are those of the channels' own.
    Returns the precoder, complex64 (..., users, antennas) with rows of unit norm, and the powers, (..., users), W.
    """
    gram = (channels.conj() @ channels.swapaxes(-1, -2)).astype(precision)
    gram *= power / noise_power
    identity = np.eye(gram.shape[-1], dtype=precision)
    uplink = shares = np.full(gram.shape[:-1], 1 / gram.shape[-1], identity.real.dtype)
    coefficients, couplings, energy = _beams(gram, identity, uplink)
    for _ in range(iterations):
        signal = np.diagonal(couplings, 0, -2, -1) * shares
        received = (couplings @ shares[..., None])[..., 0]
        received += 1
        disturbed = received - signal
        weighted = signal / disturbed
        uplink = weighted / received
        uplink /= np.add.reduce(uplink, -1, keepdims=True)
        coefficients, couplings, energy = _beams(gram, identity, uplink)
        shares = weighted / disturbed * energy
        shares /= np.add.reduce(shares, -1, keepdims=True)
    return unit_beams(channels, coefficients)[0], shares * power


def unit_beams(channels: Complex, coefficients: Complex) -> tuple[Complex, Real]:
    """W = H C with rows of unit norm, complex64 (..., users, antennas), and the norms before, (..., users)."""
    beams = coefficients.swapaxes(-1, -2).astype(channels.dtype) @ channels
    parts = beams.view(np.float32)
    norm = np.sqrt(np.einsum("...n,...n->...", parts, parts))
    parts /= np.maximum(norm, _TINY)[..., None]
    return beams, norm


def _beams(gram: Complex, identity: Complex, uplink: Real) -> tuple[Complex, Real, Real]:
    """C = (I + diag(mu) Gamma)^-1, what its unit-norm beams couple into whom, and their energies before."""
    coefficients = np.linalg.inv(identity + uplink[..., None] * gram)
    seen = gram @ coefficients
    energy = np.add.reduce((coefficients.conj() * seen).real, -2)
    couplings = seen.real**2 + seen.imag**2
    couplings /= energy[..., None, :]
    return coefficients, couplings, energy


def in_chunks(solve: Solve, channels: Complex, drops: int, pool: Executor | None) -> tuple[Complex, Real]:
    """``solve`` on ``drops`` drops at a time, whose matrices stay in the cache; with a pool, a thread a chunk."""
    parts = [channels[start : start + drops] for start in range(0, len(channels), drops)]
    found = list(map(solve, parts) if pool is None else pool.map(solve, parts))
    return np.concatenate([beams for beams, _ in found]), np.concatenate([powers for _, powers in found])
