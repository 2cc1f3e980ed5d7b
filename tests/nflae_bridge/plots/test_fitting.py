"""Figures drawn for a size of their own are laid out anew for another one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from matlab_io.errors import NflaeError
from nflae_bridge.plots.benchmark import bench_figure
from nflae_bridge.plots.evaluation import distribution_figure
from nflae_bridge.plots.look import FigureLook
from nflae_bridge.plots.style import empty_figure, grid_axes, legend_beside
from nflae_bridge.studies.benchmark.pareto import Measurement

COLUMN = (3.5, 3.2)  # inches, of a two-column paper
REMARK = "Quick run: 200 test drops per point instead of 1,000; networks of the published setting at every point"


@pytest.fixture
def paper() -> Iterator[None]:
    """Texts are measured in the style in which they were written."""
    with matplotlib.rc_context(FigureLook("paper")._settings()):  # type: ignore[arg-type]
        yield


def rendered(draw: Callable[[], Figure], size: tuple[float, float] | None) -> Any:
    """The figure after it was written."""
    kept: list[Figure] = []

    def drawn() -> Figure:
        kept.append(draw())
        return kept[0]

    FigureLook("paper", size).render(drawn)
    (figure,) = kept
    figure.set_dpi(matplotlib.rcParams["savefig.dpi"])
    figure.draw_without_rendering()
    return figure


def inside(figure: Any, artist: Any) -> bool:
    box, page = artist.get_window_extent(), figure.bbox
    return bool(box.x0 > -1 and box.y0 > -1 and box.x1 < page.x1 + 1 and box.y1 < page.y1 + 1)


def test_ten_schemes_have_their_legend_below_at_the_width_of_a_column(paper: None) -> None:
    rates = {f"wmmse:iterations={count}": [1.0, 2.0, 3.0] for count in range(10)}
    title = "Sum rate of 10 schemes on the drops of channels.mat, P = 0 dBW, noise -20 dBW"
    figure = rendered(lambda: distribution_figure(rates, [2.0, 3.0, 4.0], title, True), COLUMN)
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_legend() is None
    assert len(legend.get_texts()) == 11
    assert inside(figure, legend)
    assert inside(figure, axes.title if axes.get_title() else axes._left_title)
    assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0 + 1
    assert axes.get_window_extent().width > 0.6 * figure.bbox.width
    wide = rendered(lambda: distribution_figure(rates, [2.0, 3.0, 4.0], title, True), (9.0, 5.0))
    assert wide.axes[0].get_legend() is not None


def panels(titled: str, remarks: list[str]) -> Figure:
    figure = empty_figure(titled, remarks, 11, 4)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        for name in ("vector AR, all antennas", "latest snapshot (hold)", "Kalman filter"):
            axes.plot([0, 1], [0, 1], label=name)
        axes.set_xlabel("SNR per antenna [dB]")
        grid_axes(axes)
    left.set_ylabel("sum rate [% of that from perfect CSI]")
    legend_beside(right)
    return figure


def test_panels_stand_one_above_the_other_and_remarks_are_broken_into_lines(paper: None) -> None:
    figure = rendered(
        lambda: panels("Channel prediction antenna by antenna on GPT-2 blocks", [REMARK, REMARK]), (3.5, 4)
    )
    above, below = figure.axes
    assert above.get_position().y0 > below.get_position().y1
    assert below.get_ylabel() == above.get_ylabel() != ""
    assert min(axes.get_window_extent().width for axes in (above, below)) > 0.6 * figure.bbox.width
    remarks, (legend,) = figure._supxlabel, figure.legends
    assert " ".join(remarks.get_text().split()) == f"{REMARK} {REMARK}"
    for artist in (remarks, figure._suptitle, legend):
        assert inside(figure, artist), artist
    assert remarks.get_window_extent().y1 <= legend.get_window_extent().y0 + 2
    assert legend.get_window_extent().y1 <= below.get_tightbbox().y0 + 2
    own = rendered(lambda: panels("Channel prediction", [REMARK]), None)
    assert own.axes[0].get_position().y0 == pytest.approx(own.axes[1].get_position().y0)


def test_remarks_that_leave_no_room_are_refused() -> None:
    with pytest.raises(NflaeError, match=r"3.5 x 2 inches have no room .* pass a larger --size"):
        rendered(lambda: panels("Channel prediction", [REMARK] * 3), (3.5, 2.0))


def bench_rows() -> list[Measurement]:
    counts = {"wmmse": (1, 2, 3, 5, 10, 20, 50, 100), "inversion-free": (5, 10, 20, 30, 50, 100), "nflae": (0, 1, 2)}
    rows: list[Measurement] = []
    for scheme, iterations in counts.items():
        for index, count in enumerate(iterations):
            seconds = (44e-6 if scheme == "nflae" else 15e-6) + 1e-6 * count
            rate = 32.56 if scheme == "nflae" else 32.55 - 0.5 * np.exp(-count / 10)
            rows.append(Measurement("cpu", 1, 10, 256, scheme, count, "", seconds, seconds, 9, rate + 1e-3 * index))
    return rows


def apart(texts: list[Any]) -> bool:
    """No two of the labels of an axis overlap."""
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    return len(boxes) > 1 and not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_numbers_and_labels_of_a_comparison_at_the_width_of_a_column(paper: None) -> None:
    figure = rendered(lambda: bench_figure(bench_rows(), "bench", ["cpu: 1 thread"]), (3.5, 3.2))
    (axes,) = figure.axes
    numbers = [text for text in axes.texts if text.get_text().strip("+").isdigit()]
    assert len(numbers) == 17
    assert all(text.get_window_extent().y1 <= axes.get_window_extent().y1 + 4 for text in numbers)  # below the title
    assert apart(axes.get_yticklabels())
    assert "100" in [text.get_text() for text in axes.get_yticklabels()]


def test_iterations_beside_crowded_markers_do_not_overlap() -> None:
    figure: Any = bench_figure(bench_rows(), "bench", [])
    figure.savefig(io.BytesIO())
    numbers = [text for text in figure.axes[0].texts if text.get_text().strip("+").isdigit()]
    assert len(numbers) == 17
    boxes = [text.get_window_extent().padded(-1) for text in numbers]
    assert sum(one.overlaps(other) for one, other in combinations(boxes, 2)) <= 1


def bars() -> Figure:
    figure = empty_figure("Bars", [], 9, 4)
    axes = figure.subplots()
    axes.bar(["pretrained", "linear MMSE", "learned, with prompt", "zero"], [1, 2, 3, 4])
    axes.plot([0, 3], [0, 4], marker="o", markersize=6, linewidth=2)
    return figure


def test_names_below_bars_are_slanted_where_they_overlap(paper: None) -> None:
    narrow, own = rendered(bars, (3.5, 2.6)), rendered(bars, None)
    (axes,) = narrow.axes
    assert [text.get_rotation() for text in axes.get_xticklabels()] == [30] * 4
    assert all(inside(narrow, text) for text in axes.get_xticklabels())
    assert {text.get_rotation() for text in own.axes[0].get_xticklabels()} == {0}
    (line,), (full,) = axes.get_lines(), own.axes[0].get_lines()
    assert line.get_markersize() / full.get_markersize() == pytest.approx((3.5 / 9) ** 0.5)


def test_panels_too_flat_to_read_are_refused() -> None:
    with pytest.raises(NflaeError, match=r"3.5 x 2.6 inches have no room .* in style paper: pass a larger --size$"):
        rendered(lambda: panels("Channel prediction antenna by antenna on GPT-2 blocks", [REMARK]), (3.5, 2.6))
