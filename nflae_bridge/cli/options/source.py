"""Define the option that names a channel source."""

from __future__ import annotations

from typing import Any

import click


class SourceOption(click.Option):
    """Option that names a channel source, ``NAME[:FILE]``; its help lists them, those of other packages too.

    The registry is read when the help or a completion is needed, not when the command is defined.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, metavar="NAME[:FILE]", shell_complete=self._complete, **settings)

    @property
    def help(self) -> str:
        """Text of the help, with the names of the sources."""
        from simulator.channels.sources import source_names

        text, bracket, default = self._text.partition("  [default")
        return f"{text} One of {', '.join(source_names())}.{bracket}{default}"

    @help.setter
    def help(self, text: str) -> None:
        self._text = text

    def _complete(self, ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        from simulator.channels.sources import source_names

        return [name for name in source_names() if name.startswith(incomplete)]
