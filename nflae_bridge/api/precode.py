"""Precode NumPy arrays of channels in one call."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import checked
from matlab_io.errors import NflaeError
from matlab_io.extras import explain_import
from matlab_io.reading.arrays import check_swapped, read_array
from matlab_io.result import RECEIVE_COMBINER, Result
from nflae_bridge.api.tensors import tensors_as_given
from nflae_bridge.files.budget.user_snr import check_default_noise
from nflae_bridge.files.validation import first_bad_drop
from nflae_bridge.network.shipped import model_of_effort
from simulator.downlink.budget import (
    DEFAULT_ALPHA_C,
    DEFAULT_MIN_RATE,
    DEFAULT_NOISE_POWER,
    BudgetError,
    LinkBudget,
    check_quantity,
)
from simulator.problems.options import ProblemOptions, check_option_names, describe_array_problem, total_power
from simulator.problems.problem import NO_NETWORK, PrecodingProblem

if TYPE_CHECKING:
    import torch

    from nflae_bridge.engine.engine import Engine

_NETWORK = "nflae"
_JOINT_AXES = 4  # drops, users, receive antennas, antennas


@tensors_as_given
@checked()
def precode(
    channels: npt.ArrayLike,
    *,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
    power: float | None = None,
    noise_power: float | npt.ArrayLike | None = None,
    alpha_c: float = DEFAULT_ALPHA_C,
    min_rate: float = DEFAULT_MIN_RATE,
    near_field: npt.ArrayLike | str | None = None,
    scheme: str = "nflae",
    model: str | Path = "auto",
    device: str = "auto",
    refine: int = 0,
    effort: str | None = None,
    **options: Unpack[ProblemOptions],
) -> Result:
    """Compute precoders, powers and near/far labels for a batch of drops.

    Parameters
    ----------
    channels : array_like
        Complex, (drops, users, antennas), or (users, antennas); row k is h_k with y_k = h_k^H x + n.
    layout : str, optional
        Axes of any other array: n transmit antenna, k user, r receive antenna, s drop, f subcarrier, c real and
        imaginary part, 1 singleton, e.g. ``"skrn"``; drop axes are flattened in the array's order.
    convention : {"hermitian", "direct"}, optional
        ``"direct"`` for channels H of y = H x; must be given with a layout of users in rows.
    receive_antennas : {"each", "strongest", "eigen", "joint"}, optional
        Each a user, the strongest one, combined before, or together with the precoder.
    power, noise_power, alpha_c, min_rate : float
        P and sigma^2 (or one per drop), W, by default 1 and, at a plausible SNR, 0.01; near-field share of P; bps/Hz.
    near_field : array_like or str, optional
        Labels for C3, bool (drops, users), or a panel, as ``"upa:16x16"``, to fit waves to; by default the network's.
    scheme, model, device, refine, effort
        Name, as ``"wmmse:iterations=50"``; shipped model or folder of `nflae train`; ``"cpu"`` or ``"cuda"``; WMMSE
        iterations after the network; ``"fast"``, ``"balanced"`` or ``"best"`` in place of model and refinement. Rates
        of ``"noma"`` require receivers with SIC.
    **options
        Weights, limits of antennas, hybrid hardware, objective: see `simulator.problems.options.ProblemOptions`.

    Returns
    -------
    Result
        Of tensors on their device where the channels are a tensor of PyTorch.

    Raises
    ------
    NflaeError
        If channels are not complex, finite and non-zero, or an argument does not fit.
    """
    check_option_names(options)
    problem = describe_array_problem(options, receive_antennas, power is not None, layout, np.shape(channels))
    drops, combiner = read_array(channels, layout, convention, receive_antennas, joint=True)
    _check_drops(drops, np.shape(channels) if layout is None else None)
    budget = _link_budget(drops, total_power(problem, drops.shape[-1], power), noise_power, alpha_c, min_rate)
    model, refine = _checked_network(scheme, effort, str(model), refine, problem)
    labels = _checked_labels(near_field, drops.shape[:2])
    return _compute(drops, labels, budget, (scheme, model, device, refine), problem, combiner)


def _noise_of_drops(noise_power: npt.ArrayLike | None, drops: int) -> float | torch.Tensor | None:
    """Return one noise power, or one per drop, float64 (drops,), checked."""
    if noise_power is None or isinstance(noise_power, float):
        return noise_power
    values = np.asarray(noise_power)
    if values.shape != (drops,) or np.iscomplexobj(values):
        raise NflaeError(
            f"noise_power must be one number or ({drops},), one per drop, got {values.dtype} of shape {values.shape};"
            " for a noise power per user multiply h_k by sqrt(sigma^2 / sigma_k^2)"
        )
    for drop, value in enumerate(values.tolist(), start=1):
        try:
            check_quantity("noise_power", value, value)
        except BudgetError:
            raise BudgetError("noise_power", f"{value} for drop {drop}") from None
    try:
        import torch
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.precode") from error
    return torch.tensor(values, dtype=torch.float64)


def _link_budget(
    drops: npt.NDArray[np.complex64],
    power: float,
    noise_power: npt.ArrayLike | None,
    alpha_c: float,
    min_rate: float,
) -> LinkBudget:
    """Return the link budget; the default noise power is for drops of a plausible SNR only."""
    noise = _noise_of_drops(noise_power, len(drops))
    budget = LinkBudget(power, DEFAULT_NOISE_POWER if noise is None else noise, alpha_c, min_rate)
    if noise is None:
        check_default_noise(drops, power)
    return budget


def _checked_network(
    scheme: str, effort: str | None, model: str, refine: int, problem: PrecodingProblem
) -> tuple[str, int]:
    """Return model and number of WMMSE iterations of the network; refuse them where it takes no part."""
    given = f"effort={effort!r}" if effort else f"refine={refine}" if refine else f"model={model!r}"
    is_given = effort is not None or refine != 0 or model != "auto"
    model, refine = model_of_effort(effort, model, refine)
    if refine < 0:
        raise NflaeError(f"refine must be a number of iterations of at least 0, got {refine}")
    if is_given and scheme != _NETWORK:
        raise NflaeError(f"{given} applies to scheme='nflae' only; leave it out with scheme={scheme!r}")
    if is_given and not problem.starts_from_network:
        raise NflaeError(f"{given} {NO_NETWORK}")
    return model, refine


def _compute(
    drops: npt.NDArray[np.complex64],
    labels: npt.NDArray[np.bool_] | str | None,
    budget: LinkBudget,
    choice: tuple[str, str, str, int],
    problem: PrecodingProblem,
    combiner: npt.NDArray[np.complex64] | None,
) -> Result:
    """Precode checked channels; `choice` holds scheme, model, device and number of WMMSE iterations."""
    problem.check(len(drops), drops.shape[1], drops.shape[-1], drops.shape[2] if drops.ndim == _JOINT_AXES else 1)
    try:  # PyTorch belongs to the extra `engine`; this module is imported without it
        import torch

        from nflae_bridge.engine.schemes import cached_scheme
        from nflae_bridge.files.labels import LabelSource, fitted_labels, named_panel, precode_labelled
        from simulator.problems.combinations import check_combination
        from simulator.problems.dispatch import ProblemScheme, check_problem_scheme
        from simulator.problems.solution import solution_arrays
        from simulator.schemes.options import split_spec

        score = None
        if problem.is_plain:
            check_combination(problem, budget, split_spec(choice[0])[0])
            scheme = cached_scheme(*choice)
        else:
            check_problem_scheme(problem, budget, choice[0])
            scheme = ProblemScheme(problem, cached_scheme(_NETWORK, *choice[1:]), choice[0])
        if labels is None and not (problem.is_plain and choice[0] == _NETWORK):
            score = _network(*choice[1:3]).near_field_score
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.precode") from error
    source = LabelSource(score=score, tests_waves=False)  # the test takes a third of the time of precoding
    if isinstance(labels, str):
        source, labels = fitted_labels(named_panel(labels, drops.shape[-1])), None
    arrays = solution_arrays(precode_labelled(scheme, torch.from_numpy(drops), budget, source, labels))
    return Result.from_arrays(arrays if combiner is None else arrays | {RECEIVE_COMBINER.name: combiner})


@lru_cache(maxsize=2)
def _network(model: str, device: str) -> Engine:
    from nflae_bridge.engine.schemes import load_network

    return load_network(model, device)


def _checked_labels(
    near_field: npt.ArrayLike | str | None, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_] | str | None:
    """Return labels as bool (drops, users), the name of an array as it is, None where none are given."""
    if near_field is None or isinstance(near_field, str):
        return near_field
    labels = np.asarray(near_field)
    if labels.shape not in (shape, shape[1:] if shape[0] == 1 else shape) or not np.isin(labels, (0, 1)).all():
        raise NflaeError(
            f"near_field must be bool (drops, users) = {shape}, got {labels.dtype} of shape {labels.shape}"
        )
    return labels.astype(np.bool_).reshape(shape)


def _check_drops(drops: npt.NDArray[np.complex64], shape: tuple[int, ...] | None) -> None:
    """Refuse drops with NaN, Inf or an all-zero user; given the shape of an array without a layout, swapped axes."""
    swapped = None if shape is None else check_swapped(shape, *drops.shape[1:])
    if swapped is not None:
        warnings.warn(swapped, stacklevel=5)  # at the call of `precode`, beyond its two decorators
    bad = first_bad_drop(drops)
    if bad is not None:
        raise NflaeError(f"channels: drop {bad.drop + 1}, {bad.describe()}")
