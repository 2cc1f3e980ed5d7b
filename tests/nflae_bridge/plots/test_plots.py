"""Plots: the intensity map peaks where beams are focused, and positions come from the file or from the channels."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.io
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from matlab_io.errors import NflaeError
from nflae_bridge.files.positions import Scene, scene_of
from nflae_bridge.plots.drop_picture import DropPicture, mark_users
from nflae_bridge.plots.look import FigureLook, plot_format
from nflae_bridge.plots.maps.users_map import intensity_map, users_figure
from nflae_bridge.plots.schemes import SchemeBar, schemes_figure
from nflae_bridge.plots.style import empty_figure, legend_beside, symbols
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import near_field_steering
from tests.channel_files import Run


def test_places_come_from_the_file_that_has_them(nflae: Run, tmp_path: Path) -> None:
    path, anonymous = tmp_path / "in.mat", tmp_path / "anonymous.mat"
    size = ("--drops", 3, "--users", 4, "--antennas", 256, "--scenario", "paper")
    assert nflae("simulate", "-o", path, *size).exit_code == 0
    told = scipy.io.loadmat(path)
    channels = torch.from_numpy(np.ascontiguousarray(told["H"][:, :, 1].T))
    scene = scene_of(path, 1, 3, channels, None)
    assert scene.from_file
    assert scene.array.antennas == 256
    assert scene.array.carrier == pytest.approx(30e9)
    assert (scene.array.height, scene.array.tilt) == (15.0, pytest.approx(np.deg2rad(5)))
    np.testing.assert_allclose(scene.x, told["x"][:, 1], rtol=1e-6)
    np.testing.assert_allclose(scene.height, told["height"][:, 1], rtol=1e-6)

    scipy.io.savemat(anonymous, {"H": told["H"]})
    guessed = scene_of(anonymous, 1, 3, channels, 30e9)
    assert not guessed.from_file
    assert (guessed.array.height, guessed.array.tilt) == (0.0, 0.0)
    distance = torch.hypot(guessed.x, guessed.height)[guessed.resolved]
    np.testing.assert_allclose(distance, told["distance"][:, 1][guessed.resolved.numpy()], rtol=0.02)


@pytest.mark.parametrize("conjugated", [False, True])
def test_the_map_peaks_at_the_point_in_focus(conjugated: bool) -> None:
    array = UniformLinearArray(antennas=256, height=15.0)
    x, height = torch.linspace(4, 40, 37).double(), torch.linspace(0, 30, 31).double()
    angle = torch.atan2(torch.tensor([15.0 - 9.0]).double(), torch.tensor([12.0]).double()) - array.tilt
    beam = near_field_steering(array, angle, torch.hypot(torch.tensor([12.0]), torch.tensor([6.0])))
    nobody = torch.empty(0, dtype=torch.float64)
    scene = Scene(array, nobody, nobody, nobody.bool(), nobody.bool(), conjugated, from_file=True)
    sent = beam.conj().resolve_conj() if conjugated else beam
    power = torch.tensor([0.5]).double()
    intensity = intensity_map(scene, sent, power, x, height)
    assert intensity.shape == (31, 37)
    row, column = np.unravel_index(intensity.argmax(), intensity.shape)
    assert (float(height[row]), float(x[column])) == (9.0, 12.0)
    assert intensity.max() == pytest.approx(0.5, rel=1e-4)


def picture(users: int, antennas: int = 32, resolved: bool = True) -> DropPicture:
    array = UniformLinearArray(antennas=antennas, height=0.0, tilt=0.0)
    x = torch.linspace(2, 8, users, dtype=torch.float64)
    located = torch.ones(users, dtype=torch.bool)
    scene = Scene(array, x, x.flip(0) / 4 - 1, torch.full((users,), resolved), located, False, from_file=False)
    angle = torch.atan2(-scene.height, scene.x)
    precoder = near_field_steering(array, angle, torch.hypot(scene.x, scene.height))
    near = torch.arange(users) % 2 == 0
    return DropPicture("title", scene, precoder, torch.full((users,), 1 / users), torch.ones(users), near, ~located)


@pytest.mark.parametrize("users", [1, 5, 40])
@pytest.mark.parametrize("resolved", [True, False])
def test_users_figure(users: int, resolved: bool) -> None:
    figure = users_figure(picture(users, resolved=resolved))
    the_map, powers, rates, _colour_bar = sorted(figure.axes, key=lambda axes: axes.get_label() == "<colorbar>")
    shown = {number for text in the_map.texts for number in text.get_text().split(", ")}
    assert shown == {str(user + 1) for user in range(users)}
    assert len(powers.patches) == len(rates.patches) == users
    assert sum(bar.get_width() for bar in powers.patches) == pytest.approx(100)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(label.startswith("near-field user") for label in labels)
    assert ("hollow: direction only" in labels) != resolved
    assert len(FigureLook().render(lambda: figure)) > 10_000


def test_users_without_a_single_wave_are_left_off_the_map() -> None:
    told = picture(4)
    missing = torch.tensor([False, True, False, True])
    nowhere = torch.where(missing, torch.nan, told.scene.x)
    scene = replace(told.scene, x=nowhere, height=nowhere, located=~missing, resolved=~missing)
    figure = users_figure(replace(told, scene=scene, undecided=missing))
    the_map, powers, *_ = sorted(figure.axes, key=lambda axes: axes.get_label() == "<colorbar>")
    assert {text.get_text() for text in the_map.texts} == {"1", "3"}
    assert np.isfinite([*the_map.get_xlim(), *the_map.get_ylim()]).all()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"undecided user (2)", "near-field user (2)", "not a single wave, not on the map: 2, 4"} <= set(labels)
    assert "hollow: direction only" not in labels
    colours = [bar.get_facecolor() for bar in powers.patches]
    assert colours[1] == colours[3] != colours[0] == colours[2]
    nobody = replace(scene, located=missing & False, resolved=missing & False, x=scene.x * torch.nan)
    assert len(FigureLook().render(lambda: users_figure(replace(told, scene=nobody)))) > 10_000


def test_positions_are_estimated_for_single_waves_only() -> None:
    array = UniformLinearArray(antennas=128, height=0.0, tilt=0.0)
    angle, distance = torch.tensor([0.2, -0.3]).double(), torch.tensor([5.0, 7.0]).double()
    noise = torch.randn(2, 128, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    waves = near_field_steering(array, angle, distance)
    channels = torch.stack([waves[0], noise[0], waves[1], 5 * noise[1]])
    scene = scene_of(None, 0, 1, channels.conj().resolve_conj(), None)
    assert scene.located.tolist() == [True, False, True, False]
    assert scene.conjugated
    np.testing.assert_allclose(torch.hypot(scene.x, scene.height)[[0, 2]], distance, rtol=0.02)
    assert scene.x[[1, 3]].isnan().all()
    assert not scene.resolved[[1, 3]].any()
    none = scene_of(None, 0, 1, noise, None)
    assert not none.located.any()


def test_schemes_figure_shows_every_scheme_and_the_capacity() -> None:
    bars = [SchemeBar("mrt", 5.0, ["5.00"]), SchemeBar("nflae", 9.5, ["9.50"])]
    figure = schemes_figure(picture(3), bars, 10.0, "20 drops")
    axes = figure.axes[-1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MRT", "nflae"]
    assert [bar.get_width() for bar in axes.patches] == [5.0, 9.5]
    assert any("capacity 10.00" in text.get_text() for text in axes.texts)
    first, again = (
        FigureLook().render(lambda: schemes_figure(picture(3), bars, 10.0, "20 drops"), "svg") for _ in range(2)
    )
    assert first == again


def test_formats_go_by_extension() -> None:
    assert plot_format(Path("a/b.PNG")) == "png"
    for name in ("users", "users.bmp"):
        with pytest.raises(NflaeError, match=r"name it \.png, \.pdf or \.svg"):
            plot_format(Path(name))


def test_numbers_of_close_users_do_not_overlap() -> None:
    figure = Figure(figsize=(7, 4.6), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10), ylim=(0, 10))
    told = picture(8)
    places = {0: (5.0, 5.0), 1: (5.25, 5.05), 2: (4.8, 5.1), 3: (5.0, 5.001), 4: (9.99, 9.9), 5: (5.05, 4.7)}
    mark_users(axes, told, places, (0.0, 10.0, 0.0, 10.0))
    FigureCanvasAgg(figure).draw()
    assert sorted(text.get_text() for text in axes.texts) == ["1, 4", "2", "3", "5", "6"]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_constraints_and_users_without_power_are_shown() -> None:
    power = torch.tensor([0.3, 0.0, 0.2, 0.5])
    figure = users_figure(replace(picture(4), power=power, alpha_c=0.6, min_rate=0.5))
    _, powers, rates, _ = sorted(figure.axes, key=lambda axes: axes.get_label() == "<colorbar>")
    assert powers.get_title(loc="left") == "near field: 50.0 %\n(at most 60 %)"
    assert [text.get_text() for text in powers.texts] == ["off"]
    assert rates.get_title(loc="left") == "dashed: at least\n0.5 bps/Hz"
    assert rates.lines[0].get_xdata() == [0.5, 0.5]
    only_near = replace(picture(1), power=torch.tensor([0.8]), alpha_c=0.4, total_power=2.0)
    _, powers, *_ = sorted(users_figure(only_near).axes, key=lambda axes: axes.get_label() == "<colorbar>")
    assert powers.get_title(loc="left") == "near field: 40.0 %\n(at most 40 %)"


def test_looks_set_size_and_embed_fonts(tmp_path: Path) -> None:
    def draw(size: tuple[float, float] | None = None) -> Figure:
        return users_figure(picture(2), size)

    small = FigureLook("paper", (3.5, 2.0)).render(lambda: draw((3.5, 2.0)))
    width, height = (int.from_bytes(small[start : start + 4], "big") for start in (16, 20))  # of the PNG header
    assert (width, height) == (2100, 1200)
    content = FigureLook().render(draw, "pdf")
    assert b"/TrueType" in content or b"/CIDFontType2" in content
    assert b"/Type3" not in content
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("savefig.dpi: 50\n")
    width = int.from_bytes(FigureLook(str(sheet), (4.0, 3.0)).render(lambda: draw((4.0, 3.0)))[16:20], "big")
    assert width == 200


def test_axis_labels_do_not_overlap_at_the_width_of_a_column() -> None:
    figures: list[Figure] = []
    column = (8.9 / 2.54, 6 / 2.54)

    def draw() -> Figure:
        figures.append(users_figure(picture(2), column))
        return figures[0]

    FigureLook("paper", column).render(draw)
    FigureCanvasAgg(figures[0]).draw()
    labels = [axes.xaxis.label.get_window_extent() for axes in figures[0].axes if axes.get_label() != "<colorbar>"]
    assert not any(one.overlaps(other) for one, other in combinations(labels, 2))


@pytest.mark.parametrize(
    ("style", "size", "with_bars"),
    [
        ("paper", (3.5, 2.4), False),
        ("paper", (3.5, 4.0), True),
        ("house", (3.5, 6.0), True),
        ("house", (8.4, 6.0), True),
    ],
)
def test_texts_stay_in_the_figure_and_apart_at_any_size(style: str, size: tuple[float, float], with_bars: bool) -> None:
    shown = replace(picture(6), title="measured.mat, drop 1: nflae, 11.80 bps/Hz", alpha_c=0.4, min_rate=0.5)
    notes = ["18.86", "97.9 % of capacity", "272.5 us per drop"]
    bars = [SchemeBar(name, 18.86, notes) for name in ("rzf", "wmmse", "nflae")]
    figures: list[Figure] = []

    def draw() -> Figure:
        figures.append(schemes_figure(shown, bars, 19.25, "40 drops", size) if with_bars else users_figure(shown, size))
        return figures[0]

    look = FigureLook(style, size)
    look.render(draw)
    figure = figures[0]
    assert tuple(figure.get_size_inches()) == size
    with matplotlib.rc_context(look._settings()):
        FigureCanvasAgg(figure).draw()
        parts = [*figure.findobj(Legend)]
        for axes in figure.axes:
            parts += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
        boxes = [box for part in parts if (box := part.get_window_extent()).width > 0]
        names = [(text.get_text(), text.get_window_extent()) for text in figure.axes[-1].texts]
        frame, bars_end = figure.bbox.padded(1), figure.axes[-1].get_window_extent().x1
    boxes += [box for name, box in names if name.startswith("capacity")]
    assert [box for box in boxes if not (frame.contains(*box.min) and frame.contains(*box.max))] == []
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    assert all(box.x1 < bars_end for name, box in names)


def test_a_size_without_room_is_refused_in_one_line() -> None:
    with pytest.raises(NflaeError, match=r"^1 x 1 inches have no room for this plot in style slides: pass a larger"):
        FigureLook("slides", (1.0, 1.0)).render(lambda: users_figure(picture(2)))


@pytest.mark.parametrize("options", [("--size", "3x2in"), ("--plot-drop", "1")])
def test_options_of_a_plot_that_is_not_drawn_are_usage_errors(
    nflae: Run, tmp_path: Path, options: tuple[str, str]
) -> None:
    result = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", *options)
    assert result.exit_code == 2
    assert f"{options[0]} applies together with --plot" in result.output


def test_unknown_styles_and_broken_sheets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NflaeError, match=r"^papr: no such style; pass house, paper, slides or the path"):
        FigureLook("papr").check()
    binary = tmp_path / "mine.mplstyle"
    binary.write_bytes(b"\xff\xfe\x00font")
    with pytest.raises(NflaeError, match=r"mine.mplstyle: Matplotlib cannot read this style sheet"):
        FigureLook(str(binary)).check()


@pytest.mark.parametrize("size", ["3.5", "axb", "0x3", "nanx3", "8.9x600cm"])
def test_bad_sizes_are_usage_errors(nflae: Run, tmp_path: Path, size: str) -> None:
    result = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--size", size)
    assert result.exit_code == 2
    assert "--size" in result.output


def test_symbols_of_the_papers_are_typeset() -> None:
    assert symbols("with alpha_c and R_min:") == r"with $\alpha_c$ and $R_\mathrm{min}$:"
    assert symbols("users K") == "users K"


def test_axes_without_lines_get_no_legend_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    axes = empty_figure("title", ()).subplots()
    legend_beside(axes)
    assert axes.get_legend() is None
    assert not recwarn.list
    axes.plot([0, 1], label="line")
    legend_beside(axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["line"]
