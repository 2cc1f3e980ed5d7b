"""Check that drops are snapshots in order: each like its neighbour, users in one order, one scale.

Likeness is the squared coherence |h^H g|^2 / (||h||^2 ||g||^2) of a user's successive snapshots. Two snapshots of a
channel at an SNR s per antenna have 1 / (1 + 1 / s)^2, independent plane waves a few times 1 / N.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
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
    for check in (_independence, _exchange, _jump):
        problem = check(channels, missing, name)
        if problem is not None:
            if not force:
                raise NflaeError(f"{problem}, or {remedy}")
            return problem
    return None


def _directions(channels: Tensor) -> Tensor:
    """Return unit vectors; zero in gaps."""
    tiny = torch.finfo(torch.float32).tiny
    largest = torch.view_as_real(channels.resolve_conj()).abs().amax((-2, -1)).unsqueeze(-1)
    channels = channels / largest.clamp(min=tiny)  # squares stay within single precision
    norm = torch.linalg.vector_norm(channels, dim=-1, keepdim=True)
    directions: Tensor = channels / norm.clamp(min=tiny)
    return directions


def _coherences(directions: Tensor, missing: Tensor, lag: int) -> Tensor:
    """Return the squared coherences of all snapshots ``lag`` apart, gaps left out, float32 (pairs,)."""
    inner = (directions[:-lag].conj() * directions[lag:]).sum(-1)
    alike: Tensor = inner.abs().square()[~(missing[:-lag] | missing[lag:])]
    return alike


def _independence(channels: Tensor, missing: Tensor, name: Name) -> str | None:
    snapshots, _, antennas = channels.shape
    if snapshots < 2 or antennas < 2:
        return None
    directions = _directions(channels)
    near = _coherences(directions, missing, 1)
    if not len(near) or float(near.mean()) >= min(_MOST_INDEPENDENT, _INDEPENDENT / antennas):
        return None
    if snapshots >= _LEAST_SNAPSHOTS:
        far = torch.cat([_coherences(directions, missing, lag) for lag in range(snapshots // 2, snapshots)])
        if min(len(near), len(far)) > 1:
            deviation = float((near.var() / len(near) + far.var() / len(far)).sqrt())
            if float(near.mean() - far.mean()) > _DEVIATIONS * deviation:
                return None
    return (
        f"{name(0)} and those after it, user 1 to {channels.shape[1]}: successive snapshots are uncorrelated (mean"
        f" squared coherence {float(near.mean()):.3f}), not a sequence in time; give successive snapshots in order"
    )


def _exchange(channels: Tensor, missing: Tensor, name: Name) -> str | None:
    snapshots, users, antennas = channels.shape
    if snapshots < 2 or users < 2:
        return None
    directions = _directions(channels)
    alike = (directions[:-1].conj() @ directions[1:].transpose(1, 2)).abs().square()  # (pairs, before, after)
    own, best = alike.diagonal(dim1=1, dim2=2), alike.max(-1)
    least = min(max(_EXCHANGED / antennas, _LEAST_EXCHANGED), _MOST_EXCHANGED)
    moved = (best.values > least) & (own < _OWN_TO_OTHER * best.values) & ~missing[:-1]
    for pair in (moved.sum(-1) > 1).nonzero().squeeze(-1).tolist():
        users_before = moved[pair].nonzero().squeeze(-1).tolist()
        users_after = best.indices[pair][moved[pair]].tolist()
        if sorted(users_after) == users_before:
            first, second = users_before[0] + 1, users_after[0] + 1
            return (
                f"{name(pair + 1)}, user {second}: is user {first} of the snapshot before (squared coherence"
                f" {float(best.values[pair, first - 1]):.2f}, with its own {float(own[pair, second - 1]):.2f}): users"
                " change places; put them in one order"
            )
    return None


def _jump(channels: Tensor, missing: Tensor, name: Name) -> str | None:
    snapshots, _, antennas = channels.shape
    if snapshots < 2:
        return None
    power = channels.abs().double().square().mean(-1).clamp(min=torch.finfo(torch.float64).tiny)
    step = 10 * (power[1:] / power[:-1]).log10()
    step = torch.where(missing[1:] | missing[:-1], 0, step)
    limit = _JUMP_DB if antennas >= _FEW else _FEW_JUMP_DB
    wrong = (step.abs() > limit).nonzero()
    if not len(wrong):
        return None
    pair, user = (int(index) for index in wrong[0])
    return (
        f"{name(pair + 1)}, user {user + 1}: the gain changes by {float(step[pair, user]):+.1f} dB from the snapshot"
        f" before, more than {limit:g} dB; bring the snapshots to one scale"
    )
