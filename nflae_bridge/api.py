"""Precoding for Python users: numpy in, numpy out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.files.validation import first_bad_drop
from simulator.downlink.budget import (
    DEFAULT_ALPHA_C,
    DEFAULT_MIN_RATE,
    DEFAULT_NOISE_POWER,
    DEFAULT_POWER,
    LinkBudget,
)
from simulator.downlink.precoding import ChannelBatch, Scheme, result_arrays


def precode(
    channels: npt.ArrayLike,
    *,
    power: float = DEFAULT_POWER,
    noise_power: float = DEFAULT_NOISE_POWER,
    alpha_c: float = DEFAULT_ALPHA_C,
    min_rate: float = DEFAULT_MIN_RATE,
    near_field: npt.ArrayLike | None = None,
    scheme: str = "nflae",
    model: str = "auto",
    device: str = "auto",
    refine: int = 0,
) -> Result:
    """Precoders, powers and near/far labels for a batch of drops.

    channels: complex (drops, users, antennas), or (users, antennas) for one drop; row k is h_k with
        y_k = h_k^H x + n (if your H means y = H x, pass ``H.conj()``).
    power, noise_power: P and sigma^2, W. alpha_c: largest share of P for near-field users. min_rate: bps/Hz.
    near_field: bool (drops, users), labels to go by; None: the scheme finds them.
    scheme: nflae, mrt, zf, rzf, wmmse, sdma, ldma or noma (whose SINRs and rates need receivers with SIC).
    model, device: see `nflae models`. refine: WMMSE steps after the network.

    Raises NflaeError, naming the drop, user and antenna (counted from 0), for channels that aren't complex, finite
    and non-zero, and for a model or device that can't be had; ValueError for a link budget out of range.
    """
    given = np.asarray(channels)
    if not np.iscomplexobj(given) or given.ndim not in (2, 3) or given.size == 0:
        raise NflaeError(f"channels must be complex (drops, users, antennas), got {given.dtype} of shape {given.shape}")
    drops = np.ascontiguousarray(given if given.ndim == 3 else given[None], dtype=np.complex64)
    _check(drops)
    labels = None if near_field is None else torch.from_numpy(np.asarray(near_field, bool).reshape(drops.shape[:2]))
    batch = ChannelBatch(torch.from_numpy(drops), labels)
    budget = LinkBudget(power, noise_power, alpha_c, min_rate)
    answer = _scheme(scheme, model, device, refine)(batch, budget)
    return Result.from_arrays(result_arrays(answer))


@lru_cache(maxsize=8)
def _scheme(name: str, model: str, device: str, refine: int) -> Scheme:
    return load_scheme(name, model, device, refine)


def _check(channels: npt.NDArray[np.complex64]) -> None:
    bad = first_bad_drop(channels)
    if bad is not None:
        raise NflaeError(f"channels: drop {bad.drop}, {bad.describe(first=0)}")
