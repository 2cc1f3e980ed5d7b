"""Label the users of a channel file near-field or far-field: by a variable of the file, or by a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io.containers.variable import NUMERIC_CLASSES, Variable, shape_text
from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.files.budget.variables import read_per_user, users_by_drops, variable_shape
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.geometry.clear_waves import ClearWaves
from simulator.geometry.panel_labels import panel_near_field_score
from simulator.geometry.panels import UniformPlanarArray, parse_panel
from simulator.geometry.single_wave import strongest_waves

if TYPE_CHECKING:
    from matlab_io import ChannelFile

__all__ = [
    "NO_VARIABLE",
    "PANEL_PREFIX",
    "SCHEME_LABELS",
    "UNDECIDED",
    "LabelSource",
    "describe_panel_labels",
    "fitted_labels",
    "named_panel",
    "precode_labelled",
    "read_labels",
    "stated_panel",
    "strongest_antenna",
]

NO_VARIABLE = "none"
"""Name that selects the labels of the network although the file holds some."""
PANEL_PREFIX = "upa:"
"""Start of the name of a planar array, in the place of labels."""
UNDECIDED = 0.5
"""Near-field score of a user whose channel is not a single spherical wave."""

_VARIABLE = "near_field"
_ONE_RECEIVE_ANTENNA = 3  # axes of channels: drops, users, antennas
Labels = npt.NDArray[np.bool_]
Score = Callable[[Tensor, ClearWaves | None], Tensor]


@dataclass(frozen=True)
class LabelSource:
    """Hold the labels of a file's users, or the network that finds them.

    Parameters
    ----------
    given : numpy.ndarray, optional
        Labels of every drop of the file, bool (drops, users).
    score : callable, optional
        Near-field scores, float64 (drops, users), of channels, complex64 (drops, users, antennas), and of their clear
        waves, where these are known; by default those of the scheme.
    tests_waves : bool
        Set the score to `UNDECIDED` where the channel is not a single spherical wave.
    panel : UniformPlanarArray, optional
        Planar array of the labels; by default a line.
    """

    given: Labels | None = None
    score: Score | None = None
    tests_waves: bool = True
    panel: UniformPlanarArray | None = None


SCHEME_LABELS = LabelSource()
"""Labels of the scheme itself."""


def precode_labelled(
    scheme: Scheme, channels: Tensor, budget: LinkBudget, source: LabelSource, given: Labels | None
) -> Precoding:
    """Precode with labels that do not depend on the scheme, and score them.

    Parameters
    ----------
    scheme : Scheme
        Precoding scheme.
    channels : Tensor
        Complex64, (drops, users, antennas), or (drops, users, receive antennas, antennas), of which the strongest is
        labelled.
    budget : LinkBudget
        Link budget of every drop.
    source : LabelSource
        Source of the labels.
    given : numpy.ndarray or None
        Labels of these drops where `source` has labels, bool (drops, users).

    Returns
    -------
    Precoding
        The scores are 0 and 1 for given labels; else those of the source, and `UNDECIDED` where the channel is not a
        single spherical wave.
    """
    if given is not None:
        near = torch.from_numpy(given).to(channels.device)
        precoding, score = scheme(ChannelBatch(channels, near), budget), near.double()
        return replace(precoding, compute_labels=lambda: (near, score))
    labelled = strongest_antenna(channels)
    waves = strongest_waves(labelled) if source.tests_waves else None
    classify = source.score
    if classify is None and waves is not None and _classifies_apart(scheme):
        classify = scheme.near_field_score
    if classify is None:
        precoding = scheme(ChannelBatch(channels), budget)
        near, score = precoding.near_field, precoding.near_field_score
    else:
        score = classify(labelled, None if waves is None else waves.clear)
        near = score > UNDECIDED
        precoding = scheme(ChannelBatch(channels, near), budget)
    if waves is not None:
        score = torch.where(waves.single, score, UNDECIDED)
    return replace(precoding, compute_labels=lambda: (near, score))


def _classifies_apart(scheme: Scheme) -> TypeGuard[Engine]:
    """Return whether users are classified without their powers; on a GPU one recording computes both."""
    return isinstance(scheme, Engine) and scheme.device.type == "cpu" and scheme.network.encoder.classifies


def strongest_antenna(channels: Tensor) -> Tensor:
    """Select the channel of largest norm among the receive antennas of each user.

    Parameters
    ----------
    channels : Tensor
        Complex, (drops, users, receive antennas, antennas), or (drops, users, antennas), which is returned as it is.

    Returns
    -------
    Tensor
        Complex, (drops, users, antennas).
    """
    if channels.ndim == _ONE_RECEIVE_ANTENNA:
        return channels
    strongest = channels.abs().square().sum(-1).argmax(-1)
    index = strongest.reshape(*strongest.shape, 1, 1).expand(*strongest.shape, 1, channels.shape[-1])
    return channels.gather(2, index).squeeze(2)


def read_labels(file: ChannelFile, wanted: str | None) -> tuple[Labels | None, str]:
    """Read the near-field labels that a channel file holds.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    wanted : str or None
        Name of the variable, ``"none"``, or a planar array, whose labels are fitted; by default ``near_field`` beside
        the channels, where there is one.

    Returns
    -------
    labels : numpy.ndarray or None
        Bool, (drops, users); None if the file holds none or they are not to be used.
    origin : str
        Variable and size, for the report.

    Raises
    ------
    NflaeError
        If there is no such variable, or its size or a value of it is not that of labels.
    """
    if wanted is not None and (wanted == NO_VARIABLE or wanted.startswith(PANEL_PREFIX)):
        return None, ""
    variable = _variable(file, wanted)
    if variable is None:
        return None, ""
    where = f"{file.path}: {variable.name}"
    remedy = f"correct it, or pass --near-field {NO_VARIABLE} for the labels of the network"
    if variable.matlab_class not in (*NUMERIC_CLASSES, "logical") or variable.is_complex:
        raise NflaeError(f"{where} ({variable.matlab_class}) holds no labels; expected 0 and 1 per user; {remedy}")
    order, numbers = read_per_user(file, variable, "label", remedy)
    shape = variable_shape(variable)
    wrong = np.argwhere(~np.isin(numbers, (0, 1)))
    if len(wrong):
        index = ",".join(str(position + 1) for position in wrong[0])
        raise NflaeError(f"{where}({index}) = {numbers[tuple(wrong[0])]:g}; labels are 0 and 1; {remedy}")
    labels = users_by_drops(file, numbers.astype(np.bool_), order)
    return labels, f"{variable.name} in {file.path.name}, {shape_text(shape)}"


def stated_panel(file: ChannelFile, wanted: str | None = None) -> UniformPlanarArray | None:
    """Return the planar array of a channel file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    wanted : str, optional
        As for `read_labels`; where it names no array, that of a text ``array`` in the file counts.

    Returns
    -------
    UniformPlanarArray or None
        The array; None if none is named, or a line.

    Raises
    ------
    NflaeError
        If the text names no array, or one of another number of antennas than the channels have.
    """
    if wanted is not None and wanted.startswith(PANEL_PREFIX):
        return named_panel(wanted, file.antennas)
    if file.version == "raw":
        return None
    from matlab_io.containers.contents import list_variables, stated_text  # h5py is not imported without a file

    listed = list_variables(file.path, file.version)
    text = stated_text(file.path, file.version, file.variable, listed, "array")
    if not text.startswith("upa"):
        return None
    try:
        return named_panel(text, file.antennas)
    except NflaeError as error:
        raise NflaeError(f"{file.path}: {error}") from None


def named_panel(text: str, antennas: int) -> UniformPlanarArray:
    """Return the planar array of a name, such as ``upa:16x16``.

    Parameters
    ----------
    text : str
        Name.
    antennas : int
        Number of antennas of the channels.

    Returns
    -------
    UniformPlanarArray
        The array.

    Raises
    ------
    NflaeError
        If there is no such array, or it has another number of antennas.
    """
    try:
        panel = parse_panel(text)
    except NflaeError as error:
        raise NflaeError(f"array: {error}") from None
    if panel.antennas != antennas:
        raise NflaeError(f"array {panel} has {panel.antennas} antennas, the channels {antennas}")
    return panel


def fitted_labels(panel: UniformPlanarArray) -> LabelSource:
    """Return the labels of a planar array: those of fitted spherical waves, since the network's are for a line.

    Parameters
    ----------
    panel : UniformPlanarArray
        Array of the base station.

    Returns
    -------
    LabelSource
        Scores of `simulator.geometry.panel_labels`.
    """
    return LabelSource(None, lambda channels, _: panel_near_field_score(panel, channels), False, panel)


def describe_panel_labels(panel: UniformPlanarArray | None, file: ChannelFile, wanted: str | None) -> str:
    """Describe the origin of the labels of a panel, for the report.

    Parameters
    ----------
    panel : UniformPlanarArray or None
        Planar array, if any.
    file : ChannelFile
        Open file.
    wanted : str or None
        As for `read_labels`.

    Returns
    -------
    str
        The origin; empty without a panel.
    """
    if panel is None:
        return ""
    stated = "" if wanted is not None and wanted.startswith(PANEL_PREFIX) else f", the array in {file.path.name}"
    return f"spherical waves fitted to {panel}{stated}"


def _variable(file: ChannelFile, wanted: str | None) -> Variable | None:
    """Return the variable of the labels: the one named, else that of the channels' struct, else that at the top."""
    from matlab_io.containers.contents import list_variables  # h5py is not imported where no file is read

    listed = [] if file.version == "raw" else list_variables(file.path, file.version)
    variables = {variable.name: variable for variable in listed}
    if wanted is not None:
        if wanted not in variables:
            raise NflaeError(
                f"{file.path}: no variable {wanted}; pass --near-field with the name of an array of 0 and 1 per user,"
                f" or {NO_VARIABLE} for the labels of the network"
            )
        return variables[wanted]
    beside = file.variable.rpartition(".")[0]
    names = (f"{beside}.{_VARIABLE}", _VARIABLE)
    return next((variables[name] for name in names if name in variables), None)
