"""Define the options of ``nflae link``: the blocks transmitted and the scenario."""

from __future__ import annotations

from dataclasses import dataclass

import click

from nflae_bridge.cli.options import option_group
from simulator.link_level.modulation import DEFAULT_SYMBOLS


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
        metavar="perfect|noisy:DB|aged:SLOTS|quantised:BITS",
        help="CSI from which the precoders are computed.",
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
