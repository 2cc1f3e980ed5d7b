"""Serve ``--plot``: check it before the work, draw before the results are committed, write after them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.common import PlotOptions
from nflae_bridge.cli.outputs import SideFile, check_output_path
from nflae_bridge.cli.terminal import warn

if TYPE_CHECKING:
    import torch

    from matlab_io import ChannelFile
    from nflae_bridge.files.budget.user_noise import UserNoise
    from nflae_bridge.files.labels import LabelSource
    from nflae_bridge.plots.drop_picture import DropPicture
    from simulator.downlink.budget import LinkBudget
    from simulator.downlink.precoding import Scheme


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
        If the format is not supported, or as `check_output_path`.
    """
    path = plotting.plot
    if path is None:
        return
    from nflae_bridge.plots.style import plot_format

    plot_format(path)
    check_output_path(path, forbidden)


def check_plot_drop(plotting: PlotOptions, file: ChannelFile) -> None:
    """Check that the drop of ``--plot-drop`` can be drawn.

    Parameters
    ----------
    plotting : PlotOptions
        Plot options of the command.
    file : ChannelFile
        Channel file, open.

    Raises
    ------
    NflaeError
        If the file has no such drop, or if the drop holds NaN, Inf or an all-zero user.
    """
    if plotting.plot is None or plotting.plot_drop is None:
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
    plotting : PlotOptions
        Plot options of the command; ``plot`` is given.
    file : ChannelFile
        Channel file, open.
    name, scheme : str, Scheme
        Precoding scheme, and its name for the title.
    budget, device : LinkBudget, torch.device
        Link budget, and device of the computation.
    noise : UserNoise, optional
        Noise power per user or drop; that of `budget` is then their reference.
    labels : LabelSource, optional
        Source of the near-field labels; by default the scheme.

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
    carrier = None if plotting.carrier_ghz is None else 1e9 * plotting.carrier_ghz
    path = None if file.version == "raw" else file.path
    shown, panel = torch.from_numpy(block.channels[0]), stated_panel(file)
    scene = scene_of(path, drop, file.drops, shown, carrier) if panel is None else panel_scene(panel, shown)
    return DropPicture(
        title=f"{file.path.name}, {drop_name(file, drop)}: {name}, {float(result.sum_rate[0]):.2f} bps/Hz",
        scene=scene,
        precoder=result.precoder[0].cpu(),
        power=result.power[0].cpu(),
        rate=result.rate[0].cpu(),
        near_field=result.near_field[0].cpu(),
        undecided=result.near_field_score[0].cpu() == UNDECIDED,
        alpha_c=budget.alpha_c,
        min_rate=budget.min_rate,
    )


def draw_users(path: Path, picture: DropPicture) -> SideFile:
    """Draw the map of the users of one drop.

    Parameters
    ----------
    path : Path
        File to write; its suffix chooses the format.
    picture : DropPicture
        Content of the plot.

    Returns
    -------
    SideFile
        The plot, to be saved.
    """
    from nflae_bridge.plots.style import plot_format, render
    from nflae_bridge.plots.users_map import users_figure

    return SideFile(path, render(users_figure(picture), plot_format(path)))


def _first_good_drop(file: ChannelFile) -> int | None:
    from nflae_bridge.files.validation import good_drops

    return next((drop for drop in range(file.drops) if good_drops(file.read(drop, drop + 1))[0]), None)
