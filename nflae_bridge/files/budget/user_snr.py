"""Measure the SNR of the users of a channel file: P ||h_k||^2 / sigma^2."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from nflae_bridge.files.settings import PLAUSIBLE_SNR_DB
from nflae_bridge.files.validation import Channels, energy_bounds, energy_range, good_drops
from simulator.downlink.budget import DEFAULT_NOISE_POWER

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from nflae_bridge.files.budget.user_noise import UserNoise

__all__ = [
    "Progress",
    "UserGains",
    "check_default_noise",
    "mean_gain",
    "sample_gains",
    "user_gains",
]

Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int, str], None]]]

_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class UserGains:
    """Hold the gains of users, of a sample of the drops of a file.

    Parameters
    ----------
    median : float
        Median over users and drops of ||h_k||^2, or with a noise power per user of ||h_k||^2 sigma_ref^2 / sigma_k^2;
        NaN if no drop can be used.
    drops : int
        Drops of which it is the median, bad ones included.
    """

    median: float
    drops: int


def check_default_noise(channels: Channels, power: float) -> None:
    """Check that the SNR of the median user is plausible with the default noise power.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas). Those with NaN are not checked.
    power : float
        Transmit power, W.

    Raises
    ------
    NflaeError
        If it is beyond `nflae_bridge.files.settings.PLAUSIBLE_SNR_DB`.
    """
    low, high = PLAUSIBLE_SNR_DB
    share = power / math.prod(channels.shape[2:-1])  # of each receive antenna, in the mean
    for find in (energy_bounds, energy_range):
        least, greatest = find(channels)
        if low < _snr_db(least, share) and _snr_db(greatest, share) < high:
            return  # which is between those of the weakest and of the strongest
    gain = float(np.median(user_gains(channels)))
    snr_db = _snr_db(gain, power)
    if not math.isnan(gain) and not low <= snr_db <= high:
        raise NflaeError(
            f"channels: the SNR of the median user is {snr_db:.1f} dB with the default noise power of"
            f" {DEFAULT_NOISE_POWER:g} W, beyond {low:g} to {high:g} dB; pass noise_power in W, in the units of the"
            " channels"
        )


def _snr_db(gain: float, power: float) -> float:
    return 10 * math.log10(power * gain / DEFAULT_NOISE_POWER) if gain > 0 else -math.inf


def user_gains(channels: Channels) -> npt.NDArray[np.float64]:
    """Return ||h_k||^2.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas), or with an axis of receive antennas after the users.

    Returns
    -------
    numpy.ndarray
        Float64, (drops, users).
    """
    parts = np.ascontiguousarray(channels).view(np.float32)
    if parts.ndim > 3:  # receive antennas that are combined later: their mean
        return np.asarray(np.einsum("skrn,skrn->sk", parts, parts, dtype=np.float64) / parts.shape[2])
    return np.asarray(np.einsum("skn,skn->sk", parts, parts, dtype=np.float64))


def sample_gains(file: ChannelFile, noise: UserNoise | None = None) -> UserGains:
    """Measure the median gain over the first drops of a file, about 32 MB of channels.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    noise : UserNoise, optional
        Noise powers of users and drops.

    Returns
    -------
    UserGains
    """
    step = _drops_per_block(file)
    for start in range(0, file.drops, step):  # one block, unless all of its drops are bad
        stop = min(start + step, file.drops)
        gains, good = _gains(file, start, stop)
        if good.any():
            if noise is not None:
                gains = gains * np.broadcast_to(noise.amplitude(start, stop)[:, :, 0], gains.shape).astype(float) ** 2
            return UserGains(float(np.median(gains[good])), stop)
    return UserGains(float("nan"), file.drops)


def mean_gain(file: ChannelFile, progress: Progress | None = None) -> float:
    """Measure the mean gain over all users and drops of a file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    progress : callable, optional
        Context manager that shows progress, as `nflae_bridge.cli.terminal.progress`.

    Returns
    -------
    float
        Mean of ||h_k||^2 over the drops without NaN, Inf or an all-zero user.

    Raises
    ------
    NflaeError
        If there are none.
    """
    step = _drops_per_block(file)
    total, users = 0.0, 0

    def scan(advance: Callable[[int, str], None]) -> None:
        nonlocal total, users
        for start in range(0, file.drops, step):
            stop = min(start + step, file.drops)
            gains, good = _gains(file, start, stop)
            total, users = total + float(gains[good].sum()), users + gains[good].size
            advance(stop, "")

    if progress is None:
        scan(lambda done, note: None)
    else:
        with progress("mean gain", file.drops, "drops") as advance:
            scan(advance)
    if not users:
        raise NflaeError(f"{file.path}: {file.variable}: no drop is without NaN, Inf or an all-zero user")
    return total / users


def _drops_per_block(file: ChannelFile) -> int:
    return max(1, _BLOCK_BYTES // (8 * file.users * file.antennas))


def _gains(file: ChannelFile, start: int, stop: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    channels = file.read(start, stop)
    with np.errstate(invalid="ignore", over="ignore"):
        return user_gains(channels), good_drops(channels)
