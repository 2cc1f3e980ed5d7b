"""Which link budget applies to a file: the command line's, else the file's, else the defaults; and says which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from simulator.downlink.budget import LinkBudget

DEFAULT_POWER_DBW = 0.0
DEFAULT_NOISE_DBW = -20.0
_WIDEST_DBW = 300.0


@dataclass(frozen=True)
class BudgetRequest:
    """What the user asked for; None where nothing was said. dBW, dBW, a share of P, bps/Hz."""

    power_dbw: float | None = None
    noise_dbw: float | None = None
    alpha_c: float | None = None
    min_rate: float | None = None


@dataclass(frozen=True)
class Setting:
    """A number and where it comes from: an option, a file's variable, or ``default``."""

    value: float
    origin: str


@dataclass(frozen=True)
class BudgetChoice:
    """The link budget chosen: power and noise_power in W, alpha_c as a share of P, min_rate in bps/Hz."""

    power: Setting
    noise_power: Setting
    alpha_c: Setting
    min_rate: Setting

    def link_budget(self) -> LinkBudget:
        """As the schemes take it."""
        from simulator.downlink.budget import LinkBudget

        return LinkBudget(self.power.value, self.noise_power.value, self.alpha_c.value, self.min_rate.value)

    def lines(self) -> list[str]:
        """One line a quantity, for people."""

        def watts(name: str, setting: Setting) -> str:
            dbw = 10 * math.log10(setting.value)
            return f"{name} = {setting.value:g} W ({dbw:.4g} dBW; {setting.origin})"

        return [
            watts("power", self.power),
            watts("noise_power", self.noise_power),
            f"alpha_c = {self.alpha_c.value:g} ({self.alpha_c.origin})",
            f"min_rate = {self.min_rate.value:g} bps/Hz ({self.min_rate.origin})",
        ]


def choose_budget(request: BudgetRequest, scalars: dict[str, float], path: Path) -> BudgetChoice:
    """Option > the file's scalar > default, quantity by quantity.

    scalars: ``power``, ``noise_power`` (W), ``alpha_c``, ``min_rate`` (bps/Hz), those the file at ``path`` has.
    Raises NflaeError, naming the option or the file's variable, for a number out of its range.
    """

    def pick(name: str, option: str, asked: float | None, default: float) -> Setting:
        if asked is not None:
            return Setting(asked, option)
        if name in scalars:
            return Setting(scalars[name], f"{path.name}: {name}")
        return Setting(default, "default")

    choice = BudgetChoice(
        pick("power", "--power-dbw", _watts("--power-dbw", request.power_dbw), 10 ** (DEFAULT_POWER_DBW / 10)),
        pick("noise_power", "--noise-dbw", _watts("--noise-dbw", request.noise_dbw), 10 ** (DEFAULT_NOISE_DBW / 10)),
        pick("alpha_c", "--alpha-c", request.alpha_c, 1.0),
        pick("min_rate", "--min-rate", request.min_rate, 0.0),
    )
    _require(path, choice.power, choice.power.value > 0, "power in watts has to be positive and finite")
    _require(path, choice.noise_power, choice.noise_power.value > 0, "noise in watts has to be positive and finite")
    _require(
        path, choice.alpha_c, 0 < choice.alpha_c.value <= 1, "the near-field share of the power has to lie in (0, 1]"
    )
    _require(path, choice.min_rate, choice.min_rate.value >= 0, "a rate in bps/Hz has to be at least 0 and finite")
    return choice


def _require(path: Path, setting: Setting, holds: bool, rule: str) -> None:
    if holds and math.isfinite(setting.value):
        return
    if setting.origin.startswith("--"):
        raise NflaeError(f"{setting.origin} {setting.value:g}: {rule}")
    where = path.parent / setting.origin
    raise NflaeError(f"{where} = {setting.value:g}: {rule}; correct it in the file, or overrule it with an option")


def _watts(option: str, dbw: float | None) -> float | None:
    if dbw is None:
        return None
    if not abs(dbw) <= _WIDEST_DBW:
        raise NflaeError(f"{option} {dbw:g}: a power in dBW has to lie within -300 and 300")
    return float(10 ** (dbw / 10))
