"""Forecast from positions alone: constant velocity, and a map from positions to powers learned for each site."""

from __future__ import annotations

import numpy as np

from simulator.beams.bearings import beam_coordinates
from simulator.beams.methods.neighbours import neighbour_mean, relative_powers
from simulator.beams.methods.velocity import extrapolate
from simulator.beams.registry import Scores, State, register
from simulator.beams.windows import Windows

_NEIGHBOURS = 10


def _fit(train: Windows, seed: int) -> State:
    assert train.position is not None
    return {
        "position": beam_coordinates(train.position[:, -1]),
        "powers": relative_powers(train.past[:, -1]).astype(np.float16),
        "site": train.site,
    }


@register("position-map", fit=_fit, positions=True)
def position_map(windows: Windows, state: State) -> Scores:
    """Score beams by the powers that were measured near the extrapolated positions.

    Parameters
    ----------
    windows
        The windows; at a site without training windows the last powers are repeated.
    state
        ``position`` (train, 2 or 3), ``powers`` (train, beams) and ``site`` (train,).

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    assert windows.position is not None
    scores = np.repeat(relative_powers(windows.past[:, -1:]), windows.ahead, 1)
    places = beam_coordinates(extrapolate(windows.position, windows.ahead))
    for site in np.unique(windows.site):
        known, here = state["site"] == site, windows.site == site
        if known.any():
            found = neighbour_mean(
                state["position"][known],
                state["powers"][known],
                places[here].reshape(-1, places.shape[-1]),
                _NEIGHBOURS,
            )
            scores[here] = found.reshape(-1, windows.ahead, windows.beams)
    return scores
