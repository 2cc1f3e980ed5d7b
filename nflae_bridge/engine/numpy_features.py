"""What the network sees of a few drops, in NumPy: `network.gram_encoder.gram_features` without PyTorch's overhead.

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

from nflae_bridge.network.encoders.gram import PAIR_FEATURES, USER_FEATURES

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureInputs:
    """Drops as the features are made of them; float64 and complex128, (drops, users) and (drops, users, users).

    own: ||h_k||^2 P / sigma^2. coherence: |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 0 from a user to itself. And of
    regularised zero forcing inverse: (I + Gamma / K)^-1, couplings: F, and rate: log2(1 + SINR).
    """

    own: Real
    coherence: Real
    inverse: npt.NDArray[np.complexfloating[Any, Any]]
    effective_gains: Real
    rate: Real


def diagonal(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The diagonals of (drops, n, n), to read and to write; each matrix contiguous. NumPy's takes ten times as long."""
    count = matrices.shape[1]
    return matrices.reshape(len(matrices), -1)[:, :: count + 1]


def features(look: FeatureInputs) -> tuple[Single, Single]:
    """Of users and pairs, (drops, users, USER_FEATURES) and (drops, users, users, PAIR_FEATURES)."""
    drops, count = look.own.shape
    spread = (look.inverse * look.inverse.conj()).real
    alone = np.maximum(diagonal(look.inverse).real, 1e-12)

    pairs = np.empty((drops, 8, count, count), np.float32)
    pairs[:, 0] = look.coherence
    np.sqrt(pairs[:, 0], out=pairs[:, 1])
    logs = pairs[:, 2:6]
    logs[:, 0] = pairs[:, 0]
    np.subtract(1, look.coherence, out=logs[:, 1], casting="same_kind")
    np.divide(spread, alone[:, :, None] * alone[:, None], out=logs[:, 2], casting="same_kind")
    np.multiply(look.effective_gains, 1 / count, out=logs[:, 3], casting="same_kind")
    heard = np.add.reduce(logs[:, 3], 2) - diagonal(logs[:, 3])
    logs += _LOG_OFFSETS
    np.log(logs, out=logs)
    pairs[:, 6] = logs[:, 3].transpose(0, 2, 1)

    users = np.empty((drops, 10, count), np.float32)
    users[:, 0] = np.maximum(look.own, 1e-12)
    users[:, 1] = alone
    users[:, 2] = 1 + np.matvec(look.coherence, look.own)
    users[:, 3] = 1 + heard
    np.log(users[:, :4], out=users[:, :4])
    users[:, 4] = look.rate
    users[:, 5] = np.maximum.reduce(look.coherence, 2)
    users[:, 6] = np.add.reduce(look.coherence, 2)
    level = users[:, 0]
    users[:, 7] = np.maximum.reduce(level, 1, keepdims=True)
    users[:, 8:] = np.add.reduce(users[:, :5:4], 2, keepdims=True) * np.float32(1 / count)
    pairs[:, 7] = np.minimum(np.maximum(level[:, :, None] - level[:, None], -_BOUND), _BOUND)

    of_users = users.transpose(0, 2, 1) @ _USERS
    of_users += _of_every_user(count)
    of_pairs = (pairs.reshape(drops, 8, -1).transpose(0, 2, 1) @ _PAIRS).reshape(drops, count, count, PAIR_FEATURES)
    of_pairs += _of_every_pair(count)
    return of_users, of_pairs


def _matrix(rows: int, columns: int, values: dict[tuple[int, int], float]) -> Single:
    matrix = np.zeros((rows, columns), np.float32)
    for at, value in values.items():
        matrix[at] = value
    return matrix


_DECADE = 1 / math.log(10)
_BOUND = np.float32(4 / _DECADE)  # between two users' levels: four decades
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
        (4, 3): 1 / 4,
        (4, 4): 1,
        (9, 4): -1,
        (1, 5): _DECADE,
        (5, 6): 1,
        (6, 7): 1 / 2,
        (2, 8): _DECADE / 2,
        (3, 9): 1 / 2,
    },
)
_PAIRS = _matrix(
    8,
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
    },
)


@cache
def _of_every_user(count: int) -> Single:
    """What is the same for all users of all drops without constraints: alpha_c, and how many they are."""
    row = np.zeros(USER_FEATURES, np.float32)
    row[12], row[15] = 1, math.log2(count) / 2
    return row


@cache
def _of_every_pair(count: int) -> Single:
    """The same of pairs: both are far, and what a user and himself have more than two whose coherence is 0."""
    pairs = np.zeros((count, count, PAIR_FEATURES), np.float32)
    pairs[..., 8] = 1
    decades = math.log10(1 + 1e-4) - math.log10(1e-4)
    for feature, value in ((0, 1.0), (1, 1.0), (2, decades / 2), (3, decades / 2), (9, 1.0)):
        pairs[np.arange(count), np.arange(count), feature] = value
    return pairs
