"""Show the drops of a running server or stream on a page: maps of the beams, rates, powers, latencies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nflae_bridge.live.log import EventLog
    from nflae_bridge.live.view.address import ViewSettings
    from nflae_bridge.live.view.sampler import Sampler


def open_view(settings: ViewSettings | None, status: Callable[[], dict[str, Any]], log: EventLog) -> Sampler | None:
    """Open the live view of a program.

    Parameters
    ----------
    settings : ViewSettings or None
        Settings; None for no view.
    status : callable
        Returns the state of the program: ``program``, ``model``, ``device``, ``uptime_s``, ``queue_depth``,
        ``drops_per_second``, ``counts`` and ``latency``, for JSON; called from another thread while a page is open.
    log : EventLog
        Log of events.

    Returns
    -------
    Sampler or None
        To be offered the answers while it is open; None for no view.

    Raises
    ------
    NflaeError
        If the address cannot be bound.
    """
    if settings is None:
        return None
    from nflae_bridge.live.view.view import View

    view = View(settings, status, log)
    view.start()
    return view.sampler
