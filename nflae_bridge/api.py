"""Precode NumPy arrays of channels in one call."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from matlab_io.extras import explain_import
from matlab_io.result import Result
from nflae_bridge.files.validation import first_bad_drop
from simulator.downlink.budget import (
    DEFAULT_ALPHA_C,
    DEFAULT_MIN_RATE,
    DEFAULT_NOISE_POWER,
    DEFAULT_POWER,
    LinkBudget,
)

if TYPE_CHECKING:
    from simulator.downlink.precoding import Scheme


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
        Largest share of P for the near-field users, in (0, 1] (constraint C3).
    min_rate : float
        Minimum rate of every user, bps/Hz.
    near_field : array_like, optional
        Labels, bool (drops, users), to be used for C3; by default the scheme finds them.
    scheme : str
        ``"nflae"`` or the name of another registered scheme, with its options as ``"wmmse:iterations=50"``. The SINRs
        and rates of ``"noma"`` require receivers with SIC.
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
        labels have another shape, or a scheme, model, device or package is not available.
    BudgetError
        If a quantity of the link budget is out of its range; a subclass of NflaeError and ValueError.
    """
    drops = _checked_drops(channels)
    labels = None if near_field is None else _checked_labels(near_field, drops.shape[:2])
    budget = LinkBudget(power, noise_power, alpha_c, min_rate)
    if refine < 0:
        raise NflaeError(f"refine must be a number of iterations of at least 0, got {refine}")
    return _compute(drops, labels, budget, (scheme, model, device, refine))


def _compute(
    drops: npt.NDArray[np.complex64],
    labels: npt.NDArray[np.bool_] | None,
    budget: LinkBudget,
    choice: tuple[str, str, str, int],
) -> Result:
    """Precode checked channels; `choice` holds scheme, model, device and number of WMMSE iterations."""
    try:  # PyTorch belongs to the extra `engine`; this module is imported without it
        import torch

        from simulator.downlink.precoding import ChannelBatch, result_arrays

        scheme = _scheme(*choice)
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.precode") from error
    batch = ChannelBatch(torch.from_numpy(drops), None if labels is None else torch.from_numpy(labels))
    return Result.from_arrays(result_arrays(scheme(batch, budget)))


@lru_cache(maxsize=8)
def _scheme(name: str, model: str, device: str, refine: int) -> Scheme:
    from nflae_bridge.engine.schemes import load_scheme

    return load_scheme(name, model, device, refine)


def _checked_labels(near_field: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return labels as bool (drops, users)."""
    labels = np.asarray(near_field)
    if labels.shape not in (shape, shape[1:] if shape[0] == 1 else shape) or not np.isin(labels, (0, 1)).all():
        raise NflaeError(
            f"near_field must be bool (drops, users) = {shape}, got {labels.dtype} of shape {labels.shape}"
        )
    return labels.astype(np.bool_).reshape(shape)


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
