"""Draw benchmarks: time against objective with the Pareto front, and times against users, antennas and batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import empty_figure, grid_axes, style, styles
from nflae_bridge.studies.benchmark.comparison import by_panel, finite
from nflae_bridge.studies.benchmark.competitors import FLOOR, PLAIN_CALL, WITHOUT_OBJECTIVE
from nflae_bridge.studies.benchmark.pareto import Measurement, objective_name, on_front, reference
from nflae_bridge.studies.benchmark.scaling import Scaled, series, slope
from simulator.problems.problem import PrecodingProblem

_NAMES = {
    "nflae": "ours",
    "inversion-free": "inversion-free",
    FLOOR: "floor: $H^HH$ and $HC$ alone",
    PLAIN_CALL: "one plain call of ours",
}
# Offsets of the iterations beside a marker, points; the first without a collision.
_OFFSETS = {
    "wmmse": ((8, -11), (0, -14), (14, -3), (10, 6), (-8, -13), (-12, 6), (20, -12)),
    "nflae": ((0, 10), (16, -4), (-16, -4), (0, -18), (16, -15), (-16, -15), (16, 7), (-16, 7), (0, -29), (0, 21)),
    "inversion-free": ((-8, 6), (-14, -3), (0, 9), (-10, -12), (12, -3), (4, -15), (-20, 8)),
}
_DIGIT, _HEIGHT, _MARKER = 5.0, 8.0, 4.0  # sizes of a digit and of half a marker, points
_LEGEND_OFFSET = 40  # of a legend below the axes, points
_MARGIN = 0.15  # per cent above the best
_TICKS = (*range(0, 90, 10), 90, 95, 97, 98, 99, 99.5, 99.8, 99.9, 100, 100.1, 100.2, 100.5, *range(101, 120))
_AXES = {"users": "users K", "antennas": "antennas N", "batch": "drops per call"}


def bench_figure(
    rows: Sequence[Measurement], title: str, notes: Sequence[str], problem: PrecodingProblem | None = None
) -> Figure:
    """Draw the objective against time per drop, one panel per device and batch size, with the Pareto front.

    Parameters
    ----------
    rows
        Measurements of a comparison.
    title
        Title of the figure.
    notes
        Lines below the title.
    problem
        Problem that the schemes solve; by default the plain sum rate.

    Returns
    -------
    Figure
        The figure.
    """
    problem = problem or PrecodingProblem()
    panels = by_panel(rows)
    devices = list(dict.fromkeys(device for device, _ in panels))
    columns = max(sum(device == other for other, _ in panels) for device in devices)
    figure = _figure(title, notes, 6.4 * columns, 4.7 * len(devices))
    grid = figure.subplots(len(devices), columns, squeeze=False)
    for line, device in enumerate(devices):
        of_device = [(batch, found) for (name, batch), found in panels.items() if name == device]
        for axes, (batch, found) in zip(grid[line], of_device, strict=False):
            _draw_panel(axes, found, problem)
            axes.set_title(
                f"{device}, {batch:,} drop{'s' if batch > 1 else ''} per call", loc="left", fontsize="medium"
            )
        for axes in grid[line][len(of_device) :]:
            axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    _legend_below(figure, handles)
    for axes, found in zip((axes for axes in grid.flat if axes.get_visible()), panels.values(), strict=True):
        _number(axes, found)
    return figure


def _legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Place a legend below the panels, in as many rows as its width needs."""
    look: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": "small"}
    for rows in range(1, len(handles) + 1):
        legend = figure.legend(handles.values(), handles, ncols=-(-len(handles) // rows), **look)
        if rows == len(handles) or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def scaling_figure(scaled: Sequence[Scaled], title: str, notes: Sequence[str]) -> Figure:
    """Draw the time per drop against users, antennas and batch size, on log axes, slopes in the legends.

    Parameters
    ----------
    scaled
        Points of a sweep.
    title
        Title of the figure.
    notes
        Lines below the title.

    Returns
    -------
    Figure
        The figure, one row of panels per device.
    """
    lines = series(scaled)
    devices, names = (list(dict.fromkeys(key[part] for key in lines)) for part in (0, 1))
    figure = _figure(title, notes, 5.2 * len(names), 5.6 * len(devices))
    grid = figure.subplots(len(devices), len(names), squeeze=False)
    for (device, axis, _), points in lines.items():
        axes = grid[devices.index(device)][names.index(axis)]
        row, fitted = points[0].row, slope(points)
        name = _name(row.scheme) + (f"-{row.iterations}" if row.iterations and row.scheme != "nflae" else "")
        values = [point.value for point in points]
        axes.plot(
            values, [1e6 * point.row.median for point in points], label=f"{name}: {fitted.exponent:+.2f}",
            **{**style(row.scheme), "markersize": 5},
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{device}: slopes over {fitted.first:,} to {fitted.last:,}", loc="left", fontsize="medium")
        axes.set_xlabel(_AXES[axis])
    for axes in grid.flat:
        axes.tick_params(axis="x", labelsize="small", labelrotation=30)
        axes.set_ylabel("median time per drop [µs]")
        _plain_numbers(axes.yaxis)
        grid_axes(axes)
        below = axes.transAxes + ScaledTranslation(0, -_LEGEND_OFFSET / 72, figure.dpi_scale_trans)
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
        axes.legend(ncols=2, frameon=False, fontsize="small", **place)
    for line in grid:  # one range of times per device
        low, high = (pick(bound) for pick, bound in zip((min, max), zip(*(a.get_ylim() for a in line), strict=True),
                                                        strict=True))  # fmt: skip
        for axes in line:
            axes.set_ylim(low, high)
    return figure


def _draw_panel(axes: Any, rows: Sequence[Measurement], problem: PrecodingProblem) -> None:
    found = finite(rows)
    compared = reference(found, problem)
    whole = max(row.objective for row in found) if compared is None else compared.objective
    whose = "the best's" if compared is None else "WMMSE-100's" if problem.is_plain else f"{_name(compared.name)}'s"

    def share(row: Measurement) -> float:
        return 100 * row.objective / whole

    front = sorted((row for row, on in zip(rows, on_front(rows), strict=True) if on), key=lambda row: row.median)
    times, shares = [1e6 * row.median for row in front], [share(row) for row in front]
    slowest = 1e6 * max(row.median for row in rows)
    looks = styles(list(dict.fromkeys(row.scheme for row in rows)))
    axes.step([*times, 1.5 * slowest], [*shares, shares[-1]], where="post", color="#D6D6D6", linewidth=6, zorder=1,
              solid_capstyle="butt", label="Pareto front")  # fmt: skip
    for scheme in dict.fromkeys(row.scheme for row in rows):
        series_rows = [row for row in rows if row.scheme == scheme]
        if scheme in WITHOUT_OBJECTIVE:
            axes.axvline(1e6 * series_rows[0].median, color="black", label=_name(scheme),
                         linestyle=":" if scheme == FLOOR else "--", linewidth=1.4)  # fmt: skip
            continue
        axes.plot(
            [1e6 * row.median for row in series_rows],
            [share(row) for row in series_rows],
            label=_name(scheme),
            markersize=7,
            zorder=7 if scheme == "nflae" else 3,
            **looks[scheme],
        )
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    _stretch(axes, min(map(share, found)), share(max(found, key=lambda row: row.objective)))
    grid_axes(axes)
    axes.set_xlabel("median time per drop [µs]")
    axes.set_ylabel(f"mean {objective_name(problem)} [% of {whose} {_rate(whole)} bps/Hz]")


def _rate(value: float) -> str:
    """Return a rate with two decimals, a small one with three digits."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _stretch(axes: Any, low: float, high: float) -> None:
    """Make the percentage axis logarithmic in the shortfall from slightly above the best.

    The top tenths of a per cent, where good schemes crowd, take as much room as the per cents below.
    """
    top = high + _MARGIN
    axes.set_yscale("function", functions=(lambda y: -np.log(np.maximum(top - y, 1e-6)), lambda v: top - np.exp(-v)))
    floor = top - 1.25 * (top - low)
    axes.set_ylim(floor, top - 0.45 * _MARGIN)
    ticks = [tick for tick in _TICKS if floor <= tick <= high]
    axes.yaxis.set_major_locator(_ShareTicks(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _number(axes: Any, rows: Sequence[Measurement]) -> None:
    """Write the iterations beside the markers of a panel, at places chosen whenever the panel is drawn."""
    lines = {line.get_label(): line for line in axes.get_lines()}
    numbers: list[tuple[str, Any]] = []
    points: list[Any] = []
    for scheme in dict.fromkeys(row.scheme for row in rows if row.scheme not in WITHOUT_OBJECTIVE):
        data = np.transpose(lines[_name(scheme)].get_data())
        points.extend(data)
        for row, point in zip((row for row in rows if row.scheme == scheme), data, strict=True):
            if row.iterations is not None:
                ours = scheme == "nflae"
                text = axes.annotate(
                    f"+{row.iterations}" if ours and row.iterations else str(row.iterations),
                    point,
                    textcoords="offset points",
                    xytext=(0, 0),
                    ha="center",
                    fontsize="small" if ours else "x-small",
                    fontweight="bold" if ours else "normal",
                    color=style(scheme)["color"],
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                    zorder=8 if ours else 5,
                )
                text.set_in_layout(False)
                numbers.append((scheme, text))
    numbers.sort(key=lambda pair: pair[0] != "nflae")
    axes.add_artist(_Placement(numbers, points))


class _Placement(Artist):
    """Place numbers beside markers, inside the panel and clear of each other, before the panel is drawn."""

    def __init__(self, numbers: Sequence[tuple[str, Any]], points: Sequence[Any]) -> None:
        super().__init__()
        self.set_zorder(-1)
        self.set_in_layout(False)
        self._numbers, self._points = numbers, points

    def draw(self, renderer: Any) -> None:
        """Set the offsets of the numbers for the present size of the panel."""
        axes: Any = self.axes
        scale = 72 / axes.figure.dpi
        panel = scale * axes.get_window_extent().extents
        places = [scale * axes.transData.transform(point) for point in self._points]
        taken = [_box(x, y, 2 * _MARKER, 2 * _MARKER) for x, y in places]
        for scheme, text in self._numbers:
            x, y = scale * axes.transData.transform(text.xy)
            wide = _DIGIT * len(text.get_text())
            offsets = _OFFSETS[scheme]
            boxes = [_box(x + dx, y + dy + _HEIGHT / 2, wide, _HEIGHT) for dx, dy in offsets]
            costs = [2 * (not _contains(panel, box)) + any(_overlap(box, other) for other in taken) for box in boxes]
            chosen = costs.index(min(costs))
            taken.append(boxes[chosen])
            text.set_position(offsets[chosen])


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _contains(outer: Any, inner: tuple[float, float, float, float]) -> bool:
    return bool(outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3])


def _figure(title: str, notes: Sequence[str], width: float, height: float) -> Figure:
    figure = empty_figure(title, [], max(width, 9.0), height + 0.6)
    figure.suptitle("\n".join([title, *notes]), x=0.01, ha="left", fontsize="medium")
    return figure


def _name(scheme: str) -> str:
    return _NAMES.get(scheme, label(scheme))


def _plain_numbers(axis: Any) -> None:
    """Label a log axis with plain numbers, over many decades powers of ten alone."""
    axis.set_major_locator(_LogTicks())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e3 else f"{value:,.0f}"))


class _LogTicks(LogLocator):
    """Place ticks at 1, 2 and 5 of each decade where the labels have room, else at powers of ten alone."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the ticks between two ends."""
        axis: Any = self.axis
        scale = 72 / axis.axes.figure.dpi
        along, _ = axis.axes.get_window_extent().size[:: 1 if axis.axis_name == "x" else -1] * scale
        size = FontProperties(size=rcParams[f"{axis.axis_name}tick.labelsize"]).get_size_in_points()
        longest = size * (0.7 * len(f"{vmax:,.0f}") if axis.axis_name == "x" else 1.2)
        decades = np.log10(vmax / vmin)
        subs = (1, 2, 5) if 0.3 * along > longest * decades else (1,)
        self.set_params(subs=subs, numticks=max(2, int(along / longest)))
        return super().tick_values(vmin, vmax)


class _ShareTicks(Locator):
    """Place ticks of the percentage axis that are a line apart, rounder ones first."""

    def __init__(self, candidates: Sequence[float]) -> None:
        self._candidates = sorted(candidates, key=lambda value: (value != 100, -_roundness(value)))
        self._height = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()

    def __call__(self) -> Any:
        """Return the ticks for the present size of the axis."""
        axis: Any = self.axis
        axes = axis.axes
        scale = 72 / axes.figure.dpi
        kept: dict[float, float] = {}
        for value in self._candidates:
            place = scale * axes.transData.transform((axes.get_xlim()[0], value))[1]
            if all(abs(place - other) >= self._height for other in kept.values()):
                kept[value] = place
        return sorted(kept)


def _roundness(value: float) -> int:
    """Return the number of the steps 0.5, 1, 5, 10 and 50 that divide a percentage."""
    tenths = round(10 * value)
    return sum(tenths % step == 0 for step in (5, 10, 50, 100, 500))
