"""Choose the noise power: a level, an SNR of the mean user, or the thermal noise of a bandwidth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError
from nflae_bridge.files.settings import Setting, from_file, from_option, stated_in
from simulator.downlink.budget import DEFAULT_NOISE_POWER, check_quantity, thermal_noise, watts_from_dbm, watts_from_dbw

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from nflae_bridge.files.budget.choice import BudgetRequest
    from nflae_bridge.files.budget.user_noise import UserNoise
    from nflae_bridge.files.budget.user_snr import Progress

__all__ = ["choose_noise"]

_STATEMENTS = ("noise_power", "snr_db", "noise_figure_db")
_SAME_DB = 0.1  # thermal noise and a noise power that differ by less agree


def choose_noise(
    request: BudgetRequest, file: ChannelFile | None, power: float, progress: Progress | None
) -> tuple[Setting, UserNoise | None]:
    """Choose the noise power: the option, else what the file states, else the default.

    Parameters
    ----------
    request : BudgetRequest
        Options of the command.
    file : ChannelFile or None
        Open file.
    power : float
        Transmit power of one subcarrier, W, for an SNR.
    progress : callable or None
        Context manager that shows the progress of the pass over the file that an SNR requires.

    Returns
    -------
    tuple of Setting and UserNoise or None
        Noise power, W, and that of every user or drop if the file states several; the former is then their reference.

    Raises
    ------
    NflaeError
        If a number is out of range or cannot be used, or the file states the noise power in two ways.
    """
    given = from_option("noise_power", "--noise-dbw", request.noise_dbw, watts_from_dbw) or from_option(
        "noise_power", "--noise-dbm", request.noise_dbm, watts_from_dbm
    )
    if given is not None or request.snr_db is not None:
        _refuse_thermal(request)
    if given is not None:
        return given, None
    if request.snr_db is not None:
        return _from_snr(request.snr_db, f"--snr-db {request.snr_db:g}", file, power, progress), None
    if request.noise_figure_db is not None:
        return _thermal(request, file), None
    return _stated_in_file(request, file, power, progress)


def _stated_in_file(
    request: BudgetRequest, file: ChannelFile | None, power: float, progress: Progress | None
) -> tuple[Setting, UserNoise | None]:
    named = [] if file is None else [name for name in _STATEMENTS if name in file.budget]
    if file is None or not named:
        _check_options(request)
        return Setting(DEFAULT_NOISE_POWER, "default"), None
    usable = [name for name in named if not file.budget[name].problem]
    if not usable:
        raise NflaeError(f"{file.path}: {file.budget[named[0]].problem}")
    if "noise_figure_db" not in usable:
        _check_options(request)
    if len(usable) > 1:
        _check_agreement(request, file, usable)
    if usable[0] == "snr_db":
        found = file.budget["snr_db"]
        origin = f"{file.path.name}: {found.variable} = {found.value:g} dB"
        return _from_snr(found.value, origin, file, power, progress), None
    if usable[0] == "noise_figure_db":
        return _thermal(request, file), None
    found = file.budget["noise_power"]
    if found.numbers.size == 1:
        one = from_file("noise_power", "--noise-dbw", file)
        assert one is not None
        return one, None
    return _per_user(file)


def _per_user(file: ChannelFile) -> tuple[Setting, UserNoise]:
    from nflae_bridge.files.budget.user_noise import fit_user_noise

    found = file.budget["noise_power"]
    remedy = "correct it in the file or pass --noise-dbw"
    try:
        check_quantity("noise_power", float(found.numbers.min()), float(found.numbers.max()))
    except ValueError as error:
        raise NflaeError(f"{file.path}: {found.variable}: {error}; {remedy}") from None
    noise = fit_user_noise(file, found.numbers)
    if isinstance(noise, str):
        raise NflaeError(f"{file.path}: {found.variable} {noise}, or pass --noise-dbw")
    return Setting(noise.reference, f"{file.path.name}: {found.variable}"), noise


def _from_snr(snr_db: float, origin: str, file: ChannelFile | None, power: float, progress: Progress | None) -> Setting:
    """Return the noise power at which P mean(||h_k||^2) / sigma^2 is an SNR."""
    from nflae_bridge.files.budget.user_snr import mean_gain

    if file is None:
        raise NflaeError(f"{origin}: an SNR of the mean user needs a file of channels; pass --noise-dbw")
    value = power * mean_gain(file, progress) * 10 ** (-snr_db / 10) if abs(snr_db) <= 1000 else math.nan
    try:
        check_quantity("noise_power", value, value, f"{value:g} W")
    except ValueError as error:
        raise NflaeError(f"{origin}: {error}; give the SNR of the mean user in dB") from None
    return Setting(value, f"{origin} of the mean user")


def _thermal(request: BudgetRequest, file: ChannelFile | None) -> Setting:
    """Return the thermal noise power k T B F."""
    figure, option = request.noise_figure_db, "--noise-figure-db"
    if figure is None:
        figure = stated_in(file, "noise_figure_db")
    bandwidth = stated_in(file, "bandwidth") if request.bandwidth_mhz is None else 1e6 * request.bandwidth_mhz
    if figure is None or bandwidth is None:
        where = (
            "--noise-figure-db"
            if file is None or request.noise_figure_db is not None
            else (f"{file.path}: {file.budget['noise_figure_db'].variable}")
        )
        raise NflaeError(f"{where}: a noise figure needs the noise bandwidth; pass --bandwidth-mhz")
    temperature = request.temperature or stated_in(file, "temperature") or 290.0
    value = thermal_noise(bandwidth, figure, temperature)
    source = f"noise figure {figure:g} dB, {bandwidth / 1e6:g} MHz, {temperature:g} K"
    try:
        check_quantity("noise_power", value, value, f"{value:g} W")
    except ValueError as error:
        raise NflaeError(f"{source}: {error}; correct {option}, --bandwidth-mhz and --temperature") from None
    return Setting(value, source)


def _check_options(request: BudgetRequest) -> None:
    for option, given in (("--bandwidth-mhz", request.bandwidth_mhz), ("--temperature", request.temperature)):
        if given is not None:
            raise NflaeError(f"{option} {given:g}: states no noise power without --noise-figure-db; pass it too")


def _refuse_thermal(request: BudgetRequest) -> None:
    """Refuse bandwidth and temperature beside an option that states the noise power."""
    stated = next(name for name in ("noise_dbw", "noise_dbm", "snr_db") if getattr(request, name) is not None)
    for option, given in (("--bandwidth-mhz", request.bandwidth_mhz), ("--temperature", request.temperature)):
        if given is not None:
            other = f"--{stated.replace('_', '-')}"
            raise NflaeError(f"{option} {given:g}: {other} states the noise power without it; leave one of them out")


def _check_agreement(request: BudgetRequest, file: ChannelFile, usable: list[str]) -> None:
    """Check that a noise power equals the thermal noise where the file states both; an SNR is not compared."""
    budget = file.budget
    if "snr_db" not in usable:
        if "bandwidth" not in budget and request.bandwidth_mhz is None:
            return
        level, thermal = budget["noise_power"], _thermal(request, file).value
        if level.numbers.size == 1 and level.value > 0 and abs(10 * math.log10(level.value / thermal)) < _SAME_DB:
            return
    names = " and ".join(budget[name].variable for name in usable)
    remedies = {
        "noise_power": "--noise-dbw " + f"{10 * math.log10(max(budget['noise_power'].value, 1e-30)):.6g}"
        if "noise_power" in usable
        else "",
        "snr_db": f"--snr-db {budget['snr_db'].value:g}" if "snr_db" in usable else "",
        "noise_figure_db": f"--noise-figure-db {budget['noise_figure_db'].value:g}"
        if "noise_figure_db" in usable
        else "",
    }
    options = " or ".join(remedies[name] for name in usable)
    raise NflaeError(f"{file.path}: {names} state the noise power in different ways; pass {options}, or keep one")
