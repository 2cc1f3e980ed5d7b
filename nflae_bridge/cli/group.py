"""Group the commands of ``nflae`` and import each when it is named.

Nothing but click and the standard library is imported before, so that the command line starts quickly; torch, numpy,
h5py and the like are imported when the work begins.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

import click

from matlab_io.extras import explain_import
from matlab_io.version import __version__
from nflae_bridge.cli.failure import failing_in_one_line

# Folder of each command's module, in the order of the overview.
_COMMANDS = {
    "inspect": "channels",
    "precode": "channels",
    "estimate": "channels",
    "predict": "channels",
    "track": "channels",
    "embed": "channels",
    "feedback": "channels",
    "evaluate": "studies",
    "simulate": "channels",
    "models": "models",
    "train": "models",
    "serve": "live",
    "keys": "live",
    "stream": "live",
    "record": "live",
    "replay": "live",
    "gnuradio": "live",
    "matlab-path": "live",
    "link": "studies",
    "beams": "studies",
    "reproduce": "studies",
    "bench": "studies",
}


class CommandGroup(click.Group):
    """Group of the commands in this package's modules; an exception of theirs becomes one line and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the overview."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None for an unknown name.

        Parameters
        ----------
        ctx : click.Context
            Context of the group.
        cmd_name : str
            Name of the command.
        """
        if cmd_name not in _COMMANDS:
            return None
        module = f"nflae_bridge.cli.commands.{_COMMANDS[cmd_name]}.{cmd_name.replace('-', '_')}"
        command: click.Command = import_module(module).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the named command and report its errors."""
        with failing_in_one_line(tracebacks=bool(ctx.params.get("debug"))):
            try:
                return super().invoke(ctx)
            except ModuleNotFoundError as error:
                # The packages name the Python function that needs the extra; here it is the command.
                cause = error.__cause__ if isinstance(error.__cause__, ModuleNotFoundError) else error
                raise explain_import(cause, f"nflae {ctx.invoked_subcommand}") from error


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    Examples:
      nflae simulate -o channels.mat --users 8        simulate channels
      nflae inspect channels.mat                      list the variables and the reading of H
      nflae precode channels.mat -o precoders.mat     compute labels, precoders and powers
      nflae evaluate channels.mat                     compare all schemes on these channels
      nflae estimate noisy.mat -o channels.mat        estimate channels from received pilots
      nflae predict flight.mat -o next.mat            predict the channels after the last snapshot
      nflae serve                                     precode for running programs, over ZeroMQ

    Exit status: 0 on success; 1 if the work failed, with one line on stderr that names the fault, its place and the
    remedy; 2 for wrong usage.""",
)
@click.version_option(__version__, prog_name="nflae")
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
def main(debug: bool) -> None:
    """Compute near-field multi-user precoders for XL-MIMO arrays, from .mat files or live over ZeroMQ."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be in the encoding of the terminal
        sys.stdout.reconfigure(errors="backslashreplace")
