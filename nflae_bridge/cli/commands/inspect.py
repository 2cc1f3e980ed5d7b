"""``nflae inspect``: what is in a file, and what would be taken as the channels."""

from __future__ import annotations

from pathlib import Path

import click

from nflae_bridge.cli.options import ChannelOptions, channel_options
from nflae_bridge.cli.terminal import fact, show, table


@click.command(
    "inspect",
    short_help="What is in a .mat file, and what is taken as H.",
    epilog="""\b
    Examples:
      nflae inspect channels.mat
      nflae inspect quadriga.mat --var chan.H --layout knfs

    Exit status 0 for every file that can be read, whether or not channels are found in it; 1 if channels were asked
    for, by an option, that can't be had.""",
)
@click.argument("source", metavar="FILE.mat", type=click.Path(path_type=Path))
@channel_options
def command(source: Path, reading: ChannelOptions) -> None:
    """What is in FILE.mat, what is taken as H, in which layout and convention, and why."""
    from rich.markup import escape

    from matlab_io import MatFileError, inspect_file

    variables = inspect_file(source)
    rows = table("variable", "size", "class", title=str(source))
    for variable in variables:
        kind = f"complex {variable.matlab_class}" if variable.is_complex else variable.matlab_class
        rows.add_row(escape(variable.name), " x ".join(str(size) for size in variable.shape), escape(kind))
    show(rows)
    try:
        with reading.open(source) as file:
            fact("version", file.version)
            for note in file.notes:
                fact("channels", note)
            units = {"power": " W", "noise_power": " W", "alpha_c": "", "min_rate": " bps/Hz"}
            for name, value in file.scalars.items():
                fact("link budget", f"{name} = {value:g}{units[name]}")
            if not file.scalars:
                fact("link budget", "none in the file: the options' or the defaults' is used")
    except MatFileError as error:
        if reading != ChannelOptions(None, None, None, reading.allow_real):
            raise
        fact("channels", f"not found: {error}")
