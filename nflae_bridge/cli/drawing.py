"""``--plot``: checked before the work, drawn before the results are committed, written after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError
from nflae_bridge.cli.options import PlotOptions
from nflae_bridge.cli.terminal import warn

if TYPE_CHECKING:
    import torch

    from matlab_io import ChannelFile
    from nflae_bridge.plots.users_map import DropPicture
    from simulator.downlink.budget import LinkBudget
    from simulator.downlink.precoding import Scheme


@dataclass(frozen=True)
class SideFile:
    """A side output, a picture or a table, on its way to its file."""

    path: Path
    content: bytes

    def save(self) -> None:
        """Write the file, whole or not at all. Raises OSError."""
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            part.write_bytes(self.content)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)


def check_plot(drawing: PlotOptions, forbidden: tuple[Path, ...]) -> None:
    """Raises NflaeError if the picture could not be written: its format, its folder, or another file's place."""
    path = drawing.plot
    if path is None:
        return
    from nflae_bridge.plots.style import plot_format

    plot_format(path)
    check_place(path, forbidden)


def check_place(path: Path, forbidden: tuple[Path, ...]) -> None:
    """Raises NflaeError if no file can be written to ``path``, or if it is one of ``forbidden``."""
    if not path.parent.is_dir():
        raise NflaeError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise NflaeError(f"{path}: can't be written there; name another file")
    if any(path.resolve() == other.resolve() for other in forbidden):
        raise NflaeError(f"{path}: is also the input or another output; name another file")


def check_plot_drop(drawing: PlotOptions, file: ChannelFile) -> None:
    """Raises NflaeError if the drop asked for can't be drawn."""
    if drawing.plot is None or drawing.plot_drop is None:
        return
    from nflae_bridge.files.blocks import describe_bad_drop
    from nflae_bridge.files.validation import fault_of, good_drops

    drop = drawing.plot_drop - 1
    if drop >= file.drops:
        raise NflaeError(f"--plot-drop {drawing.plot_drop}: {file.path} has {file.drops} drops")
    channels = file.read(drop, drop + 1)
    if not good_drops(channels)[0]:
        raise NflaeError(f"--plot-drop {drawing.plot_drop}: {describe_bad_drop(file, fault_of(channels[0], drop))}")


def picture_of(
    drawing: PlotOptions, file: ChannelFile, name: str, scheme: Scheme, budget: LinkBudget, device: torch.device
) -> DropPicture | None:
    """The drop to draw, precoded by ``scheme``; None, and a note, if every drop is bad."""
    import torch

    from nflae_bridge.files.blocks import drop_name
    from nflae_bridge.files.positions import scene_of
    from nflae_bridge.files.precode_file import precode_channels
    from nflae_bridge.plots.users_map import DropPicture

    drop = _first_good_drop(file) if drawing.plot_drop is None else drawing.plot_drop - 1
    if drop is None:
        warn(f"{drawing.plot} is not drawn: no drop can be precoded for")
        return None
    channels = file.read(drop, drop + 1)
    answer = precode_channels(scheme, channels, budget, device)
    carrier = None if drawing.carrier_ghz is None else 1e9 * drawing.carrier_ghz
    scene = scene_of(file.path, drop, file.drops, torch.from_numpy(channels[0]), carrier)
    return DropPicture(
        title=f"{file.path.name}, {drop_name(file, drop)}: {name}, {float(answer.sum_rate[0]):.2f} bps/Hz",
        scene=scene,
        precoder=answer.precoder[0].cpu(),
        power=answer.power[0].cpu(),
        rate=answer.rate[0].cpu(),
        near_field=answer.near_field[0].cpu(),
    )


def drawn(drawing: PlotOptions, picture: DropPicture) -> SideFile:
    """The users' map as the bytes of a file."""
    from nflae_bridge.plots.style import plot_format, render
    from nflae_bridge.plots.users_map import users_figure

    assert drawing.plot is not None
    return SideFile(drawing.plot, render(users_figure(picture), plot_format(drawing.plot)))


def _first_good_drop(file: ChannelFile) -> int | None:
    from nflae_bridge.files.validation import good_drops

    return next((drop for drop in range(file.drops) if good_drops(file.read(drop, drop + 1))[0]), None)
