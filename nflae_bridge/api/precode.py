"""Precode NumPy arrays of channels in one call."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from matlab_io.extras import explain_import
from matlab_io.reading.arrays import check_swapped, read_array
from matlab_io.result import Result
from nflae_bridge.files.budget.user_snr import check_default_noise
from nflae_bridge.files.validation import first_bad_drop
from simulator.downlink.budget import (
    DEFAULT_ALPHA_C,
    DEFAULT_MIN_RATE,
    DEFAULT_NOISE_POWER,
    DEFAULT_POWER,
    LinkBudget,
)

if TYPE_CHECKING:
    from nflae_bridge.engine.engine import Engine
    from simulator.downlink.precoding import Scheme

_NETWORK = "nflae"


def precode(
    channels: npt.ArrayLike,
    *,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
    power: float = DEFAULT_POWER,
    noise_power: float | None = None,
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
    layout : str, optional
        Axes of any other array, in its order: n transmit antenna, k user, r receive antenna, s drop, f subcarrier, c
        real and imaginary part, 1 singleton, e.g. ``"skrn"``; drop axes are flattened in the array's order.
    convention : {"hermitian", "direct"}, optional
        ``"direct"`` for channels H of y = H x; must be given with a layout of users in rows.
    receive_antennas : {"each", "strongest", "eigen"}, optional
        Each receive antenna a user, the strongest one, or combined by ``receive_combiner`` of the result.
    power, noise_power, alpha_c, min_rate : float
        P and sigma^2, W; largest share of P for the near-field users, in (0, 1]; minimum rate of every user, bps/Hz. A
        noise power that is not given is 0.01 W, for channels at which the SNR of the median user is then plausible.
    near_field : array_like, optional
        Labels for C3, bool (drops, users); by default those of the network, for every scheme.
    scheme : str
        Name, with its options as ``"wmmse:iterations=50"``. Rates of ``"noma"`` require receivers with SIC.
    model, device, refine
        For ``"nflae"``: ``"auto"``, a shipped model or a folder of `nflae train`, and WMMSE iterations after it;
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    Result

    Raises
    ------
    NflaeError
        If channels are not complex, finite and non-zero, an argument does not fit (`BudgetError` for the link budget),
        or something is not available; the message is one line, drops counted from 1.
    """
    drops, combiner = read_array(channels, layout, convention, receive_antennas)
    _check_drops(drops, None if layout is not None else np.shape(channels))
    labels = None if near_field is None else _checked_labels(near_field, drops.shape[:2])
    _check_numbers(power=power, noise_power=noise_power, alpha_c=alpha_c, min_rate=min_rate)
    budget = LinkBudget(power, DEFAULT_NOISE_POWER if noise_power is None else noise_power, alpha_c, min_rate)
    if noise_power is None:
        check_default_noise(drops, power)
    _check_network_options(scheme, model, refine)
    result = _compute(drops, labels, budget, (scheme, model, device, refine))
    return result if combiner is None else replace(result, receive_combiner=combiner)


def _check_numbers(**quantities: Any) -> None:
    for name, value in quantities.items():
        if np.ndim(value) or isinstance(value, str):
            raise NflaeError(
                f"{name} must be one number, got an array of shape {np.shape(value)}; for a noise power per user"
                " multiply h_k by sqrt(sigma^2 / sigma_k^2)"
            )


def _check_network_options(scheme: str, model: str, refine: int) -> None:
    if refine < 0:
        raise NflaeError(f"refine must be a number of iterations of at least 0, got {refine}")
    if scheme != _NETWORK and (refine or model != "auto"):
        given = f"refine={refine}" if refine else f"model={model!r}"
        raise NflaeError(f"{given} applies to scheme='nflae' only; leave it out with scheme={scheme!r}")


def _compute(
    drops: npt.NDArray[np.complex64],
    labels: npt.NDArray[np.bool_] | None,
    budget: LinkBudget,
    choice: tuple[str, str, str, int],
) -> Result:
    """Precode checked channels; `choice` holds scheme, model, device and number of WMMSE iterations."""
    try:  # PyTorch belongs to the extra `engine`; this module is imported without it
        import torch

        from nflae_bridge.files.labels import LabelSource, precode_labelled
        from simulator.downlink.precoding import result_arrays

        scheme, score = _scheme(*choice), None
        if choice[0] != _NETWORK and labels is None:
            score = _network(choice[2]).near_field_score
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.precode") from error
    source = LabelSource(score=score, tests_waves=False)  # the test takes a third of the time of precoding
    return Result.from_arrays(result_arrays(precode_labelled(scheme, torch.from_numpy(drops), budget, source, labels)))


@lru_cache(maxsize=8)
def _scheme(name: str, model: str, device: str, refine: int) -> Scheme:
    from nflae_bridge.engine.schemes import load_scheme

    return load_scheme(name, model, device, refine)


@lru_cache(maxsize=2)
def _network(device: str) -> Engine:
    from nflae_bridge.engine.schemes import load_network

    return load_network("auto", device)


def _checked_labels(near_field: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return labels as bool (drops, users)."""
    labels = np.asarray(near_field)
    if labels.shape not in (shape, shape[1:] if shape[0] == 1 else shape) or not np.isin(labels, (0, 1)).all():
        raise NflaeError(
            f"near_field must be bool (drops, users) = {shape}, got {labels.dtype} of shape {labels.shape}"
        )
    return labels.astype(np.bool_).reshape(shape)


def _check_drops(drops: npt.NDArray[np.complex64], shape: tuple[int, ...] | None) -> None:
    """Refuse drops with NaN, Inf or an all-zero user; given the shape of an array without a layout, swapped axes."""
    if shape is not None:
        check_swapped(shape, *drops.shape[1:])
    bad = first_bad_drop(drops)
    if bad is not None:
        raise NflaeError(f"channels: drop {bad.drop + 1}, {bad.describe()}")
