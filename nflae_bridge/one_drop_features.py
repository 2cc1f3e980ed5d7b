"""What the network sees of a single drop, in NumPy: `network.gram_encoder.gram_features` without PyTorch's overhead.

Only for drops in which nobody counts as near-field and nobody is promised a rate. Every call costs more than what it
computes, so what is only scaled or subtracted is left to one product with a constant matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.network.gram_encoder import PAIR_FEATURES, USER_FEATURES

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

_DECADE = 1 / math.log(10)
_MOST_DECADES = 4  # between two users' levels


@dataclass(frozen=True)
class Look:
    """A drop as the features are made of it; float64 and complex128, (users,) and (users, users).

    own: ||h_k||^2 P / sigma^2. coherence: |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 0 from a user to itself. And of
    regularised zero forcing inverse: (I + Gamma / K)^-1, couplings: F, and rate: log2(1 + SINR).
    """

    own: Real
    coherence: Real
    inverse: npt.NDArray[np.complexfloating[Any, Any]]
    couplings: Real
    rate: Real


def features(look: Look) -> tuple[Single, Single]:
    """Of users and pairs, (1, users, USER_FEATURES) and (1, users, users, PAIR_FEATURES)."""
    count = len(look.own)
    level = np.log(np.maximum(look.own, 1e-12))
    alone = np.maximum(look.inverse.diagonal().real, 1e-12)
    parts = look.inverse.view(np.float64)
    squares = parts * parts
    raw = np.empty((10, count, count), np.float32)
    raw[0] = look.coherence + _identity(count)
    np.sqrt(raw[0], out=raw[1])
    logs = raw[2:6]
    logs[0] = raw[0]
    np.subtract(1, look.coherence, out=logs[1], casting="same_kind")
    np.divide(squares[:, ::2] + squares[:, 1::2], np.multiply.outer(alone, alone), out=logs[2], casting="same_kind")
    np.multiply(look.couplings, 1 / count, out=logs[3], casting="same_kind")
    heard = np.add.reduce(logs[3], 1) - logs[3].diagonal()
    logs += _LOG_OFFSETS
    logs[1].flat[:: count + 1] = 1e-4  # a user's own coherence is 1
    np.log(logs, out=logs)
    raw[6] = logs[3].T
    bound = _MOST_DECADES / _DECADE
    raw[7] = np.minimum(np.maximum(np.subtract.outer(level, level), -bound), bound)
    raw[8] = _identity(count)
    raw[9] = 1
    users = np.empty((10, count), np.float32)
    users[0] = level
    users[1] = look.rate
    users[2] = alone
    users[3] = np.maximum.reduce(look.coherence, 1)
    users[4] = np.add.reduce(look.coherence, 1)
    users[5] = 1 + look.coherence @ look.own
    users[6] = 1 + heard
    np.log(users[5:7], out=users[5:7])
    np.log(users[2], out=users[2])
    users[7] = np.maximum.reduce(level)
    users[8] = np.add.reduce(level) / count
    users[9] = np.add.reduce(look.rate) / count
    mixed = users.T @ _USERS
    mixed += _always(count)
    pairs = raw.reshape(10, -1).T @ _PAIRS
    return mixed.reshape(1, count, USER_FEATURES), pairs.reshape(1, count, count, PAIR_FEATURES)


def _matrix(rows: int, columns: int, values: dict[tuple[int, int], float]) -> Single:
    matrix = np.zeros((rows, columns), np.float32)
    for at, value in values.items():
        matrix[at] = value
    return matrix


_LOG_OFFSETS = np.array([1e-4, 1e-4, 1e-4, 1], np.float32).reshape(-1, 1, 1)

# (row above, feature): by what the row is multiplied in it.
_USERS = _matrix(
    10,
    USER_FEATURES,
    {
        (0, 0): _DECADE / 2,
        (0, 1): _DECADE,
        (7, 1): -_DECADE,
        (0, 2): _DECADE,
        (8, 2): -_DECADE,
        (1, 3): 1 / 4,
        (1, 4): 1,
        (9, 4): -1,
        (2, 5): _DECADE,
        (3, 6): 1,
        (4, 7): 1 / 2,
        (5, 8): _DECADE / 2,
        (6, 9): 1 / 2,
    },
)
_PAIRS = _matrix(
    10,
    PAIR_FEATURES,
    {
        (0, 0): 1,
        (1, 1): 1,
        (2, 2): _DECADE / 2,
        (3, 3): -_DECADE / 2,
        (7, 4): _DECADE,
        (4, 5): _DECADE / 2,
        (5, 6): 1 / 2,
        (6, 7): 1 / 2,
        (9, 8): 1,
        (8, 9): 1,
    },
)


@cache
def _identity(count: int) -> Single:
    return np.eye(count, dtype=np.float32)


@cache
def _always(count: int) -> Single:
    """Features that are the same for all drops without constraints: alpha_c, and the number of users."""
    row = np.zeros(USER_FEATURES, np.float32)
    row[12], row[15] = 1, math.log2(count) / 2
    return row
