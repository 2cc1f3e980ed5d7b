"""Prepare sequences of snapshots for prediction: check their times, find gaps and fill them, space them evenly.

A value between snapshots is interpolated linearly after the mean Doppler shift of the user is removed: with the mean
rotation exp(j w) from one slot to the next, h(t) exp(-j w t) is interpolated and turned back. Before the first and
after the last snapshot the nearest one is held, with the same rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from matlab_io.errors import NflaeError

MOST_GAPS = 0.25  # share of a history
_JITTER = 0.01  # of the spacing: times within it count as even


@dataclass(frozen=True)
class Snapshots:
    """Hold successive snapshots of several users, evenly spaced in time.

    Parameters
    ----------
    channels
        complex64 (snapshots, users, antennas), oldest first; zero in gaps.
    missing
        Gaps, bool (snapshots, users).
    spacing
        Time between snapshots, s; None if unknown.
    notes
        Lines to be shown to the user.
    """

    channels: Tensor
    missing: Tensor
    spacing: float | None = None
    notes: tuple[str, ...] = ()


def find_gaps(channels: Tensor) -> Tensor:
    """Find users' snapshots with NaN or Inf, or zero at every antenna.

    Parameters
    ----------
    channels
        Complex (snapshots, users, antennas).

    Returns
    -------
    Tensor
        bool (snapshots, users).
    """
    parts = torch.view_as_real(channels.resolve_conj()).flatten(-2)
    largest = torch.maximum(parts.amax(-1), -parts.amin(-1))  # NaN where a part is
    return ~((largest > 0) & (largest < torch.inf))


def take_snapshots(channels: Tensor, times: Tensor | None = None) -> Snapshots:
    """Find the gaps of a sequence and space it evenly.

    Parameters
    ----------
    channels
        complex64 (snapshots, users, antennas), oldest first.
    times
        Times of the snapshots, s, float64 (snapshots,); None: evenly spaced.

    Returns
    -------
    Snapshots
        The sequence; with uneven times resampled onto their mean spacing, the last snapshot kept; instants in
        between that have no snapshot within half the spacing are gaps.

    Raises
    ------
    NflaeError
        If times do not rise, or leave more than a quarter of the evenly spaced instants without a snapshot.
    """
    missing = find_gaps(channels)
    known = torch.where(missing.unsqueeze(-1), 0, channels) if bool(missing.any()) else channels
    if times is None:
        return Snapshots(known, missing)
    check_times(times, len(channels))
    spacing, even = spacing_of(times)
    if even:
        return Snapshots(known, missing, spacing)
    assert spacing is not None
    places = (times - times[-1]) / spacing
    instants = 1 - float(places[0])
    if not instants * (1 - MOST_GAPS) <= 2 * len(times):  # before memory is taken: a snapshot fills two at most
        raise _too_uneven(times, spacing, instants - len(times), instants)
    grid = torch.arange(round(float(places[0])), 1, dtype=torch.float64)
    distance = (grid.unsqueeze(-1) - places).abs()
    empty = distance.min(-1).values > 0.5
    if int(empty.sum()) > MOST_GAPS * len(grid):
        raise _too_uneven(times, spacing, int(empty.sum()), len(grid))
    return _resampled(Snapshots(known, missing, spacing), places, grid)


def _too_uneven(times: Tensor, spacing: float, empty: float, instants: float) -> NflaeError:
    widest = int(times.diff().argmax())
    return NflaeError(
        f"times are unevenly spaced: {empty:.4g} of {instants:.4g} instants {1e3 * spacing:g} ms apart have no"
        f" snapshot, the widest gap lies between snapshots {widest + 1} and {widest + 2}; give a history with even"
        " times"
    )


def spacing_of(times: Tensor) -> tuple[float | None, bool]:
    """Return the time between snapshots, without gaps, and whether all times are that far apart.

    Parameters
    ----------
    times
        Times, s, float64 (snapshots,).

    Returns
    -------
    spacing : float or None
        Mean spacing, s; None for a single snapshot.
    even : bool
        True if every time lies within a hundredth of the spacing.

    Raises
    ------
    NflaeError
        If times do not rise.
    """
    check_times(times, len(times))
    if len(times) < 2:
        return None, True
    steps = times.diff()
    spacing = float(steps.sum() / (steps / steps.median()).round().clamp(min=1).sum())
    places = (times - times[-1]) / spacing
    even = places - torch.arange(1 - len(times), 1, dtype=torch.float64)
    return spacing, bool(even.abs().max() <= _JITTER)


def check_times(times: Tensor, count: int) -> None:
    """Check that there is a finite time per snapshot and that times rise.

    Parameters
    ----------
    times
        Times, s (snapshots,).
    count
        Number of snapshots.

    Raises
    ------
    NflaeError
        Otherwise; the message names the snapshot.
    """
    if times.shape != (count,):
        raise NflaeError(f"times must be one number per snapshot, {count}, got shape {tuple(times.shape)}")
    if not bool(times.isfinite().all()):
        raise NflaeError(f"times: the time of snapshot {int((~times.isfinite()).nonzero()[0]) + 1} is not finite")
    falling = (times.diff() <= 0).nonzero()
    if len(falling):
        at = int(falling[0])
        raise NflaeError(
            f"times do not rise: snapshot {at + 2} at {float(times[at + 1]):g} s follows snapshot {at + 1} at"
            f" {float(times[at]):g} s; sort the snapshots by time"
        )


def _resampled(given: Snapshots, places: Tensor, grid: Tensor) -> Snapshots:
    """Interpolate at ``grid``, in slots, what is known at ``places``; a user without snapshots stays a gap."""
    users, antennas = given.channels.shape[1:]
    channels = torch.zeros(len(grid), users, antennas, dtype=given.channels.dtype)
    missing = torch.ones(len(grid), users, dtype=torch.bool)
    for user in range(users):
        there = ~given.missing[:, user]
        if there.any():
            missing[:, user] = (grid.unsqueeze(-1) - places[there]).abs().min(-1).values > 0.5
            found = interpolate(given.channels[there, user], places[there], grid)
            channels[:, user] = torch.where(missing[:, user, None], 0, found)
    assert given.spacing is not None
    note = f"times are uneven: {len(places)} snapshots resampled to {len(grid)}, {1e3 * given.spacing:g} ms apart"
    return Snapshots(channels, missing, given.spacing, (note,))


def fill_gaps(histories: Tensor, missing: Tensor) -> Tensor:
    """Fill the gaps of histories by interpolation, see the module; a history without snapshots stays zero.

    Parameters
    ----------
    histories
        complex64 (series, history, antennas), oldest first.
    missing
        Gaps, bool (series, history).

    Returns
    -------
    Tensor
        Histories, of the same shape; a new tensor if there are gaps.
    """
    if not bool(missing.any()):
        return histories
    concerned = (missing.any(-1) & ~missing.all(-1)).nonzero().squeeze(-1).tolist()
    if not concerned:
        return histories
    filled = histories.clone()
    place = torch.arange(histories.shape[1], dtype=torch.float64)
    for series in concerned:
        gaps = missing[series]
        filled[series, gaps] = interpolate(histories[series, ~gaps], place[~gaps], place[gaps])
    return filled


def check_gaps(missing: Tensor, name: Callable[[int], str]) -> str | None:
    """Check that no user has gaps in more than a quarter of a history.

    Parameters
    ----------
    missing
        Gaps of one history, bool (history, users).
    name
        Name of a snapshot by its index, such as ``drop 12``.

    Returns
    -------
    str or None
        A line that names the gaps to be filled; None without gaps.

    Raises
    ------
    NflaeError
        If there are more; the message names the user and the first gap.
    """
    counts = missing.sum(0)
    worst = int(counts.argmax())
    if not int(counts[worst]):
        return None
    first = name(int(missing[:, worst].nonzero()[0]))
    found = f"{first}, user {worst + 1}: NaN, Inf or zero at every antenna"
    if int(counts[worst]) > MOST_GAPS * len(missing):
        raise NflaeError(
            f"{found}; {int(counts[worst])} of the {len(missing)} snapshots of this user's history are such gaps, at"
            f" most a quarter is filled; correct them, or choose a history without them"
        )
    total = int(counts.sum())
    return f"{found}; {total} such {'gap is' if total == 1 else 'gaps are'} filled"


def interpolate(known: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate snapshots of one user linearly with its mean Doppler shift removed, see the module.

    Parameters
    ----------
    known
        Snapshots, complex (known, antennas), one or more.
    places
        Their times, in slots, rising, float64 (known,).
    wanted
        Times to interpolate at, in slots, float64 (wanted,).

    Returns
    -------
    Tensor
        Complex (wanted, antennas).
    """
    steps = places.diff()
    near = steps < 1.5
    turns = (known[:-1].conj() * known[1:]).sum(-1)[near]
    rate = float(turns.sum().angle()) / float(steps[near].mean()) if len(turns) else 0.0
    still = known * _rotation(-rate * places).unsqueeze(-1)
    after = torch.searchsorted(places, wanted).clamp(max=len(places) - 1)
    before = torch.where(places[after] <= wanted, after, after - 1).clamp(min=0)
    span = (places[after] - places[before]).clamp(min=torch.finfo(torch.float64).tiny)
    weight = ((wanted - places[before]) / span).clamp(0, 1).to(torch.float32).unsqueeze(-1)
    between = (1 - weight) * still[before] + weight * still[after]
    return between * _rotation(rate * wanted).unsqueeze(-1)


def _rotation(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
