"""Declare options that take the endpoint of a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.sockets.endpoints import Endpoint


def endpoint_option(name: str, help: str, is_input: bool = False, required: bool = False) -> Callable[..., Any]:
    """Return a decorator that adds an option for an endpoint, ``KIND:ADDRESS[,OPTION...]``.

    Parameters
    ----------
    name : str
        Name of the option, e.g. ``"--csi"``.
    help : str
        Its help.
    is_input : bool
        Messages are received there.
    required : bool
        The option has to be given.

    Returns
    -------
    callable
        Decorator; the command receives an `Endpoint`, or None.
    """

    def convert(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Endpoint | None:
        from nflae_bridge.live.gnuradio.sockets.endpoints import parse_endpoint

        try:
            return None if value is None else parse_endpoint(value, is_input)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return click.option(name, callback=convert, metavar="KIND:ADDRESS[,OPTION...]", help=help, required=required)
