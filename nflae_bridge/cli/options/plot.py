"""Serve ``--plot``: check it before the work, choose and precode the drop, draw it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.common import option_group, refuse_options
from nflae_bridge.cli.outputs import SideFile, check_output_path
from nflae_bridge.cli.terminal import warn
from nflae_bridge.plots.look import FORMATS, STYLES, FigureLook, StatedSize, plot_format

if TYPE_CHECKING:
    import torch

    from matlab_io import ChannelFile
    from nflae_bridge.files.budget.user_noise import UserNoise
    from nflae_bridge.files.labels import LabelSource
    from nflae_bridge.plots.drop_picture import DropPicture
    from simulator.downlink.budget import LinkBudget
    from simulator.downlink.precoding import Scheme
    from simulator.geometry.panels import UniformPlanarArray


WITHOUT_PLOT = "applies together with --plot: add --plot FILE, or leave it out."
"""Remedy for an option of the plot without one."""
_PANEL_AXES = 2  # of antennas: rows and columns


def _size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> StatedSize | None:
    if value is None:
        return None
    unit = "cm" if value.endswith("cm") else "in"
    try:
        width, height = (float(part) for part in value.removesuffix("cm").removesuffix("in").split("x"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no size; give width x height, e.g. 8.9x6cm or 3.5x2.4in") from None
    size = StatedSize(width, height, unit)
    if not all(1 <= length <= 60 for length in size):
        raise click.BadParameter(f"{value!r}: give 1 to 60 inches (2.54 to 152 cm) each way")
    return size


_look_options = (
    click.option(
        "--size",
        callback=_size,
        metavar="WxH[in|cm]",
        help="Size of the plots, e.g. 3.5x2.4in with --style paper.  [default: by content]",
    ),
    click.option(
        "--style",
        default="house",
        show_default=True,
        metavar="|".join((*STYLES, "FILE")),
        help="Style of the plots: sizes of type and lines; FILE: a Matplotlib style sheet, on top of house.",
    ),
)
figure_options = option_group(FigureLook, "look", *_look_options)
format_option = click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="png", show_default=True, help="Format of the plots."
)


@dataclass(frozen=True)
class PlotOptions:
    """Plot of the users of one drop.

    Attributes
    ----------
    plot : Path, optional
        File to write; None for no plot.
    plot_drop : int, optional
        Drop to draw, counted from 1; None for the first one without NaN, Inf or an all-zero user.
    carrier_ghz : float, optional
        Carrier frequency, GHz.
    size, style
        As in `FigureLook`.
    """

    plot: Path | None
    plot_drop: int | None
    carrier_ghz: float | None
    size: tuple[float, float] | None
    style: str

    @property
    def look(self) -> FigureLook:
        """Size and style."""
        return FigureLook(self.style, self.size)


plot_options = option_group(
    PlotOptions,
    "plotting",
    click.option(
        "--plot",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Plot the users of one drop on the beam-focusing map of the array (.png, .pdf or .svg).",
    ),
    click.option(
        "--plot-drop", type=click.IntRange(min=1), help="Drop to plot, from 1.  [default: the first valid one]"
    ),
    click.option(
        "--carrier-ghz",
        type=click.FloatRange(min=0, min_open=True),
        help="Carrier frequency of the map, GHz.  [default: carrier_hz in the file, else 30]",
    ),
    *_look_options,
)


def check_plot(plotting: PlotOptions, forbidden: tuple[Path, ...]) -> None:
    """Check, before the work starts, that the plot can be written.

    Parameters
    ----------
    plotting : PlotOptions
        Plot options of the command.
    forbidden : tuple of Path
        The command's input and its other outputs.

    Raises
    ------
    NflaeError
        If the format is not supported or the style is not known, or as `check_output_path`.
    click.UsageError
        If an option of the plot is given without ``--plot``.
    """
    path = plotting.plot
    if path is None:
        refuse_options(WITHOUT_PLOT, ("plot_drop", "carrier_ghz", "size", "style"))
        return
    plot_format(path)
    plotting.look.check()
    check_output_path(path, forbidden)


def check_plot_drop(plotting: PlotOptions, file: ChannelFile) -> None:
    """Check that the array, and the drop of ``--plot-drop``, can be drawn.

    Parameters
    ----------
    plotting : PlotOptions
        Plot options of the command.
    file : ChannelFile
        Channel file, open.

    Raises
    ------
    NflaeError
        If the file has no such drop, if the drop holds NaN, Inf or an all-zero user, or if the antennas have more axes
        than a panel.
    """
    if plotting.plot is None:
        return
    if len(file.antenna_axes) > _PANEL_AXES:
        raise NflaeError(
            f"--plot {plotting.plot}: {file.path}: {file.variable} has {len(file.antenna_axes)} axes of antennas"
            f" (layout {file.layout}); lines and panels of rows x columns are drawn: leave --plot out"
        )
    if plotting.plot_drop is None:
        return
    from nflae_bridge.files.blocks import describe_bad_drop
    from nflae_bridge.files.validation import fault_of, good_drops

    drop = plotting.plot_drop - 1
    if drop >= file.drops:
        raise NflaeError(f"--plot-drop {plotting.plot_drop}: {file.path} has {file.drops} drops")
    channels = file.read(drop, drop + 1)
    if not good_drops(channels)[0]:
        raise NflaeError(f"--plot-drop {plotting.plot_drop}: {describe_bad_drop(file, fault_of(channels[0], drop))}")


def precode_drop_to_plot(
    plotting: PlotOptions,
    file: ChannelFile,
    name: str,
    scheme: Scheme,
    budget: LinkBudget,
    device: torch.device,
    noise: UserNoise | None = None,
    labels: LabelSource | None = None,
) -> DropPicture | None:
    """Precode the drop to plot.

    Parameters
    ----------
    plotting, file : PlotOptions, ChannelFile
        Plot options of the command, with ``plot``, and its channel file, open.
    name, scheme : str, Scheme
        Precoding scheme, and its name for the title.
    budget, device : LinkBudget, torch.device
        Link budget, and device of the computation.
    noise, labels : UserNoise, LabelSource, optional
        Noise power per user or drop, whose reference is that of `budget`; source of the labels, by default the scheme.

    Returns
    -------
    DropPicture or None
        Content of the plot; None, and a note on stderr, if no drop of the file can be precoded.
    """
    import torch

    from nflae_bridge.files.blocks import drop_name, read_block
    from nflae_bridge.files.labels import SCHEME_LABELS, UNDECIDED, stated_panel
    from nflae_bridge.files.positions import panel_scene, scene_of
    from nflae_bridge.files.precode_file import precode_channels
    from nflae_bridge.plots.drop_picture import DropPicture

    drop = _first_good_drop(file) if plotting.plot_drop is None else plotting.plot_drop - 1
    if drop is None:
        warn(f"{plotting.plot} is not drawn: no drop can be precoded")
        return None
    labels = labels or SCHEME_LABELS
    block = read_block(file, drop, drop + 1, "error", noise, labels.given)
    result = precode_channels(scheme, block.channels, budget, device, labels, block.near_field)
    path = None if file.version == "raw" else file.path
    shown, panel = torch.from_numpy(block.channels[0]), labels.panel or stated_panel(file) or _panel_of_axes(file)
    carrier = _carrier(plotting, panel)
    scene = scene_of(path, drop, file.drops, shown, carrier) if panel is None else panel_scene(panel, shown)
    return DropPicture(
        title=f"{file.path.name}, {drop_name(file, drop)}: {name}, {float(result.sum_rate[0]):.2f} bps/Hz",
        scene=scene,
        precoder=result.precoder[0].cpu(),
        power=result.power[0].cpu(),
        rate=result.rate[0].cpu(),
        near_field=result.near_field[0].cpu(),
        undecided=result.near_field_score[0].cpu() == UNDECIDED,
        alpha_c=float(budget.alpha_c),
        total_power=float(budget.power),
        min_rate=float(budget.min_rate),
    )


def _carrier(plotting: PlotOptions, panel: UniformPlanarArray | None) -> float | None:
    """Return the carrier of the option, Hz, which the map of a line has."""
    if plotting.carrier_ghz is None:
        return None
    if panel is not None:
        raise NflaeError(
            f"--carrier-ghz {plotting.carrier_ghz:g}: the map of the panel {panel} is over azimuth and elevation, for"
            " any carrier; leave it out"
        )
    return 1e9 * plotting.carrier_ghz


def draw_users(path: Path, picture: DropPicture, look: FigureLook) -> SideFile:
    """Draw the map of the users of one drop.

    Parameters
    ----------
    path : Path
        File to write; its suffix chooses the format.
    picture : DropPicture
        Content of the plot.
    look : FigureLook
        Size and style.

    Returns
    -------
    SideFile
        The plot, to be saved.
    """
    from nflae_bridge.plots.maps.users_map import users_figure

    return SideFile(path, look.render(lambda: users_figure(picture, look.size), plot_format(path)))


def _panel_of_axes(file: ChannelFile) -> UniformPlanarArray | None:
    """Return the half-wavelength panel of two antenna axes, rows x columns; None of one axis."""
    from nflae_bridge.files.labels import PANEL_PREFIX, named_panel

    axes = file.antenna_axes
    if len(axes) == _PANEL_AXES and min(axes) > 1:
        return named_panel(f"{PANEL_PREFIX}{axes[0]}x{axes[1]}", file.antennas)
    return None


def _first_good_drop(file: ChannelFile) -> int | None:
    from nflae_bridge.files.validation import good_drops

    return next((drop for drop in range(file.drops) if good_drops(file.read(drop, drop + 1))[0]), None)
