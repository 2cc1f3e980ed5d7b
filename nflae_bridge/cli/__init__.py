"""The command line: ``nflae COMMAND``, one module a command.

Starting quickly is part of the job: this package imports nothing but click and the standard library; a command's
module is imported when the command is named, and what computes (torch, numpy, h5py, ...) when the work begins.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from matlab_io.extras import explain_import
from matlab_io.version import __version__
from nflae_bridge.cli.failure import failing_in_one_line

_COMMANDS = (
    *("inspect", "precode", "evaluate", "simulate", "models", "train", "serve", "keys", "stream", "link"),
    *("reproduce", "bench"),
)
# The extra that holds all a command imports, where that is more than the engine.
_EXTRAS = {"train": "train", "link": "link", "reproduce": "reproduce", "bench": "plot"}


class CommandGroup(click.Group):
    """Commands found by name among this package's modules; whatever they raise becomes one line and exit 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.commands.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        with failing_in_one_line(tracebacks=bool(ctx.params.get("debug"))):
            try:
                return super().invoke(ctx)
            except ModuleNotFoundError as error:
                command = ctx.invoked_subcommand or ""
                raise explain_import(error, f"nflae {command}", _EXTRAS.get(command)) from error


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    Examples:
      nflae inspect channels.mat                      what is in it, what is taken as H
      nflae precode channels.mat -o precoders.mat     near/far labels, precoders and powers
      nflae evaluate channels.mat                     every scheme on these channels
      nflae simulate -o channels.mat --users 8        channels to try it with
      nflae serve                                     precoders for running programs, over ZeroMQ

    Exit status: 0; 1 if the work failed (one line says what, where and what to do); 2 for wrong usage.""",
)
@click.version_option(__version__, prog_name="nflae")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def main(debug: bool) -> None:
    """Near-field multi-user precoding for XL-MIMO arrays: .mat files in and out, or live over ZeroMQ."""
