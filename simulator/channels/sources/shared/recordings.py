"""Form drops from the recorded channels of a file's users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from matlab_io.reading.receive_antennas import combine
from simulator.channels.sources.registry import Channels, ChannelSet, Request

_BLOCK = 256  # drops at once
_SNR = 100.0  # of the mean user, 20 dB

Picks = list[tuple[npt.NDArray[np.intp], int]]  # users and snapshot of each draw


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
        h of every user and receive antenna in the convention y = h^H x, complex64 (users, receive antennas, snapshots,
        subcarriers, antennas).
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
        With combined receive antennas also ``receive_combiner`` (R x K x S), see
        `matlab_io.reading.receive_antennas.combine`.

    Raises
    ------
    NflaeError
        For more users or snapshots than in the file, for several receive antennas if the request leaves open how they
        are used, and for values that are not finite.
    """
    assert request.file is not None
    if not np.isfinite(response).all():
        raise NflaeError(f"{request.file}: holds coefficients that are not finite; save them again without NaN and Inf")
    single, combiner = _single_antenna_users(response, request)
    reached = (single != 0).any(axis=(1, 2, 3))
    if not reached.any():
        raise NflaeError(f"{request.file}: the channel of every user is zero")
    single = single if reached.all() else single[reached]
    available, _, subcarriers, antennas = single.shape
    users, picks = _picks(single, request, max_users)
    power = float(np.mean(np.linalg.norm(single, axis=-1).astype(np.float64) ** 2))
    remark = f"{users} of {available} users per drop"
    if not reached.all():
        remark += f" ({int((~reached).sum())} more have no channel)"
    if response.shape[1] > 1:
        remark += f", {response.shape[1]} receive antennas: {request.receive_antennas}"
    elif request.receive_antennas is not None:
        remark += ", one receive antenna each"
    variables: dict[str, Any] = {"noise_power": power / _SNR, "subcarriers": subcarriers}
    if combiner is not None:
        chosen = combiner if reached.all() else combiner[reached]
        variables["receive_combiner"] = np.concatenate(list(_blocks(chosen, picks))).transpose(2, 1, 0)
    return ChannelSet(
        len(picks) * subcarriers, users, antennas, _blocks(single, picks), variables | dict(metadata or {}), remark
    )


def _single_antenna_users(response: Channels, request: Request) -> tuple[Channels, Channels | None]:
    """Return h (users, snapshots, subcarriers, antennas), and combiners (users, snapshots, subcarriers, receive)."""
    users, receive, snapshots, subcarriers, antennas = response.shape
    if receive == 1:
        return response[:, 0], None
    if request.receive_antennas is None:
        raise NflaeError(
            f"{request.file}: users have {receive} receive antennas; add --receive-antennas each (every antenna a user"
            " of its own), strongest, or eigen (combined by the dominant left singular vector)"
        )
    drops = response.transpose(2, 3, 0, 1, 4).reshape(-1, users, receive, antennas)
    try:
        single, combiner = combine(drops, request.receive_antennas)
    except ValueError as error:
        raise NflaeError(f"{request.file}: {error}") from None
    in_order = single.reshape(snapshots, subcarriers, -1, antennas).transpose(2, 0, 1, 3)
    if combiner is None:
        return in_order, None
    return in_order, combiner.reshape(snapshots, subcarriers, users, receive).transpose(2, 0, 1, 3)


def same_length(file: Path, sizes: Mapping[str, tuple[int, ...]], axes: str) -> None:
    """Check that the channels of all users have the same size.

    Parameters
    ----------
    file
        File, for the message.
    sizes
        Location of a user in the file -> size of its channels.
    axes
        Names of the sizes.

    Raises
    ------
    NflaeError
        If sizes differ.
    """
    first, *others = sizes
    for other in others:
        if sizes[other] != sizes[first]:
            raise NflaeError(
                f"{file}: {other} has ({axes}) {sizes[other]} and {first} {sizes[first]}; save users of the same size"
            )


def _picks(response: Channels, request: Request, max_users: int | None) -> tuple[int, Picks]:
    """Return the number of users per drop, and the users and snapshot of each draw."""
    available, snapshots = response.shape[:2]
    users = request.users or min(available, max_users or available)
    if users > available:
        raise NflaeError(f"{request.file}: holds {available} users with a channel, and {users} per drop were requested")
    if users == available:
        draws = request.drops or snapshots
        if draws > snapshots:
            raise NflaeError(
                f"{request.file}: holds {snapshots} snapshots of its {available} users, and {draws} drops were"
                f" requested; request no more, or fewer users per drop, which are then drawn at random"
            )
        everyone = np.arange(users)
        return users, [(everyone, snapshot) for snapshot in range(draws)]
    generator = np.random.default_rng(request.seed)
    return users, [
        (generator.choice(available, users, replace=False), int(generator.integers(snapshots)))
        for _ in range(request.drops or 100)
    ]


def _blocks(values: Channels, picks: Picks) -> Iterator[Channels]:
    """Yield the picked values (users, snapshots, subcarriers, ...) as drops, (draws x subcarriers, users, ...)."""
    for start in range(0, len(picks), _BLOCK):
        drawn = [values[users, snapshot].swapaxes(0, 1) for users, snapshot in picks[start : start + _BLOCK]]
        yield np.concatenate(drawn)
