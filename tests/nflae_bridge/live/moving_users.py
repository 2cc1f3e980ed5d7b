"""Snapshots of users that move: sums of plane waves, each with its Doppler shift, and noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def moving_users(snapshots: int, users: int, antennas: int, seed: int = 0) -> npt.NDArray[np.complex64]:
    """(snapshots, users, antennas), of 20 dB SNR; longer sequences begin with shorter ones."""
    chance = np.random.default_rng(seed)
    shape = (users, 1, 3)
    directions, shifts = chance.uniform(-1, 1, shape), chance.uniform(-0.1, 0.1, shape)
    gains = chance.standard_normal(shape) + 1j * chance.standard_normal(shape)
    time, antenna = np.arange(snapshots)[:, None, None, None], np.arange(antennas)[:, None]
    waves = gains * np.exp(1j * np.pi * (shifts * time + directions * antenna))
    noise = 0.1 * (chance.standard_normal((snapshots, users, antennas, 2)) @ [1, 1j])
    return (waves.sum(-1) + noise).astype(np.complex64)
