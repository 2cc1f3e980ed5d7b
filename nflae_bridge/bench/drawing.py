"""Pictures of the contest: time against sum rate with the front, and how times grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from nflae_bridge.bench.contest import by_panel, finite
from nflae_bridge.bench.contestants import FLOOR
from nflae_bridge.bench.front import Measured, on_front, share_of_wmmse
from nflae_bridge.bench.scaling import Scaled, series, slope
from nflae_bridge.reproduction.figures import empty_figure, label, style

_STYLES = {
    "nflae": style("small"),
    "inversion-free": {"color": "#0072B2", "linestyle": "--", "marker": "^"},
    FLOOR: {"color": "#000000", "linestyle": ":", "marker": ""},
}
_NAMES = {"nflae": "ours", "inversion-free": "inversion-free", FLOOR: "floor: $H^HH$ and $HC$ alone"}
# Where the number beside a marker goes, points.
_BESIDE = {"wmmse": (7, -11), "inversion-free": (-4, 7)}
_HEADROOM = 0.08
_AXES = {"users": "users K", "antennas": "antennas N", "batch": "drops a call"}


def bench_figure(rows: Sequence[Measured], title: str, notes: Sequence[str]) -> Figure:
    """Sum rate against time per drop, a panel a device and batch size, the front drawn behind."""
    panels = by_panel(rows)
    devices = list(dict.fromkeys(device for device, _ in panels))
    columns = max(sum(device == of for of, _ in panels) for device in devices)
    figure = _figure(title, notes, 6.4 * columns, 4.7 * len(devices))
    grid = figure.subplots(len(devices), columns, squeeze=False)
    for line, device in enumerate(devices):
        of_device = [(batch, found) for (name, batch), found in panels.items() if name == device]
        for axes, (batch, found) in zip(grid[line], of_device, strict=False):
            _draw_panel(axes, found)
            axes.set_title(f"{device}, {batch} drop{'s' if batch > 1 else ''} a call", loc="left", fontsize=10.5)
        for axes in grid[line][len(of_device) :]:
            axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def scaling_figure(scaled: Sequence[Scaled], title: str, notes: Sequence[str]) -> Figure:
    """Time per drop against users, antennas and batch size, log axes, slopes in the legends."""
    lines = series(scaled)
    devices, names = (list(dict.fromkeys(key[part] for key in lines)) for part in (0, 1))
    figure = _figure(title, notes, 5.2 * len(names), 5.6 * len(devices))
    grid = figure.subplots(len(devices), len(names), squeeze=False)
    for (device, axis, _), points in lines.items():
        axes = grid[devices.index(device)][names.index(axis)]
        row, fitted = points[0].row, slope(points)
        look = _look(row.scheme)
        name = _name(row.scheme) + (f"-{row.iterations}" if row.iterations and row.scheme != "nflae" else "")
        values = [point.value for point in points]
        axes.plot(
            values, [1e6 * point.row.median for point in points], label=f"{name}: {fitted.exponent:+.2f}",
            **{**look, "markersize": 5},
        )  # fmt: skip
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.set_title(f"{device}: slopes over {fitted.first:,} to {fitted.last:,}", loc="left", fontsize=10.5)
        axes.set_xlabel(_AXES[axis])
    for axes in grid.flat:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=8.5, labelrotation=30)
        axes.set_ylabel("median time per drop [µs]")
        _plain(axes.yaxis)
        _grid(axes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2, frameon=False, fontsize=8.5)
    for line in grid:  # times of one device are compared across
        low, high = (pick(bound) for pick, bound in zip((min, max), zip(*(a.get_ylim() for a in line), strict=True),
                                                        strict=True))  # fmt: skip
        for axes in line:
            axes.set_ylim(low, high)
    return figure


def _draw_panel(axes: Any, rows: Sequence[Measured]) -> None:
    whole = next((row.sum_rate for row in rows if row.scheme == "wmmse" and row.iterations == 100), None)

    def height(row: Measured) -> float:
        share = share_of_wmmse(rows, row)
        return row.sum_rate if share is None else 100 * share

    best = sorted((row for row, on in zip(rows, on_front(rows), strict=True) if on), key=lambda row: row.median)
    times, heights = [1e6 * row.median for row in best], [height(row) for row in best]
    slowest = 1e6 * max(row.median for row in rows)
    axes.step([*times, 1.5 * slowest], [*heights, heights[-1]], where="post", color="#CFCFCF", linewidth=6, zorder=1,
              solid_capstyle="butt", label="Pareto front")  # fmt: skip
    for scheme in dict.fromkeys(row.scheme for row in rows):
        of = [row for row in rows if row.scheme == scheme]
        if scheme == FLOOR:
            axes.axvline(1e6 * of[0].median, color="black", linestyle=":", linewidth=1.4, label=_name(scheme))
            continue
        axes.plot([1e6 * row.median for row in of], [height(row) for row in of], label=_name(scheme), markersize=7,
                  zorder=4 if scheme == "nflae" else 3, **_look(scheme))  # fmt: skip
        for row in of:
            _mark(axes, row, height(row))
    axes.set_xscale("log")
    _plain(axes.xaxis)
    _grid(axes)
    heights = [height(row) for row in finite(rows)]
    low, high = min(heights), max(heights)
    # A scheme far below the others shall not flatten them: it is left out of sight.
    low = max(low, high - 4 * (high - float(np.median(heights)) + 1e-9)) if len(heights) > 3 else low
    room = max(high - low, 1e-3 * abs(high))
    axes.set_ylim(low - _HEADROOM * room, high + 1.6 * _HEADROOM * room)
    axes.set_xlabel("median time per drop [µs]")
    axes.set_ylabel(
        "mean sum rate [bps/Hz]" if whole is None else f"mean sum rate [% of WMMSE-100's {whole:.2f} bps/Hz]"
    )


def _mark(axes: Any, row: Measured, height: float) -> None:
    """The iterations beside a marker."""
    if row.iterations is None:
        return
    text, offset, bold = str(row.iterations), _BESIDE.get(row.scheme, (0, 0)), False
    if row.scheme == "nflae":
        text, offset, bold = (f"+{row.iterations}" if row.iterations else "0"), (0, 8), True
    axes.annotate(
        text,
        (1e6 * row.median, height),
        xytext=offset,
        textcoords="offset points",
        ha="center",
        fontsize=9 if bold else 8,
        fontweight="bold" if bold else "normal",
        color=_look(row.scheme)["color"],
        zorder=5,
        annotation_clip=True,
    )


def _figure(title: str, notes: Sequence[str], width: float, height: float) -> Figure:
    figure = empty_figure(title, [], max(width, 9.0), height + 0.6)
    figure.suptitle("\n".join([title, *notes]), x=0.01, ha="left", fontsize=10)
    return figure


def _look(scheme: str) -> dict[str, Any]:
    return _STYLES.get(scheme, style(scheme))


def _name(scheme: str) -> str:
    return _NAMES.get(scheme, label(scheme))


def _grid(axes: Any) -> None:
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _plain(axis: Any) -> None:
    """A log axis with numbers as people write them."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e4 else f"{value:,.0f}"))
