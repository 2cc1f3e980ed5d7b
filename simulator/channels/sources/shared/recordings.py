"""Form drops from the recorded channels of a file's users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from matlab_io.errors import NflaeError
from simulator.channels.sources.registry import Channels, ChannelSet, Request

_BLOCK = 256  # drops at once
_SNR = 100.0  # of the mean user, 20 dB


def drops_of(
    response: Channels, request: Request, metadata: Mapping[str, Any] | None = None, max_users: int | None = None
) -> ChannelSet:
    """Form drops from recorded channels, with unchanged gains.

    With all users in a drop, drops are the snapshots in order, the first ``request.drops`` of them, each with its
    subcarriers in order. With fewer users, each of ``request.drops`` (100 by default) draws takes users and a snapshot
    at random. Users with an all-zero channel, which are out of coverage, are left out.

    Parameters
    ----------
    response
        h of every user in the convention y_k = h_k^H x, complex64 (users, snapshots, subcarriers, antennas).
    request
        Channels requested.
    metadata
        Further variables of the channel file.
    max_users
        Default number of users per drop; None for all of the file.

    Returns
    -------
    ChannelSet
        Drops, with a noise power that gives the mean user, served alone with 1 W and a matched beam, an SNR of 20 dB.

    Raises
    ------
    NflaeError
        For more users or snapshots than in the file, and for values that are not finite.
    """
    assert request.file is not None
    if not np.isfinite(response).all():
        raise NflaeError(f"{request.file}: holds coefficients that are not finite; save them again without NaN and Inf")
    reached = (response != 0).any(axis=(1, 2, 3))
    if not reached.any():
        raise NflaeError(f"{request.file}: the channel of every user is zero")
    response = response[reached]
    available, snapshots, subcarriers, antennas = response.shape
    users = request.users or min(available, max_users or available)
    if users > available:
        raise NflaeError(f"{request.file}: holds {available} users with a channel, and {users} per drop were requested")
    if users == available:
        if (request.drops or 1) > snapshots:
            raise NflaeError(
                f"{request.file}: holds {snapshots} snapshots of its {available} users, and {request.drops} drops were"
                f" requested; request no more, or fewer users per drop, which are then drawn at random"
            )
        draws = request.drops or snapshots
        blocks = _in_order(response, draws)
    else:
        draws = request.drops or 100
        blocks = _at_random(response, draws, users, request.seed)
    power = float(np.mean(np.linalg.norm(response, axis=-1).astype(np.float64) ** 2))
    remark = f"{users} of {available} users per drop"
    if not reached.all():
        remark += f" ({int((~reached).sum())} more have no channel)"
    variables = {"noise_power": power / _SNR, "subcarriers": subcarriers, **(metadata or {})}
    return ChannelSet(draws * subcarriers, users, antennas, blocks, variables, remark)


def same_length(file: Path, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the channels of all users have the same size.

    Parameters
    ----------
    file
        File, for the message.
    sizes
        Location of a user in the file -> size of its channels.

    Raises
    ------
    NflaeError
        If sizes differ.
    """
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
        block = response[:, start : min(start + _BLOCK, draws)]
        yield np.ascontiguousarray(block.reshape(users, -1, antennas).swapaxes(0, 1))


def _at_random(response: Channels, draws: int, users: int, seed: int) -> Iterator[Channels]:
    generator = np.random.default_rng(seed)
    available, snapshots, _, _ = response.shape
    for _ in range(draws):
        chosen = generator.choice(available, users, replace=False)
        yield np.ascontiguousarray(response[chosen, generator.integers(snapshots)].swapaxes(0, 1))
