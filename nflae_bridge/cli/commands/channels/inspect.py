"""Implement ``nflae inspect``: list the variables of a file and the reading of its channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError, printable
from nflae_bridge.cli.options.common import ChannelOptions, channel_options
from nflae_bridge.cli.terminal import Table, fact, progress

if TYPE_CHECKING:
    from matlab_io import ChannelFile


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
    from matlab_io import AmbiguousLayout, MatFileError, inspect_file

    variables = [] if reading.shape else inspect_file(source)
    rows = Table(("variable", "size", "class"), title=str(source))
    for variable in variables:
        kind = f"complex {variable.matlab_class}" if variable.is_complex else variable.matlab_class
        rows.add_row(printable(variable.name), " x ".join(str(size) for size in variable.shape), kind)
    if variables:
        rows.show()
    try:
        with reading.open(source) as file:
            fact("version", file.version)
            for note in file.notes:
                fact("channels", note)
            _report_budget(file)
    except MatFileError as error:
        if reading.variable or reading.layout or reading.convention or reading.receive_antennas:
            raise
        if isinstance(error, AmbiguousLayout) and error.readings:
            ways = Table(("--layout", "meaning"), title="possible readings, the likely ones first", left=2)
            for each in error.readings:
                ways.add_row(each.text, each.meaning())
            ways.show()
            order = " and --convention hermitian (y = H' x) or direct (y = H x)" if error.readings[0].row_major else ""
            fact("channels", f"not read: pass --layout with one of the readings above{order}")
            return
        fact("channels", f"not found: {error}")


def _report_budget(file: ChannelFile) -> None:
    """Print the link budget that commands use without options, or the reason why they refuse the file's."""
    from nflae_bridge.files.budget.choice import BudgetRequest, choose_budget

    try:
        choice = choose_budget(BudgetRequest(), file, progress)
    except NflaeError as error:
        fact("link budget", f"not usable: {error}")
        return
    for line in choice.lines():
        fact("link budget", line)
    fact("SNR", choice.snr_line(file.drops))
