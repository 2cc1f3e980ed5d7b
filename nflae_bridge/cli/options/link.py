"""Define the options of ``nflae link``: the blocks transmitted, the scenario, the link budget and the SNRs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.common import BudgetOptions, level_options, option_group
from nflae_bridge.cli.terminal import progress, warn
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest, choose_budget
from nflae_bridge.files.settings import Setting
from simulator.csi.registry import csi_forms
from simulator.link_level.modulation import DEFAULT_SYMBOLS

if TYPE_CHECKING:
    from matlab_io import ChannelFile

_MAX_POINTS = 1000
_MAX_SNR_DB = 300.0
_HALF_SWEEP_DB, _STEP_DB = 15.0, 2.5
_CENTRE_DB = 10.0  # SNR of the median user at the centre of a sweep without a noise power


def _waveform(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """Parse ``SUBCARRIERS:PREFIX``."""
    if value is None:
        return 0, 0
    subcarriers, _, prefix = value.partition(":")
    if not subcarriers.isdecimal() or not (prefix or "0").isdecimal():
        raise click.BadParameter(f"{value!r}: give SUBCARRIERS:PREFIX, e.g. 12:1")
    sizes = int(subcarriers), int(prefix or 0)
    if not 1 <= sizes[0] <= 4096 or sizes[1] > sizes[0]:
        raise click.BadParameter(f"{value!r}: give 1 to 4096 subcarriers and a prefix of at most as many samples")
    return sizes


@dataclass(frozen=True)
class TransmissionOptions:
    """Blocks to transmit and the CSI of the transmitter; see the options of the same names.

    Attributes
    ----------
    modulation, csi : str
        Modulation and CSI model.
    code : str, optional
        Channel code; None for the default of the modulation.
    symbols : int
        Symbols per block.
    ofdm : tuple of int
        Subcarriers and prefix; zeros for single-carrier transmission.
    """

    modulation: str
    code: str | None
    csi: str
    symbols: int
    ofdm: tuple[int, int]


transmission_options = option_group(
    TransmissionOptions,
    "transmission",
    click.option(
        "--modulation",
        default="16qam",
        show_default=True,
        help="qpsk, 16qam, 64qam or 256qam; auto, auto:256qam: per user and drop by the CQI table up to that.",
    ),
    click.option("--code", metavar="none|ldpc:RATE", help="Channel code.  [default: ldpc:1/2; with auto the table's]"),
    click.option(
        "--csi",
        default="perfect",
        show_default=True,
        metavar="MODEL,...",
        help=f"CSI from which the precoders are computed: {', '.join(csi_forms())}, or several with commas between"
        " them; ageing applies first, then estimation, feedback and prediction.",
    ),
    click.option(
        "--symbols",
        type=click.IntRange(min=1, max=1 << 16),
        default=DEFAULT_SYMBOLS,
        show_default=True,
        help="Symbols per block.",
    ),
    click.option(
        "--ofdm",
        callback=_waveform,
        metavar="SUBCARRIERS:PREFIX",
        help="Transmit on OFDM grids with a cyclic prefix.  [default: single carrier, symbol by symbol]",
    ),
)


@dataclass(frozen=True)
class ScenarioOptions:
    """Scenario whose drops replace a file.

    Attributes
    ----------
    scenario : {"uav", "paper"}, optional
        Name; None if a file is given.
    users, antennas : int
        Users K and antennas N.
    speed : float
        Speed of the users, m/s.
    """

    scenario: str | None
    users: int
    antennas: int
    speed: float


scenario_options = option_group(
    ScenarioOptions,
    "scene",
    click.option(
        "--scenario", type=click.Choice(["uav", "paper"]), help="Random drops of this scenario, not a file's."
    ),
    click.option("--users", type=click.IntRange(min=1), default=8, show_default=True, help="Users of the scenario."),
    click.option(
        "--antennas", type=click.IntRange(min=1), default=256, show_default=True, help="Antennas of the scenario."
    ),
    click.option(
        "--speed",
        type=click.FloatRange(min=0),
        default=3.0,
        show_default=True,
        help="Speed of the scenario's users, m/s, by which CSI ages with --csi aged.",
    ),
)

link_budget_options = option_group(BudgetOptions, "request", *level_options)


def snr_points(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    """Parse ``-5:25:2.5`` (first, last and step) or numbers with commas between them.

    Parameters
    ----------
    ctx, parameter : click.Context, click.Parameter
        Context and option.
    value : str or None
        Text given.

    Returns
    -------
    list of float or None
        SNRs in ascending order, dB; None if the option was not given.

    Raises
    ------
    click.BadParameter
        If the text is neither.
    """
    if value is None:
        return None
    try:
        numbers = [float(part) for part in value.split(":" if ":" in value else ",")]
    except ValueError:
        numbers = []
    if ":" in value and len(numbers) in (2, 3):
        first, last, step = numbers if len(numbers) == 3 else (*numbers, 1.0)
        steps = (last - first) / step if step > 0 else math.nan
        numbers = [first + index * step for index in range(int(steps + 1e-9) + 1)] if 0 <= steps < _MAX_POINTS else []
    if not numbers or not all(abs(number) <= _MAX_SNR_DB for number in numbers):
        raise click.BadParameter(f"{value!r}: give FIRST:LAST:STEP in dB, e.g. -5:25:2.5, or numbers, e.g. 0,10,20")
    return sorted({round(number, 3) for number in numbers})


def choose_link_budget(request: BudgetRequest, file: ChannelFile | None, sweep: list[float] | None) -> BudgetChoice:
    """Choose the link budget of a sweep; SNRs given by an option replace a power or noise power that cannot be used.

    Parameters
    ----------
    request : BudgetRequest
        Options of the command.
    file : ChannelFile or None
        Channel file, open; None for a scenario.
    sweep : list of float or None
        Transmit SNRs given by an option, dB.

    Returns
    -------
    BudgetChoice

    Raises
    ------
    NflaeError
        As `choose_budget`.
    """
    try:
        return choose_budget(request, file, progress)
    except NflaeError as error:
        if sweep is None:
            raise
        levels = request.power_dbw, request.power_dbm, request.noise_dbw, request.noise_dbm, request.noise_figure_db
        if any(level is not None for level in levels):
            raise
        choice = choose_budget(replace(request, power_dbw=0.0, noise_dbw=0.0), file)
        warn(f"{error} (not needed here: --snr-db is given)")
        return replace(choice, power=Setting(1.0, "default"), noise_power=Setting(1.0, "default"))


def default_sweep(budget: BudgetChoice) -> list[float]:
    """Return the transmit SNRs around a link budget.

    Parameters
    ----------
    budget : BudgetChoice
        Link budget.

    Returns
    -------
    list of float
        P / sigma^2, dB: the link budget's, to a whole number, and up to 15 dB beside it. With a default noise power the
        value at which the median user has 10 dB takes its place.
    """
    centre = 10 * math.log10(budget.power_per_subcarrier / budget.noise_power.value)
    if budget.noise_power.is_default:
        has_gain = math.isfinite(budget.median_snr_db)
        centre = _CENTRE_DB + (centre - budget.median_snr_db if has_gain else 0.0)
    first, count = round(centre) - _HALF_SWEEP_DB, int(2 * _HALF_SWEEP_DB / _STEP_DB) + 1
    return [first + index * _STEP_DB for index in range(count)]


def sweep_line(budget: BudgetChoice, snr_db: list[float]) -> str:
    """Describe the SNRs of a sweep in one line.

    Parameters
    ----------
    budget : BudgetChoice
        Link budget.
    snr_db : list of float
        P / sigma^2, dB.

    Returns
    -------
    str
    """
    low, high = min(snr_db), max(snr_db)
    line = f"P / sigma^2 swept from {low:g} to {high:g} dB"
    if not math.isfinite(budget.median_snr_db):
        return line
    own = 10 * math.log10(budget.power_per_subcarrier / budget.noise_power.value)
    gain = budget.median_snr_db - own
    return f"{line}, {low + gain:.1f} to {high + gain:.1f} dB for the median user" + (
        "" if budget.noise_power.is_default else f" ({budget.median_snr_db:.1f} dB at the link budget above)"
    )
