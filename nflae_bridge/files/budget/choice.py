"""Choose the link budget for a channel file: options take precedence over the file, the file over the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from matlab_io.errors import NflaeError
from nflae_bridge.files.budget.noise_power import choose_noise
from nflae_bridge.files.settings import PLAUSIBLE_SNR_DB, Setting, from_file, from_option
from simulator.downlink.budget import (
    DEFAULT_ALPHA_C,
    DEFAULT_MIN_RATE,
    DEFAULT_POWER,
    LinkBudget,
    watts_from_dbm,
    watts_from_dbw,
)

if TYPE_CHECKING:  # numpy is not imported for the options of a command
    import numpy as np
    import numpy.typing as npt

    from matlab_io import ChannelFile
    from nflae_bridge.files.budget.user_noise import UserNoise
    from nflae_bridge.files.budget.user_snr import Progress, UserGains

__all__ = ["BudgetChoice", "BudgetRequest", "PowerScope", "choose_budget"]

PowerScope = Literal["each", "equal", "total"]


@dataclass(frozen=True)
class BudgetRequest:
    """Hold the link-budget options of a command; None where an option was not given.

    Parameters
    ----------
    power_dbw, power_dbm : float, optional
        Transmit power P, dBW or dBm.
    noise_dbw, noise_dbm : float, optional
        Noise power sigma^2, dBW or dBm.
    snr_db : float, optional
        P mean(||h_k||^2) / sigma^2, dB, which states sigma^2.
    noise_figure_db, bandwidth_mhz, temperature : float, optional
        Noise figure F, dB, bandwidth B, MHz, and temperature T, K, which state sigma^2 = k T B F.
    alpha_c : float, optional
        Largest share of P for the near-field users.
    min_rate : float, optional
        Minimum rate of every user, bps/Hz.
    power_scope : {"each", "equal", "total"}
        P is the power of each subcarrier, or of all together, in equal or in the best shares.
    yes : bool
        Go on with a default noise power at an implausible SNR.
    """

    power_dbw: float | None = None
    power_dbm: float | None = None
    noise_dbw: float | None = None
    noise_dbm: float | None = None
    snr_db: float | None = None
    noise_figure_db: float | None = None
    bandwidth_mhz: float | None = None
    temperature: float | None = None
    alpha_c: float | None = None
    min_rate: float | None = None
    power_scope: PowerScope = "each"
    yes: bool = False


@dataclass(frozen=True)
class BudgetChoice:
    """Hold the chosen link budget with the origin of each quantity.

    Parameters
    ----------
    power, noise_power : Setting
        W; the noise power is the reference where there is one per user.
    alpha_c : Setting
        Share of the power.
    min_rate : Setting
        bps/Hz.
    noise : UserNoise, optional
        Noise power per user or drop, to be referred to the reference by scaling the channels.
    subcarriers : int
        Number of subcarriers; 1 without such an axis.
    power_scope : {"each", "equal", "total"}
        Whether `power` is that of each subcarrier, or of all together.
    gains : UserGains, optional
        Gains of a sample of the file's users; None without a file.
    """

    power: Setting
    noise_power: Setting
    alpha_c: Setting
    min_rate: Setting
    noise: UserNoise | None = None
    subcarriers: int = 1
    power_scope: PowerScope = "each"
    gains: UserGains | None = None

    @property
    def power_per_subcarrier(self) -> float:
        """Return the power of one subcarrier, W: all of P, or an equal share of it."""
        return self.power.value / (1 if self.power_scope == "each" else self.subcarriers)

    @property
    def median_snr_db(self) -> float:
        """Return the SNR of the median user, P ||h_k||^2 / sigma_k^2, dB; NaN if it is not known."""
        if self.gains is None or not self.gains.median > 0:
            return math.nan if self.gains is None or math.isnan(self.gains.median) else -math.inf
        return 10 * math.log10(self.power_per_subcarrier * self.gains.median / self.noise_power.value)

    @property
    def sum_rate_scope(self) -> str:
        """Return the words that follow a mean sum rate in bps/Hz, with a blank before; empty without subcarriers."""
        if self.subcarriers == 1:
            return ""
        power = {"each": "the whole P", "equal": "an equal share of P", "total": "its share of P"}[self.power_scope]
        return f" per subcarrier, each with {power}; mean over {self.subcarriers} subcarriers and the drops"

    def link_budget(self) -> LinkBudget:
        """Return the link budget that the schemes take, of one subcarrier."""
        return LinkBudget(self.power_per_subcarrier, self.noise_power.value, self.alpha_c.value, self.min_rate.value)

    def noise_for_file(self) -> float | npt.NDArray[np.float64]:
        """Return the noise power as result files hold it: one number, or an array that expands to that of ``rate``."""
        return self.noise_power.value if self.noise is None else self.noise.matlab_array()

    def lines(self) -> list[str]:
        """Describe each quantity and its origin in one line."""
        power = f"power = {_watts(self.power.value)}; {self.power.origin})"
        if self.subcarriers > 1:
            share = f"shared by the {self.subcarriers} subcarriers, {self.power_per_subcarrier:g} W each"
            share += " on average" if self.power_scope == "total" else ""
            power += f", {f'on each of {self.subcarriers} subcarriers' if self.power_scope == 'each' else share}"
        noise = f"noise_power = {_watts(self.noise_power.value)}; {self.noise_power.origin})"
        if self.noise is not None:
            noise = f"noise_power = {self.noise.describe()} ({self.noise_power.origin}): h_k is divided by its root"
        return [
            power,
            noise,
            f"alpha_c = {self.alpha_c.value:g} ({self.alpha_c.origin})",
            f"min_rate = {self.min_rate.value:g} bps/Hz ({self.min_rate.origin})",
        ]

    def snr_line(self, drops: int) -> str:
        """Describe the SNR of the median user in one line.

        Parameters
        ----------
        drops : int
            Number of drops of the file.

        Returns
        -------
        str
        """
        if self.gains is None or math.isnan(self.gains.median):
            return "not known: no drop can be used"
        sample = "" if self.gains.drops >= drops else f" (of the first {self.gains.drops} of {drops} drops)"
        low, high = PLAUSIBLE_SNR_DB
        doubt = (
            "" if low <= self.median_snr_db <= high else "; implausible, check the units of channels, power and noise"
        )
        return f"{self.median_snr_db:.1f} dB for the median user, P ||h||^2 / sigma^2{sample}{doubt}"

    def check_snr(self, where: str) -> None:
        """Check that a default noise power suits the channels.

        Parameters
        ----------
        where : str
            File and variable, for the message.

        Raises
        ------
        NflaeError
            If the noise power is the default and the SNR of the median user is implausible.
        """
        low, high = PLAUSIBLE_SNR_DB
        if not self.noise_power.is_default or math.isnan(self.median_snr_db) or low <= self.median_snr_db <= high:
            return
        raise NflaeError(
            f"{where}: the SNR of the median user is {self.median_snr_db:.1f} dB with the default noise power of"
            f" {self.noise_power.value:g} W, beyond {low:g} to {high:g} dB; pass --noise-dbm, --snr-db, or"
            " --noise-figure-db with --bandwidth-mhz, or --yes if this is intended"
        )


def choose_budget(
    request: BudgetRequest,
    file: ChannelFile | None = None,
    progress: Progress | None = None,
    power_per_antenna: npt.NDArray[np.float64] | None = None,
) -> BudgetChoice:
    """Choose each quantity of the link budget: the option, else the file's variable, else the default.

    Parameters
    ----------
    request : BudgetRequest
        Options of the command.
    file : ChannelFile, optional
        Channels whose file may state quantities too.
    progress : callable, optional
        Context manager that shows the progress of the pass over the file that an SNR requires.
    power_per_antenna : numpy.ndarray, optional
        Limits of the antennas of the file, W, (1,) or (antennas,); the default of the power is then their sum.

    Returns
    -------
    BudgetChoice

    Raises
    ------
    NflaeError
        If a chosen number is out of the range of `simulator.downlink.budget.check_quantity`, or a variable that states
        a quantity not given by an option cannot be used; the message names the option, or the file and its variable.
    """
    power = (
        from_option("power", "--power-dbw", request.power_dbw, watts_from_dbw)
        or from_option("power", "--power-dbm", request.power_dbm, watts_from_dbm)
        or from_file("power", "--power-dbw", file)
        or _default_power(file, power_per_antenna)
    )
    alpha_c = (
        from_option("alpha_c", "--alpha-c", request.alpha_c)
        or from_file("alpha_c", "--alpha-c", file)
        or Setting(DEFAULT_ALPHA_C, "default")
    )
    min_rate = (
        from_option("min_rate", "--min-rate", request.min_rate)
        or from_file("min_rate", "--min-rate", file)
        or Setting(DEFAULT_MIN_RATE, "default")
    )
    subcarriers = 1 if file is None else _subcarriers(file)
    if request.power_scope != "each" and file is not None and "f" not in file.layout:
        needs = f"{file.path}: {file.variable}: --power-scope {request.power_scope} needs a subcarrier axis"
        raise NflaeError(f"{needs}; {_subcarrier_axis(file)}")
    shares = 1 if request.power_scope == "each" else subcarriers
    noise_power, noise = choose_noise(request, file, power.value / shares, progress)
    gains = None
    if file is not None:
        from nflae_bridge.files.budget.user_snr import sample_gains

        gains = sample_gains(file, noise)
    return BudgetChoice(power, noise_power, alpha_c, min_rate, noise, subcarriers, request.power_scope, gains)


def _default_power(file: ChannelFile | None, power_per_antenna: npt.NDArray[np.float64] | None) -> Setting:
    """Return the power where none is stated; limits out of range are refused with the problem."""
    if file is None or power_per_antenna is None or len(power_per_antenna) not in (1, file.antennas):
        return Setting(DEFAULT_POWER, "default")
    total, most = power_per_antenna.mean() * file.antennas, power_per_antenna.max()
    if not (power_per_antenna.min() > 0 and math.isfinite(total)):
        return Setting(DEFAULT_POWER, "default")
    return Setting(float(total), f"default: {file.antennas} antennas of at most {most:g} W")


def _subcarriers(file: ChannelFile) -> int:
    return math.prod(size for letter, size in zip(file.drop_letters, file.drop_axes, strict=True) if letter == "f")


def _subcarrier_axis(file: ChannelFile) -> str:
    """Return what gives a file an axis of subcarriers."""
    from nflae_bridge.files.slots import subcarriers_as_drops

    found = subcarriers_as_drops(file)
    if found == 1:
        return f"name it f in --layout (it is {file.layout} now)"
    return (
        f"its drops are {found} subcarriers each, one after another: save reshape({file.variable}, {file.antennas},"
        f" {file.users}, {found}, []) with layout = 'nkfs'"
    )


def _watts(value: float) -> str:
    return f"{value:g} W ({10 * math.log10(value):.4g} dBW"
