"""Choose the link budget for a channel file: options take precedence over the file, the file over the defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError
from simulator.downlink.budget import (
    DEFAULT_ALPHA_C,
    DEFAULT_MIN_RATE,
    DEFAULT_NOISE_POWER,
    DEFAULT_POWER,
    LinkBudget,
    check_quantity,
    watts_from_dbw,
)

if TYPE_CHECKING:
    from matlab_io import ChannelFile

__all__ = ["BudgetChoice", "BudgetRequest", "Setting", "choose_budget"]


@dataclass(frozen=True)
class BudgetRequest:
    """Hold the link-budget options of a command; None where an option was not given.

    Parameters
    ----------
    power_dbw, noise_dbw : float, optional
        Transmit power P and noise power sigma^2, dBW.
    alpha_c : float, optional
        Largest share of P for the near-field users.
    min_rate : float, optional
        Minimum rate of every user, bps/Hz.
    """

    power_dbw: float | None = None
    noise_dbw: float | None = None
    alpha_c: float | None = None
    min_rate: float | None = None


@dataclass(frozen=True)
class Setting:
    """Hold a valid number and its origin.

    Parameters
    ----------
    value : float
        Number in the unit of `LinkBudget`.
    origin : str
        Option, file and variable, or ``"default"``.
    """

    value: float
    origin: str


@dataclass(frozen=True)
class BudgetChoice:
    """Hold the chosen link budget with the origin of each quantity.

    Parameters
    ----------
    power, noise_power : Setting
        W.
    alpha_c : Setting
        Share of the power.
    min_rate : Setting
        bps/Hz.
    """

    power: Setting
    noise_power: Setting
    alpha_c: Setting
    min_rate: Setting

    def link_budget(self) -> LinkBudget:
        """Return the link budget that the schemes take."""
        return LinkBudget(self.power.value, self.noise_power.value, self.alpha_c.value, self.min_rate.value)

    def lines(self) -> list[str]:
        """Describe each quantity and its origin in one line."""

        def watts(name: str, setting: Setting) -> str:
            dbw = 10 * math.log10(setting.value)
            return f"{name} = {setting.value:g} W ({dbw:.4g} dBW; {setting.origin})"

        return [
            watts("power", self.power),
            watts("noise_power", self.noise_power),
            f"alpha_c = {self.alpha_c.value:g} ({self.alpha_c.origin})",
            f"min_rate = {self.min_rate.value:g} bps/Hz ({self.min_rate.origin})",
        ]


def choose_budget(request: BudgetRequest, file: ChannelFile | None = None) -> BudgetChoice:
    """Choose each quantity of the link budget: the option, else the file's variable, else the default.

    Parameters
    ----------
    request : BudgetRequest
        Options of the command.
    file : ChannelFile, optional
        Channels whose file may state quantities too.

    Returns
    -------
    BudgetChoice

    Raises
    ------
    NflaeError
        If a chosen number is out of the range of `simulator.downlink.budget.check_quantity`; the message names the
        option, or the file and its variable.
    """

    def choose(
        name: str, option: str, given: float | None, default: float, convert: Callable[[float], float] = float
    ) -> Setting:
        if given is not None:
            try:
                value = convert(given)
                check_quantity(name, value, value, given)
            except ValueError as error:
                raise NflaeError(f"{option} {given:g}: {error}") from None
            return Setting(value, option)
        if file is not None and name in file.budget:
            scalar = file.budget[name]
            try:
                check_quantity(name, scalar.value, scalar.value, f"{scalar.value:g}")
            except ValueError as error:
                raise NflaeError(
                    f"{file.path}: {scalar.variable}: {error}; correct it in the file or pass {option}"
                ) from None
            return Setting(scalar.value, f"{file.path.name}: {scalar.variable}")
        return Setting(default, "default")

    return BudgetChoice(
        choose("power", "--power-dbw", request.power_dbw, DEFAULT_POWER, watts_from_dbw),
        choose("noise_power", "--noise-dbw", request.noise_dbw, DEFAULT_NOISE_POWER, watts_from_dbw),
        choose("alpha_c", "--alpha-c", request.alpha_c, DEFAULT_ALPHA_C),
        choose("min_rate", "--min-rate", request.min_rate, DEFAULT_MIN_RATE),
    )
