"""Define the options by which ``nflae stream`` tracks users."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import option_group

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.computation.tracking import ItemTracker
    from nflae_bridge.live.gnuradio.inlet import Warn


@dataclass(frozen=True)
class TrackingOptions:
    """Tracks of users; see the options of the same names.

    Attributes
    ----------
    track : bool
        Track the users.
    slot_ms : float, optional
        Time between items, ms.
    array_height : float
        Height of the array's centre, m.
    tilt_deg : float
        Down-tilt of the array, degrees.
    carrier_ghz : float
        Carrier frequency, GHz.
    """

    track: bool = False
    slot_ms: float | None = None
    array_height: float = 0.0
    tilt_deg: float = 0.0
    carrier_ghz: float = 30.0

    def check(self) -> None:
        """Check that the options fit each other.

        Raises
        ------
        click.UsageError
            If one is missing or without effect.
        """
        if self.track and self.slot_ms is None:
            raise click.UsageError("--track requires the time between items: give --slot-ms MS too")
        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if given and not self.track:
            raise click.UsageError(f"--{given[0].replace('_', '-')} applies to --track only; give --track too")

    def tracker(self, warn: Warn) -> ItemTracker:
        """Return the tracker; the options have passed the check.

        Parameters
        ----------
        warn : callable
            Reports the beginnings of a track.

        Returns
        -------
        ItemTracker
        """
        from nflae_bridge.live.gnuradio.computation.tracking import ItemTracker

        assert self.slot_ms is not None
        return ItemTracker(
            self.slot_ms / 1e3, self.array_height, math.radians(self.tilt_deg), 1e9 * self.carrier_ghz, warn
        )


tracking_options = option_group(
    TrackingOptions,
    "tracking",
    click.option(
        "--track",
        is_flag=True,
        help="Track the users of a linear array by the waves in --csi: tags and PDU metadata with position, angle and"
        " distance; see docs/how_to/track.md.",
    ),
    click.option(
        "--slot-ms",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MS",
        help="For --track: time from item to item, ms; missing items are predicted over.",
    ),
    click.option(
        "--array-height",
        type=float,
        default=TrackingOptions.array_height,
        show_default=True,
        metavar="METRES",
        help="For --track: height of the array's centre, m.",
    ),
    click.option(
        "--tilt-deg",
        type=click.FloatRange(min=-90, max=90, min_open=True, max_open=True),
        default=TrackingOptions.tilt_deg,
        show_default=True,
        metavar="DEGREES",
        help="For --track: down-tilt of the array, degrees.",
    ),
    click.option(
        "--carrier-ghz",
        type=click.FloatRange(min=0, min_open=True),
        default=TrackingOptions.carrier_ghz,
        show_default=True,
        metavar="GHZ",
        help="For --track: carrier frequency; elements are half a wavelength apart.",
    ),
)
