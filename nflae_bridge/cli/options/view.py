"""Define the options of the live view of ``nflae serve`` and ``nflae stream``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from nflae_bridge.cli.options.common import option_group

if TYPE_CHECKING:
    from nflae_bridge.live.view.address import ViewSettings


@dataclass(frozen=True)
class ViewOptions:
    """Live view of a program.

    Attributes
    ----------
    http : str, optional
        Address of the page; None for no page.
    http_token : str, optional
        Text that its requests must contain.
    http_array : str, optional
        Geometry of the antennas.
    """

    http: str | None
    http_token: str | None
    http_array: str | None

    def settings(self) -> ViewSettings | None:
        """Return the settings of the view, None for no view; raise UsageError where an option is wrong."""
        from nflae_bridge.live.view.address import ViewSettings

        if self.http is None:
            for option, value in (("--http-token", self.http_token), ("--http-array", self.http_array)):
                if value is not None and not _is_from_environment(option):
                    raise click.UsageError(f"{option} is for the live view: give --http HOST:PORT too")
            return None
        try:
            settings = ViewSettings(self.http, self.http_token, self.http_array)
        except NflaeError as error:
            raise click.UsageError(str(error)) from None
        if settings.panel is not None:
            require("torch", "--http-array panel:RxC:GHZ")
        return settings


def _is_from_environment(option: str) -> bool:
    """Return whether the value of an option of the present command is that of its environment variable."""
    name = option.removeprefix("--").replace("-", "_")
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.ENVIRONMENT


view_options = option_group(
    ViewOptions,
    "viewing",
    click.option(
        "--http",
        metavar="HOST:PORT",
        help="Live view: a page with the beams, rates, powers and latencies of the last drops, e.g. 127.0.0.1:8080.",
    ),
    click.option(
        "--http-token",
        metavar="TEXT",
        envvar="NFLAE_HTTP_TOKEN",
        show_envvar=True,
        help="Text that the URL of the live view must contain as ?token=TEXT; required where other machines reach it.",
    ),
    click.option(
        "--http-array",
        metavar="line:GHZ|panel:RxC:GHZ",
        help="Arrangement of the antennas, half a wavelength apart, and their carrier: the live view draws a map of"
        " positions for a line, of azimuth and elevation for a panel.  [default: beams over the angle of a line]",
    ),
)
