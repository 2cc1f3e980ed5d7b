"""Draw comparisons of schemes: distribution of the sum rate over the drops, and mean sum rate over the SNR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import CAPACITY, grid_axes, legend_beside, style, styles
from nflae_bridge.studies.intervals import MeanInterval, distribution_band

_BAND = 0.18  # opacity
_MOST_BANDS = 4  # more hide the lines
_MARKERS = 5  # of a distribution function
_NETWORK = "nflae"


@dataclass(frozen=True)
class SweptScheme:
    """Hold the mean sum rates of one scheme.

    Parameters
    ----------
    name
        Name or specification of the scheme.
    intervals
        Mean and 95 % interval per SNR, bps/Hz.
    """

    name: str
    intervals: Sequence[MeanInterval]


def distribution_figure(
    sum_rates: Mapping[str, Sequence[float]], capacity: Sequence[float], title: str, correlated: bool
) -> Figure:
    """Draw the distribution function of the sum rate of every scheme, with its 95 % band.

    Parameters
    ----------
    sum_rates
        Sum rates per drop, bps/Hz, by scheme, in the order of the legend.
    capacity
        Dirty-paper capacity per drop, bps/Hz.
    title
        Title of the figure.
    correlated
        Successive drops are correlated, so that the bands are too narrow, which is said.

    Returns
    -------
    Figure
        The figure.
    """
    figure, axes = _panel(title)
    values, share, _, _ = distribution_band(capacity)
    axes.step(values, share, where="post", color=CAPACITY, linestyle="--", linewidth=1.5, label=label("capacity"))
    banded = len(sum_rates) <= _MOST_BANDS
    for place, (name, look) in enumerate(_looks(list(sum_rates)).items()):
        values, share, low, high = distribution_band(sum_rates[name])
        marked = {"markersize": 6, "markevery": _marked(share, place / len(sum_rates))}
        axes.step(values, share, where="post", label=label(name), **look | marked)
        if banded:
            axes.fill_between(values, low, high, step="post", color=look["color"], alpha=_BAND, linewidth=0)
    axes.set_xlabel("sum rate [bps/Hz]")
    axes.set_ylabel("share of the drops up to it")
    axes.set_ylim(-0.01, 1.01)
    caveat = "\nfor independent drops;\nthese are correlated" if correlated else ""
    legend_beside(axes, title=f"bands: 95 % (DKW){caveat}" if banded else None)
    return figure


def _marked(share: npt.NDArray[np.float64], offset: float) -> list[int]:
    """Return the places of a distribution function to mark, at equal steps of the share from a part of a step on."""
    levels = (np.arange(_MARKERS) + (0.1 + 0.8 * offset)) / _MARKERS
    return sorted(set(np.searchsorted(share, levels).tolist()))


def sweep_figure(
    snr_db: Sequence[float], schemes: Sequence[SweptScheme], capacity: Sequence[float], title: str
) -> Figure:
    """Draw the mean sum rate of every scheme over the SNR, with its 95 % band, and the dirty-paper capacity.

    Parameters
    ----------
    snr_db
        SNRs of the mean user, dB.
    schemes
        The schemes in the order of the legend.
    capacity
        Mean capacity per SNR, bps/Hz.
    title
        Title of the figure.

    Returns
    -------
    Figure
        The figure.
    """
    figure, axes = _panel(title)
    snr: npt.NDArray[np.float64] = np.asarray(snr_db, np.float64)
    axes.plot(snr, capacity, color=CAPACITY, linestyle="--", linewidth=1.5, label=label("capacity"))
    looks = _looks([scheme.name for scheme in schemes])
    for scheme in schemes:
        look = looks[scheme.name]
        axes.plot(snr, [each.mean for each in scheme.intervals], label=label(scheme.name), markersize=5, **look)
        ends = [[each.low for each in scheme.intervals], [each.high for each in scheme.intervals]]
        axes.fill_between(snr, *ends, color=look["color"], alpha=_BAND, linewidth=0)
    axes.set_xlabel("SNR of the mean user [dB]")
    axes.set_ylabel("mean sum rate [bps/Hz]")
    axes.set_ylim(bottom=0)
    legend_beside(axes, title="bands: 95 % of the mean")
    return figure


def _looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the line styles: the first network in the style of ours, networks below dashed lines."""
    networks = [name for name in names if name.startswith(_NETWORK)]
    found = styles(names)
    if networks:
        found[networks[0]] = style(_NETWORK)
    # Dashes of a scheme that coincides with a network leave the solid line visible.
    return {name: look | {"zorder": 2.1 if name in networks else 2.5} for name, look in found.items()}


def _panel(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    axes.set_title(title, loc="left", fontsize="medium")
    grid_axes(axes)
    return figure, axes
