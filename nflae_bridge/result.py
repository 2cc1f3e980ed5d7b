"""An answer as Python users see it: numpy arrays, whoever computed them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Result:
    """An answer as numpy arrays; shapes start with (drops, users).

    precoder: complex64 (drops, users, antennas), rows w_k of unit norm: x = sum_k w_k sqrt(P_k) s_k.
    power: P_k, W. uplink_power: lambda of the optimal structure, W (``lambda`` in files and on the wire).
    near_field: bool; near_field_score: in [0, 1]. sinr: linear; rate: bps/Hz.
    sum_rate: bps/Hz; feasible: every user gets ``min_rate``; fallback: an answer better than the network's is what
    is returned (regularised zero forcing, or directions balanced for the weakest user); all (drops,).
    """

    precoder: npt.NDArray[np.complex64]
    power: npt.NDArray[np.float64]
    uplink_power: npt.NDArray[np.float64]
    near_field: npt.NDArray[np.bool_]
    near_field_score: npt.NDArray[np.float64]
    sinr: npt.NDArray[np.float64]
    rate: npt.NDArray[np.float64]
    sum_rate: npt.NDArray[np.float64]
    feasible: npt.NDArray[np.bool_]
    fallback: npt.NDArray[np.bool_]
