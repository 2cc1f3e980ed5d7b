"""Textbook definitions in plain numpy, written with loops and N x N inverses: what the tests compare with."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]

KINDS = ("gaussian", "identical", "rank-deficient", "near-parallel", "orthogonal")


def draw_channels(
    seed: int, users: int, antennas: int, kind: str = "gaussian", spread_db: float = 0.0, drops: int = 1
) -> torch.Tensor:
    """Random channels complex64 (drops, users, antennas) of mean squared norm about 1; gains within spread_db."""
    rng = np.random.default_rng(seed)

    def gaussian(*shape: int) -> Array:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    h = gaussian(drops, users, antennas)
    phase = np.exp(2j * np.pi * rng.random((drops, users, 1)))
    if kind == "identical":
        h = h[:, :1] * phase
    elif kind == "rank-deficient":
        rank = max(1, min(users, antennas) // 2)
        h = gaussian(drops, users, rank) @ gaussian(drops, rank, antennas)
    elif kind == "near-parallel":
        h = h[:, :1] * phase + 1e-3 * h
    elif kind == "orthogonal":
        basis = np.linalg.qr(gaussian(drops, antennas, antennas))[0]
        h = np.take(np.swapaxes(basis, -1, -2), np.arange(users) % antennas, axis=1) * phase
    h = h / np.linalg.norm(h, axis=-1, keepdims=True)
    gains_db = spread_db * (rng.random((drops, users, 1)) - 0.5)
    return torch.from_numpy((h * 10 ** (gains_db / 20)).astype(np.complex64))


@st.composite
def channel_sets(draw: st.DrawFn, max_users: int = 8, max_antennas: int = 24, drops: int = 2) -> torch.Tensor:
    """Channels of every kind: well and ill conditioned, more users than antennas, gains far apart."""
    return draw_channels(
        seed=draw(st.integers(0, 2**31)),
        users=draw(st.integers(1, max_users)),
        antennas=draw(st.integers(1, max_antennas)),
        kind=draw(st.sampled_from(KINDS)),
        spread_db=draw(st.sampled_from([0.0, 10.0, 30.0])),
        drops=drops,
    )


def sinr_by_definition(h: Array, w: Array, power: Array, noise: float) -> Array:
    """|h_k^H w_k|^2 P_k / (sum_{j != k} |h_k^H w_j|^2 P_j + sigma^2); h, w: (users, antennas)."""
    h, w = np.asarray(h), np.asarray(w)
    users = len(h)
    result = np.empty(users)
    for k in range(users):
        signal, interference = 0.0, 0.0
        for j in range(users):
            received = abs(sum(np.conj(h[k, n]) * w[j, n] for n in range(h.shape[1]))) ** 2 * power[j]
            if j == k:
                signal = received
            else:
                interference += received
        result[k] = signal / (interference + noise)
    return result


def unit_rows(w: Array) -> Array:
    return w / np.linalg.norm(w, axis=-1, keepdims=True)


def structured_beams(h: Array, uplink: Array, noise: float) -> Array:
    """Rows (I_N + sum_i lambda_i / sigma^2 h_i h_i^H)^-1 h_k by an N x N inverse; not normalised."""
    antennas = h.shape[1]
    matrix = np.eye(antennas, dtype=complex)
    for power, row in zip(uplink, h, strict=True):
        matrix += power / noise * np.outer(row, row.conj())
    return np.stack([np.linalg.inv(matrix) @ row for row in h])


def sum_rate(h: Array, beams: Array, noise: float) -> float:
    """Sum of log2(1 + SINR) for beams v_k that carry their own power."""
    gains = np.abs(h.conj() @ beams.T) ** 2
    signal = np.diag(gains)
    return float(np.log2(1 + signal / (gains.sum(1) - signal + noise)).sum())


def wmmse_iteration(h: Array, beams: Array, power: float, noise: float) -> Array:
    """One iteration of Shi et al.'s WMMSE with N x N matrices, for beams v_k with sum ||v_k||^2 = P.

    Receivers u_k, weights w_k = 1 / MSE_k, then the beams that minimise the weighted MSE; the multiplier of the power
    constraint is in closed form sigma^2 / P sum_j w_j |u_j|^2, after which the beams are scaled to P.
    """
    users, antennas = h.shape
    u, weight = np.empty(users, complex), np.empty(users)
    for k in range(users):
        total = sum(abs(h[k].conj() @ v) ** 2 for v in beams) + noise
        u[k] = (h[k].conj() @ beams[k]) / total
        weight[k] = 1 / (1 - (np.conj(u[k]) * (h[k].conj() @ beams[k])).real)
    matrix = noise / power * sum(weight[j] * abs(u[j]) ** 2 for j in range(users)) * np.eye(antennas, dtype=complex)
    for j in range(users):
        matrix += weight[j] * abs(u[j]) ** 2 * np.outer(h[j], h[j].conj())
    new = np.stack([u[k] * weight[k] * np.linalg.solve(matrix, h[k]) for k in range(users)])
    return new * np.sqrt(power / np.sum(np.abs(new) ** 2))


def water_filling_rate(gains: Array) -> float:
    """max sum log2(1 + g_k q_k) over q >= 0, sum q = 1, by trying every set of active users."""
    best = 0.0
    for size in range(1, len(gains) + 1):
        for active in itertools.combinations(range(len(gains)), size):
            g = np.asarray(gains)[list(active)]
            level = (1 + np.sum(1 / g)) / size
            q = level - 1 / g
            if (q >= 0).all():
                best = max(best, float(np.log2(1 + g * q).sum()))
    return best


def sic_sinr_by_definition(effective_gains: Array, power_fractions: Array, head: Array, rank: Array) -> Array:
    """Each message's SINR where the worst of those who must decode it does: its user and the stronger of its group.

    couplings: (users, users), SNR of beam j at user k at full power; head: the group's number; rank: 0 the weakest.
    """
    users = len(power_fractions)
    result = np.full(users, np.inf)
    for message in range(users):
        for decoder in range(users):
            if head[decoder] != head[message] or rank[decoder] < rank[message]:
                continue
            noise = 1.0
            for other in range(users):
                if other != message and (head[other] != head[message] or rank[other] > rank[message]):
                    noise += effective_gains[decoder, other] * power_fractions[other]
            seen = effective_gains[decoder, message] * power_fractions[message] / noise
            result[message] = min(result[message], seen)
    return result


def least_uplink_power(h: Array, target: float, noise: float, most: float) -> float:
    """The least sum power with which every user of the virtual uplink reaches SINR ``target``, inf if above ``most``.

    The fixed point lambda_k = t / (1 + t) / (h_k^H (sigma^2 I + sum_i lambda_i h_i h_i^H)^-1 h_k) from below: it rises
    to the solution if there is one, and past every bound if there is none. By duality the downlink needs as much, over
    whatever beams.
    """
    uplink = np.zeros(len(h))
    for _ in range(20_000):
        matrix = noise * np.eye(h.shape[1]) + np.einsum("k,kn,km->nm", uplink, h, h.conj())
        seen = np.einsum("kn,nm,km->k", h.conj(), np.linalg.inv(matrix), h).real
        new = target / (1 + target) / seen
        if new.sum() > most:
            return np.inf
        if np.abs(new - uplink).max() <= 1e-12 * new.max():
            break
        uplink = new
    return float(new.sum())


def best_worst_sinr(h: Array, power: float, noise: float) -> float:
    """The largest SINR that every user can have at once, over all beams and powers that sum to ``power``; bisection."""
    low, high = 0.0, power / noise * float((np.abs(h) ** 2).sum(1).min())
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if np.isfinite(least_uplink_power(h, middle, noise, power)):
            low = middle
        else:
            high = middle
    return low
