"""Small synthetic sequences: users that pass a mast at nearly constant velocity, powers of a codebook, positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from matlab_io.sequences import Sequences

MAST = (33.42, -111.93)


def passing_users(
    flights: int = 6, samples: int = 14, beams: int = 16, seed: int = 0, mast: tuple[float, float] = MAST
) -> Sequences:
    """Flights past a mast with noisy beam powers, GPS and times."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(1, flights + 1), samples)
    time = np.tile(np.arange(samples), flights)
    speed = np.repeat(rng.uniform(-1.2, 1.2, flights), samples)
    start = np.repeat(rng.uniform(-6, 6, flights), samples)
    east = start + speed * time  # m, at 10 m north of the mast
    centre = (np.arctan2(east, 10) / np.pi + 0.5) * beams
    powers = np.exp(-((np.arange(beams) - centre[:, None]) ** 2) / 2) + rng.uniform(0.01, 0.03, (len(number), beams))
    user = np.stack([mast[0] + 10 / 110_540 + 0 * east, mast[1] + east / 111_320 / np.cos(np.radians(mast[0]))], -1)
    return Sequences(
        Path("made"),
        powers.astype(np.float32),
        True,
        number,
        np.arange(len(number)),
        number,
        user,
        np.tile(mast, (len(number), 1)),
        0.1 * time + 100.0 * number,
    )
