"""Define the options of precoding problems beyond one total power."""

from __future__ import annotations

import click

from nflae_bridge.cli.options.common import option_group
from nflae_bridge.files.problem import ProblemRequest

_array_options = (
    click.option(
        "--antenna-groups",
        type=int,
        metavar="ANTENNAS",
        help="Antennas per group, consecutive: a group has the sum of its antennas' limits in common.",
    ),
    click.option("--rf-chains", type=int, help="RF chains of a hybrid array.  [default: fully digital]"),
    click.option("--phase-bits", type=int, help="Bits of the phase shifters.  [default: continuous phases]"),
    click.option(
        "--connection",
        type=click.Choice(["full", "sub"]),
        help="Every RF chain feeds every antenna, or a block of antennas of its own.  [default: full]",
    ),
)
problem_options = option_group(
    ProblemRequest,
    "wanted",
    click.option(
        "--objective",
        type=click.Choice(["sum-rate", "max-min", "proportional-fair"]),
        help="Sum rate, smallest rate, or sum of logarithms of mean rates.  [default: sum-rate]",
    ),
    click.option(
        "--weights",
        metavar="VAR|a,b,c",
        help="Weights of the users' rates: a variable, K or K x S, or one number per user.",
    ),
    click.option(
        "--window",
        type=int,
        metavar="DROPS",
        help="Consecutive drops per mean rate of --objective proportional-fair.  [default: 1]",
    ),
    click.option(
        "--power-per-antenna",
        metavar="W|VAR|a,b,c",
        help="Largest power of each antenna, W: a number, or a variable or list of N; the total power then holds only"
        " where it is given.",
    ),
    *_array_options,
    click.option(
        "--streams",
        type=int,
        help="Streams per user with --receive-antennas joint.  [default: as many as receive antennas]",
    ),
)


def _refuse_file_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            f"{parameter.opts[0]} applies to the channels of a file only: leave it out, or use nflae evaluate IN.mat"
        )


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        for part in value.split(",") if value is not None else ():
            float(part)
    except ValueError:
        each = "per user" if parameter.name == "weights" else "of all antennas, or one each,"
        raise click.BadParameter(
            f"{value!r}: give one number {each} with commas between them; variables are for nflae evaluate IN.mat"
        ) from None
    return value


drawn_problem_options = option_group(
    ProblemRequest,
    "wanted",
    click.option(
        "--objective",
        type=click.Choice(["sum-rate", "max-min"]),
        help="Sum rate, or smallest rate.  [default: sum-rate]",
    ),
    click.option("--weights", callback=_numbers, metavar="a,b,c", help="Weights of the users' rates, one number each."),
    click.option(
        "--power-per-antenna",
        callback=_numbers,
        metavar="W|a,b,c",
        help="Largest power of each antenna, W, one number or N, beside the total power of 1 W.",
    ),
    *_array_options,
    *(
        click.option(name, hidden=True, expose_value=False, callback=_refuse_file_option)
        for name in ("--window", "--streams", "--receive-antennas", "--power-scope")
    ),
)
