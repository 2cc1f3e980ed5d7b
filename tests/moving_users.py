"""Channels of moving users, given by a formula: a few plane waves each, whose phases turn at constant rates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def moving_users(
    snapshots: int = 24, users: int = 3, antennas: int = 16, paths: int = 2, seed: int = 0, snr_db: float | None = None
) -> npt.NDArray[np.complex64]:
    """Complex64 (snapshots, users, antennas); with white noise at an SNR per antenna if given."""
    random = np.random.default_rng(seed)
    angle = random.uniform(-1, 1, (users, paths, 1))
    rate = random.uniform(-0.15, 0.15, (users, paths))
    gain = random.uniform(0.5, 1, (users, paths)) * np.exp(2j * np.pi * random.random((users, paths)))
    time = np.arange(snapshots)[:, None, None]
    turning = gain * np.exp(2j * np.pi * rate * time)  # (snapshots, users, paths)
    channels = np.einsum("skp,kpn->skn", turning, np.exp(1j * np.pi * angle * np.arange(antennas)))
    if snr_db is not None:
        noise = random.standard_normal((*channels.shape, 2)) @ np.array([1, 1j]) / np.sqrt(2)
        level = np.sqrt((np.abs(channels) ** 2).mean((0, 2), keepdims=True) / 10 ** (snr_db / 10))
        channels = channels + level * noise
    return channels.astype(np.complex64)
