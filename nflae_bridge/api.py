"""Precode NumPy arrays of channels in one call."""

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
    """Compute precoders, powers and near/far labels for a batch of drops.

    Parameters
    ----------
    channels : array_like
        Complex, (drops, users, antennas), or (users, antennas) for one drop; row k is h_k with y_k = h_k^H x + n.
        Channels H of y = H x are passed as ``H.conj()``.
    power, noise_power : float
        Transmit power P and noise power sigma^2, W.
    alpha_c : float
        Largest share of P for the near-field users, in (0, 1].
    min_rate : float
        Minimum rate of every user, bps/Hz.
    near_field : array_like, optional
        Labels, bool (drops, users), to be used for C3; by default the scheme finds them.
    scheme : str
        ``"nflae"`` or the name of another registered scheme. The SINRs and rates of ``"noma"`` require receivers with
        SIC.
    model : str
        For ``"nflae"``: a shipped model (see ``nflae models``), a folder written by ``nflae train``, or ``"auto"``.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
    refine : int
        Number of WMMSE iterations after the network.

    Returns
    -------
    Result
        Arrays with the drops first.

    Raises
    ------
    NflaeError
        If channels are not complex, finite and non-zero (the message names drop, user and antenna, counted from 0), or
        a model or device is not available.
    BudgetError
        If a quantity of the link budget is out of its range; a subclass of NflaeError and ValueError.
    """
    drops = _checked_drops(channels)
    labels = None if near_field is None else torch.from_numpy(np.asarray(near_field, bool).reshape(drops.shape[:2]))
    batch = ChannelBatch(torch.from_numpy(drops), labels)
    budget = LinkBudget(power, noise_power, alpha_c, min_rate)
    precoding = _scheme(scheme, model, device, refine)(batch, budget)
    return Result.from_arrays(result_arrays(precoding))


@lru_cache(maxsize=8)
def _scheme(name: str, model: str, device: str, refine: int) -> Scheme:
    return load_scheme(name, model, device, refine)


def _checked_drops(channels: npt.ArrayLike) -> npt.NDArray[np.complex64]:
    """Return channels as complex64 (drops, users, antennas)."""
    given = np.asarray(channels)
    if not np.iscomplexobj(given) or given.ndim not in (2, 3) or given.size == 0:
        raise NflaeError(f"channels must be complex (drops, users, antennas), got {given.dtype} of shape {given.shape}")
    drops = np.ascontiguousarray(given if given.ndim == 3 else given[None], dtype=np.complex64)
    bad = first_bad_drop(drops)
    if bad is not None:
        raise NflaeError(f"channels: drop {bad.drop}, {bad.describe(first=0)}")
    return drops
