"""Check that drops are snapshots in order: each like its neighbour, users in one order, one scale.

Likeness is the squared coherence |h^H g|^2 / (||h||^2 ||g||^2) of a user's successive snapshots. Two snapshots of a
channel at an SNR s per antenna have 1 / (1 + 1 / s)^2, independent plane waves a few times 1 / N.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from matlab_io.errors import NflaeError

_INDEPENDENT, _MOST_INDEPENDENT = 10.0, 0.6  # coherence below which neighbours may be independent: times 1 / N, capped
_DEVIATIONS = 4.0  # by which neighbours have to be more alike than distant snapshots
_LEAST_SNAPSHOTS = 8  # for that comparison
_EXCHANGED, _LEAST_EXCHANGED, _MOST_EXCHANGED = 5.0, 0.1, 0.8  # coherence with another user: times 1 / N, bounds
_OWN_TO_OTHER = 0.25  # of an exchanged user's coherence with itself to that with the other
_JUMP_DB, _FEW_JUMP_DB, _FEW = 20.0, 40.0, 4  # the second for fewer antennas, which fade deeper

Name = Callable[[int], str]


def check_sequence(channels: Tensor, missing: Tensor, name: Name, remedy: str, force: bool = False) -> str | None:
    """Check that snapshots form a sequence that can be predicted.

    Parameters
    ----------
    channels
        complex64 (snapshots, users, antennas), oldest first; zero in gaps.
    missing
        Gaps, bool (snapshots, users).
    name
        Name of a snapshot by its index, such as ``drop 12``.
    remedy
        Words for what predicts nonetheless, such as ``pass --force``.
    force
        Return what is found instead of raising it.

    Returns
    -------
    str or None
        With ``force`` the first thing that is wrong with the sequence; else None.

    Raises
    ------
    NflaeError
        If successive snapshots are uncorrelated, users change places, or the scale jumps.
    """
    sequence = _Sequence.of(channels.resolve_conj().cpu().numpy(), missing.cpu().numpy())
    for check in (_independence, _exchange, _jump):
        problem = None if len(channels) < 2 else check(sequence, name)
        if problem is not None:
            if not force:
                raise NflaeError(f"{problem}, or {remedy}")
            return problem
    return None


@dataclass(frozen=True, eq=False)
class _Sequence:
    """Hold unit vectors, zero in gaps (snapshots, users, antennas), gaps, and mean powers of antennas, float64."""

    directions: npt.NDArray[np.complex64]
    missing: npt.NDArray[np.bool_]
    power: npt.NDArray[np.float64]

    @staticmethod
    def of(channels: npt.NDArray[np.complex64], missing: npt.NDArray[np.bool_]) -> _Sequence:
        parts = np.ascontiguousarray(channels).view(np.float32)
        tiny = np.finfo(np.float32).tiny
        largest = np.maximum(np.maximum(parts.max(-1), -parts.min(-1)), tiny)
        parts = parts / largest[..., None]  # squares stay within single precision
        energy = np.vecdot(parts, parts)
        parts /= np.maximum(np.sqrt(energy), tiny)[..., None]
        power = np.square(largest, dtype=np.float64) * energy / channels.shape[-1]
        return _Sequence(parts.view(np.complex64), missing, np.maximum(power, np.finfo(np.float64).tiny))

    def coherences(self, lag: int) -> npt.NDArray[np.float32]:
        """Return the squared coherences of all snapshots ``lag`` apart, gaps left out, (pairs,)."""
        inner = np.vecdot(self.directions[:-lag], self.directions[lag:])
        result: npt.NDArray[np.float32] = _squares(inner)[~(self.missing[:-lag] | self.missing[lag:])]
        return result


def _squares(values: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = values.real**2 + values.imag**2
    return result


def _independence(sequence: _Sequence, name: Name) -> str | None:
    snapshots, users, antennas = sequence.directions.shape
    if antennas < 2:
        return None
    near = sequence.coherences(1)
    if not len(near) or float(near.mean()) >= min(_MOST_INDEPENDENT, _INDEPENDENT / antennas):
        return None
    if snapshots >= _LEAST_SNAPSHOTS:
        far = np.concatenate([sequence.coherences(lag) for lag in range(snapshots // 2, snapshots)])
        if min(len(near), len(far)) > 1:
            deviation = math.sqrt(near.var(ddof=1) / len(near) + far.var(ddof=1) / len(far))
            if float(near.mean() - far.mean()) > _DEVIATIONS * deviation:
                return None
    return (
        f"{name(0)} and those after it, user 1 to {users}: successive snapshots are uncorrelated (mean"
        f" squared coherence {float(near.mean()):.3f}), not a sequence in time; give successive snapshots in order"
    )


def _exchange(sequence: _Sequence, name: Name) -> str | None:
    directions = sequence.directions
    _, users, antennas = directions.shape
    if users < 2:
        return None
    alike = _squares(directions[:-1].conj() @ directions[1:].swapaxes(1, 2))  # (pairs, before, after)
    own, best = np.diagonal(alike, axis1=1, axis2=2), alike.max(-1)
    least = min(max(_EXCHANGED / antennas, _LEAST_EXCHANGED), _MOST_EXCHANGED)
    moved = (best > least) & (own < _OWN_TO_OTHER * best) & ~sequence.missing[:-1]
    for pair in np.flatnonzero(moved.sum(-1) > 1).tolist():
        users_before = np.flatnonzero(moved[pair]).tolist()
        users_after = alike[pair].argmax(-1)[moved[pair]].tolist()
        if sorted(users_after) == users_before:
            first, second = users_before[0] + 1, users_after[0] + 1
            return (
                f"{name(pair + 1)}, user {second}: is user {first} of the snapshot before (squared coherence"
                f" {float(best[pair, first - 1]):.2f}, with its own {float(own[pair, second - 1]):.2f}): users"
                " change places; put them in one order"
            )
    return None


def _jump(sequence: _Sequence, name: Name) -> str | None:
    missing, power = sequence.missing, sequence.power
    with np.errstate(all="ignore"):  # gaps have no power
        step = 10 * np.log10(power[1:] / power[:-1])
    step[missing[1:] | missing[:-1]] = 0
    limit = _JUMP_DB if sequence.directions.shape[-1] >= _FEW else _FEW_JUMP_DB
    wrong = np.argwhere(np.abs(step) > limit)
    if not len(wrong):
        return None
    pair, user = wrong[0].tolist()
    return (
        f"{name(pair + 1)}, user {user + 1}: the gain changes by {float(step[pair, user]):+.1f} dB from the snapshot"
        f" before, more than {limit:g} dB; bring the snapshots to one scale"
    )
