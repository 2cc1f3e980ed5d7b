"""Draw link studies: error rates, goodput, EVM and the timeline; every function returns a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import grid_axes, legend_beside, styles
from nflae_bridge.studies.link.sweep import Point
from nflae_bridge.studies.link.tables import goodput
from simulator.link_level.counting import Counts, Tally

_LEAST_RATE = 1e-3  # at the end of an axis without rates
_APART = 0.012  # of the range of SNRs, between neighbouring schemes


def error_rates_picture(points: Sequence[Point], title: str) -> Figure:
    """Draw BER and BLER over SNR with 95 % intervals; a downward arrow marks the upper limit where no error occurred.

    Parameters
    ----------
    points
        The sweep's SNRs.
    title
        Title of the figure.

    Returns
    -------
    Figure
        The figure.
    """
    figure, (bits, blocks) = _panels(2, title)
    _draw_rates(bits, points, "bit error rate", lambda found: (found.ber, *found.bit_interval()))
    _draw_rates(blocks, points, "block error rate", lambda found: (found.bler, *found.block_interval()))
    legend_beside(blocks)
    return figure


def goodput_picture(points: Sequence[Point], users: int, channel_uses: int, title: str) -> Figure:
    """Draw goodput and the theoretical SE over SNR.

    Parameters
    ----------
    points
        The sweep's SNRs.
    users
        Users per drop.
    channel_uses
        Channel uses per block.
    title
        Title of the figure.

    Returns
    -------
    Figure
        The figure.
    """
    figure, (axes,) = _panels(1, title)
    snr = [point.snr_db for point in points]
    for name, colour, marker in _schemes(points):
        found = [point.sums[name].pooled() for point in points]
        axes.plot(snr, [users * each.rate / each.chances for each in found], **_formula(points), color=colour)
        delivered = [users * goodput(each, channel_uses) for each in found]
        axes.plot(snr, delivered, color=colour, marker=marker, markersize=5, label=label(name))
    axes.plot([], [], **_formula(points), color="#444444", label="SE: log2(1 + SINR)")
    axes.set_ylabel("sum over users [bps/Hz]")
    axes.set_ylim(bottom=0)
    legend_beside(axes, title="goodput")
    return figure


def evm_picture(points: Sequence[Point], title: str) -> Figure:
    """Draw the EVM over SNR, measured (markers) and from the SINR (lines).

    Parameters
    ----------
    points
        The sweep's SNRs.
    title
        Title of the figure.

    Returns
    -------
    Figure
        The figure.
    """
    figure, (axes,) = _panels(1, title)
    snr = [point.snr_db for point in points]
    for name, colour, marker in _schemes(points):
        found = [point.sums[name].pooled() for point in points]
        axes.plot(snr, [-each.sinr_db for each in found], **_formula(points), color=colour)
        measured = [each.evm_db for each in found]
        axes.plot(snr, measured, linestyle="", color=colour, marker=marker, markersize=6, label=label(name))
    axes.plot([], [], **_formula(points), color="#444444", label="-SINR")
    axes.set_ylabel("EVM [dB]")
    legend_beside(axes)
    return figure


def timeline_picture(
    points: Sequence[Point], drops: npt.NDArray[np.int64], users: int, refresh: int, title: str
) -> Figure:
    """Draw SE, near-field share and BLER drop by drop, at the highest SNR; dotted lines mark new precoders.

    Parameters
    ----------
    points
        The sweep's SNRs.
    drops
        Indices of the drops, int64.
    users
        Users per drop.
    refresh
        Drops per precoder.
    title
        Title of the figure.

    Returns
    -------
    Figure
        The figure.
    """
    point = max(points, key=lambda each: each.snr_db)
    figure, panels = _panels(3, f"{title}, {point.snr_db:g} dB", across=False)
    for name, colour, _ in _schemes(points):
        series = point.series(name)
        values = (users * series.rate / series.chances, 100 * series.near_field / series.chances, series.bler)
        for axes, value in zip(panels, values, strict=True):
            axes.step(drops + 1, value, where="mid", color=colour, linewidth=1.4, label=label(name))
    for axes, name in zip(panels, ("SE [bps/Hz]", "near-field users [%]", "block error rate"), strict=True):
        axes.set_ylabel(name)
        axes.set_xlabel("")
        if refresh > 1 and len(drops) <= 40 * refresh:
            for start in range(0, int(drops[-1]) + 1, refresh):
                axes.axvline(start + 0.5, color="#bbbbbb", linestyle=":", linewidth=0.8, zorder=0)
    panels[1].set_ylim(-3, 103)
    panels[2].set_ylim(-0.03, 1.03)
    panels[-1].set_xlabel("drop (slot)")
    legend_beside(panels[0])
    return figure


def _panels(count: int, title: str, across: bool = True) -> tuple[Figure, list[Any]]:
    size = (1 + 5 * count, 4.4) if across else (9, 1.2 + 2.1 * count)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    rows, columns = (1, count) if across else (count, 1)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axes in panels:
        axes.set_xlabel("SNR P / σ² [dB]")
        grid_axes(axes)
    panels[0].set_title(title, loc="left", fontsize="medium")
    return figure, panels


def _schemes(points: Sequence[Point]) -> list[tuple[str, str, str]]:
    """Return name, colour and marker of each scheme; the network last, on top."""
    names = sorted(points[0].sums, key=lambda name: name == "nflae")
    return [(name, look["color"], look["marker"]) for name, look in styles(names).items()]


def _formula(points: Sequence[Point]) -> dict[str, Any]:
    """Return the look of what is computed by a formula: a line, or at a single SNR, where none is seen, a stroke."""
    single = {"marker": "_", "markersize": 16, "markeredgewidth": 1.2} if len(points) == 1 else {}
    return {"linestyle": "--", "linewidth": 1.2, **single}


_RateAndInterval = Callable[[Tally], tuple[Counts, Counts, Counts]]


def _draw_rates(axes: Any, points: Sequence[Point], quantity: str, rate_of: _RateAndInterval) -> None:
    unseen, schemes = False, _schemes(points)
    at = np.array([point.snr_db for point in points])
    extent = np.ptp(at) or 1.0  # 1 dB around a single SNR
    apart = _APART * extent  # intervals of the same SNR stand side by side
    for index, (name, colour, marker) in enumerate(schemes):
        values = np.array([np.concatenate(rate_of(point.sums[name].pooled())) for point in points])
        snr, (rate, low, high) = at + apart * (index - (len(schemes) - 1) / 2), values.T
        seen, free = rate > 0, rate == 0  # neither where no block was sent
        spread = np.maximum([rate - low, high - rate], 0)[:, seen]
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "capsize": 2.5}
        axes.errorbar(snr[seen], rate[seen], spread, label=label(name), **look)
        if free.any():
            axes.errorbar(snr[free], high[free], 0.6 * high[free], uplims=True, linestyle="", color=colour, capsize=4)
        unseen |= bool(free.any())
    if unseen:
        limit = "no error: 95 % upper limit"
        axes.plot([], [], linestyle="", marker=r"$\downarrow$", markersize=9, color="#444444", label=limit)
    beside = (0.05 if len(at) > 1 else 0.5) * extent
    axes.set_xlim(at.min() - beside, at.max() + beside)
    axes.set_yscale("log")
    low, _ = axes.get_ylim()
    axes.set_ylim(0.7 * low if low > 0 else _LEAST_RATE, 1.5)  # room for the heads of arrows
    axes.set_ylabel(quantity)
