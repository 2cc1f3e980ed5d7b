"""Implement ``nflae inspect``: list the variables of a file and the reading of its channels."""

from __future__ import annotations

from pathlib import Path

import click

from nflae_bridge.cli.options import ChannelOptions, channel_options
from nflae_bridge.cli.terminal import Table, fact


@click.command(
    "inspect",
    short_help="List the variables of a file and the reading of H.",
    epilog="""\b
    Examples:
      nflae inspect channels.mat
      nflae inspect quadriga.mat --var chan.H --layout knfs

    Exit status: 0 if the file can be read, with or without channels in it; 1 if it cannot, or if the channels named by
    an option are not there.""",
)
@click.argument("source", metavar="FILE.mat", type=click.Path(path_type=Path))
@channel_options
def command(source: Path, reading: ChannelOptions) -> None:
    """List the variables of FILE.mat; name the one read as H, its layout and convention, and the reason."""
    from matlab_io import MatFileError, inspect_file

    variables = inspect_file(source)
    rows = Table(("variable", "size", "class"), title=str(source))
    for variable in variables:
        kind = f"complex {variable.matlab_class}" if variable.is_complex else variable.matlab_class
        rows.add_row(variable.name, " x ".join(str(size) for size in variable.shape), kind)
    rows.show()
    try:
        with reading.open(source) as file:
            fact("version", file.version)
            for note in file.notes:
                fact("channels", note)
            units = {"power": " W", "noise_power": " W", "alpha_c": "", "min_rate": " bps/Hz"}
            for name, value in file.scalars.items():
                fact("link budget", f"{name} = {value:g}{units[name]}")
            if not file.scalars:
                fact("link budget", "none in the file: options or defaults apply")
    except MatFileError as error:
        if reading != ChannelOptions(None, None, None, reading.allow_real):
            raise
        fact("channels", f"not found: {error}")
