"""Drops out of channels that a file holds for each of its users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from matlab_io.errors import NflaeError
from simulator.channels.sources.registry import Channels, ChannelSet, Request

_BLOCK = 256  # drops at once
_SNR = 100.0  # 20 dB


def drops_of(
    response: Channels, request: Request, known: Mapping[str, Any] | None = None, most_users: int | None = None
) -> ChannelSet:
    """Drops from a recording, its gains as they are.

    response: complex64 (users, snapshots, subcarriers, antennas), h of each user, already in our convention. Users
        whose channel is zero throughout, out of reach, are left out.
    most_users: how many users a drop has unless it is asked for; None: all of the file.

    With all users in a drop, drops are the snapshots in their order, the first ``request.drops`` of them, each with
    its subcarriers one after the other. With fewer, each of ``request.drops`` (100) draws takes that many users and a
    snapshot at random.

    The noise power it proposes gives the mean user, served alone with 1 W and a matched beam, 20 dB.
    Raises NflaeError for more users or snapshots than there are, and for values that aren't finite.
    """
    assert request.file is not None
    if not np.isfinite(response).all():
        raise NflaeError(f"{request.file}: holds coefficients that are not finite; save them again without NaN and Inf")
    reached = (response != 0).any(axis=(1, 2, 3))
    if not reached.any():
        raise NflaeError(f"{request.file}: every user's channel is zero, so there is nothing to serve")
    response = response[reached]
    there, snapshots, subcarriers, antennas = response.shape
    users = request.users or min(there, most_users or there)
    if users > there:
        raise NflaeError(f"{request.file}: holds {there} users with a channel, and {users} a drop were asked for")
    if users == there:
        if (request.drops or 1) > snapshots:
            raise NflaeError(
                f"{request.file}: holds {snapshots} snapshots of its {there} users, and {request.drops} drops were"
                f" asked for; ask for no more, or for fewer users a drop, which are then drawn at random"
            )
        draws = request.drops or snapshots
        blocks = _in_order(response, draws)
    else:
        draws = request.drops or 100
        blocks = _at_random(response, draws, users, request.seed)
    power = float(np.mean(np.linalg.norm(response, axis=-1).astype(np.float64) ** 2))
    remark = f"{users} of {there} users a drop"
    if not reached.all():
        remark += f" ({int((~reached).sum())} more have no channel)"
    facts = {"noise_power": power / _SNR, "subcarriers": subcarriers, **(known or {})}
    return ChannelSet(draws * subcarriers, users, antennas, blocks, facts, remark)


def same_length(file: Path, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises NflaeError where users' channels differ in size; sizes: where a user lies in the file -> its size."""
    first, *others = sizes
    for other in others:
        if sizes[other] != sizes[first]:
            raise NflaeError(
                f"{file}: {other} has (antennas, snapshots) {sizes[other]} and {first} {sizes[first]}; "
                "save users with the same number of both"
            )


def _in_order(response: Channels, draws: int) -> Iterator[Channels]:
    users, _, _, antennas = response.shape
    for start in range(0, draws, _BLOCK):
        taken = response[:, start : min(start + _BLOCK, draws)]
        yield np.ascontiguousarray(taken.reshape(users, -1, antennas).swapaxes(0, 1))


def _at_random(response: Channels, draws: int, users: int, seed: int) -> Iterator[Channels]:
    generator = np.random.default_rng(seed)
    there, snapshots, _, _ = response.shape
    for _ in range(draws):
        chosen = generator.choice(there, users, replace=False)
        yield np.ascontiguousarray(response[chosen, generator.integers(snapshots)].swapaxes(0, 1))
