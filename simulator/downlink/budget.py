"""Define the link budget and the one validator of its quantities, for every interface.

The command line, ``.mat`` files, the Python interface, the wire format and GNU Radio metadata all state the same four
quantities. `check_quantity` holds their ranges; nothing here imports PyTorch, so that clients can use it.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from torch import Tensor

    from simulator.downlink.constraints import Limits

__all__ = [
    "BOLTZMANN",
    "DEFAULT_ALPHA_C",
    "DEFAULT_MIN_RATE",
    "DEFAULT_NOISE_POWER",
    "DEFAULT_POWER",
    "MAX_DBW",
    "BudgetError",
    "LinkBudget",
    "check_quantity",
    "per_drop",
    "thermal_noise",
    "watts_from_dbm",
    "watts_from_dbw",
]

# Defaults of every interface: 0 dBW, -20 dBW, and no limit by C3 and C4.
DEFAULT_POWER = 1.0
DEFAULT_NOISE_POWER = 0.01
DEFAULT_ALPHA_C = 1.0
DEFAULT_MIN_RATE = 0.0

BOLTZMANN = 1.380649e-23  # J/K, exact by definition

MAX_DBW = 300.0
_MAX_WATTS = 10 ** (MAX_DBW / 10)
_POWER_RULE = f"positive and finite, within {MAX_DBW:g} dBW of 1 W"
_RULES = {
    "power": _POWER_RULE,
    "noise_power": _POWER_RULE,
    "alpha_c": "a share of the power in (0, 1]",
    "min_rate": "a rate of at least 0 bps/Hz, finite",
}


class BudgetError(NflaeError, ValueError):
    """Report a quantity of the link budget that is out of its range.

    Parameters
    ----------
    name : str
        Name of the quantity, as in `LinkBudget`.
    value : object
        Value given for it.
    """

    def __init__(self, name: str, value: object) -> None:
        super().__init__(f"{name} must be {_RULES[name]}, got {value}")
        self.name = name
        self.rule = _RULES[name]


def check_quantity(name: str, smallest: float, largest: float, value: object = None) -> None:
    """Check the range of one quantity of the link budget.

    Parameters
    ----------
    name : {"power", "noise_power", "alpha_c", "min_rate"}
        Quantity.
    smallest, largest : float
        Extreme values over all drops, W, W, 1 or bps/Hz; equal for one number.
    value : object, optional
        Value to show in the message; by default the extreme value out of range.

    Raises
    ------
    BudgetError
        If a value is out of range or NaN.
    """
    for extreme in (smallest, largest):
        if name in ("power", "noise_power"):
            valid = 1 / _MAX_WATTS <= extreme <= _MAX_WATTS
        elif name == "alpha_c":
            valid = 0 < extreme <= 1
        else:
            valid = 0 <= extreme < math.inf
        if not valid:
            raise BudgetError(name, extreme if value is None else value)


def watts_from_dbw(dbw: float) -> float:
    """Convert a power from dBW to watts.

    Parameters
    ----------
    dbw : float
        Power, dBW.

    Returns
    -------
    float
        Power, W.

    Raises
    ------
    ValueError
        If `dbw` is not within -300 dBW and 300 dBW.
    """
    if not abs(dbw) <= MAX_DBW:
        raise ValueError(f"a power in dBW must lie within -{MAX_DBW:g} and {MAX_DBW:g}, got {dbw:g}")
    return float(10 ** (dbw / 10))


def watts_from_dbm(dbm: float) -> float:
    """Convert a power from dBm to watts.

    Parameters
    ----------
    dbm : float
        Power, dBm.

    Returns
    -------
    float
        Power, W.

    Raises
    ------
    ValueError
        If `dbm` is not within -270 dBm and 330 dBm.
    """
    if not abs(dbm - 30) <= MAX_DBW:
        raise ValueError(f"a power in dBm must lie within {30 - MAX_DBW:g} and {30 + MAX_DBW:g}, got {dbm:g}")
    return watts_from_dbw(dbm - 30)


def thermal_noise(bandwidth: float, noise_figure_db: float, temperature: float = 290.0) -> float:
    """Return the thermal noise power k T B F of a receiver.

    Parameters
    ----------
    bandwidth : float
        Noise bandwidth B, Hz.
    noise_figure_db : float
        Noise figure F, dB.
    temperature : float
        Temperature T, K.

    Returns
    -------
    float
        Noise power, W; Inf or NaN where it cannot be represented.
    """
    with suppress(OverflowError):
        return BOLTZMANN * temperature * bandwidth * 10 ** (noise_figure_db / 10)
    return math.inf


@dataclass(frozen=True)
class LinkBudget:
    """Hold the link budget of a batch of drops: one number, or one per drop, for each quantity.

    Parameters
    ----------
    power : float or torch.Tensor
        Total transmit power P, W; a tensor is real, of shape (drops,).
    noise_power : float or torch.Tensor
        Noise power sigma^2 of every user, W.
    alpha_c : float or torch.Tensor
        Largest share of P that the near-field users get together, in (0, 1] (constraint C3).
    min_rate : float or torch.Tensor
        Minimum rate R_min of every user, bps/Hz (constraint C4).

    Raises
    ------
    BudgetError
        If a quantity is out of its range; a `ValueError` too.
    """

    power: float | Tensor = DEFAULT_POWER
    noise_power: float | Tensor = DEFAULT_NOISE_POWER
    alpha_c: float | Tensor = DEFAULT_ALPHA_C
    min_rate: float | Tensor = DEFAULT_MIN_RATE

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, (int, float)) and not hasattr(value, "min"):
                raise BudgetError(name, value)
            check_quantity(name, _smallest(value), _largest(value))

    @property
    def constrains_near_field(self) -> bool:
        """Return whether C3 can bind on any drop."""
        return _smallest(self.alpha_c) < 1

    @property
    def demands_rates(self) -> bool:
        """Return whether C4 can bind on any drop."""
        return _largest(self.min_rate) > 0

    def limits(self, like: Tensor) -> Limits:
        """Return C3 and C4 as tensors in the real precision and on the device of `like`."""
        from simulator.downlink.constraints import Limits

        return Limits(
            per_drop(self.alpha_c, like) if self.constrains_near_field else None,
            per_drop(self.min_rate, like) if self.demands_rates else None,
        )

    def slice(self, start: int, stop: int) -> LinkBudget:
        """Return the budget of consecutive drops.

        Parameters
        ----------
        start, stop : int
            First drop, and the one after the last.

        Returns
        -------
        LinkBudget
            Budget of the drops.
        """
        return self._per_drop(lambda value: value[start:stop])

    def select(self, drops: Tensor) -> LinkBudget:
        """Return the budget of the drops where `drops`, bool (drops,), is true."""
        return self._per_drop(lambda value: value[drops.to(value.device)])

    def _per_drop(self, part: Any) -> LinkBudget:
        values = (getattr(self, field.name) for field in fields(self))
        return LinkBudget(*(part(value) if getattr(value, "ndim", 0) else value for value in values))


def per_drop(value: float | Tensor, like: Tensor) -> Tensor:
    """Convert a quantity of the budget to a tensor of one element, or one per drop.

    Parameters
    ----------
    value : float or Tensor
        One number, or real (drops,).
    like : Tensor
        Tensor whose device and real precision the result has.

    Returns
    -------
    Tensor
        Real (drops or 1,).
    """
    import torch

    real = torch.float64 if like.dtype in (torch.complex128, torch.float64) else torch.float32
    return torch.as_tensor(value, dtype=real, device=like.device).reshape(-1)


def _smallest(value: float | Tensor) -> float:
    # NaN propagates through min and max, and fails every comparison of the validator.
    return value if isinstance(value, (int, float)) else float(value.min())


def _largest(value: float | Tensor) -> float:
    return value if isinstance(value, (int, float)) else float(value.max())
