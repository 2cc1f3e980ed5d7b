"""Find the drops of a channel file that precede others in time, on the same subcarrier."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from matlab_io.containers.variable import Variable

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SlotAxis:
    """Hold the drop axes of a file: at most one axis of time, and the subcarriers.

    Parameters
    ----------
    letters : str
        ``s`` or ``f`` per drop axis, in MATLAB order.
    sizes : tuple of int
        Sizes of these axes.
    """

    letters: str
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, file: ChannelFile) -> SlotAxis:
        """Return the axes of a file.

        Parameters
        ----------
        file : ChannelFile
            Open file.

        Returns
        -------
        SlotAxis

        Raises
        ------
        NflaeError
            If the file has several axes of drops.
        """
        if file.drop_letters.count("s") > 1:
            raise NflaeError(
                f"{file.path}: layout {file.layout} has several axes of drops, and slots follow one axis of time; save"
                " the channels with one"
            )
        return cls(file.drop_letters or "s", file.drop_axes or (1,))

    @property
    def slots(self) -> int:
        """Return the number of slots; 1 without an axis of drops."""
        return dict(zip(self.letters, self.sizes, strict=True)).get("s", 1)

    @property
    def subcarrier_axes(self) -> tuple[int, ...]:
        """Return the sizes of the subcarrier axes, in MATLAB order."""
        return tuple(size for letter, size in zip(self.letters, self.sizes, strict=True) if letter == "f")

    def slot_of(self, drops: Indices) -> Indices:
        """Return the slots of drops.

        Parameters
        ----------
        drops : numpy.ndarray
            Drops in linear order, counted from 0, int64 of any shape.

        Returns
        -------
        numpy.ndarray
            Slots, counted from 0, of the same shape.
        """
        for letter, places in zip(self.letters, np.unravel_index(drops, self.sizes, order="F"), strict=True):
            if letter == "s":
                return places.astype(np.int64)
        return np.zeros_like(drops)

    def at(self, drops: Indices, slots: Indices) -> Indices:
        """Return the drops of other slots on the same subcarriers.

        Parameters
        ----------
        drops : numpy.ndarray
            Drops, int64 (n,).
        slots : numpy.ndarray
            Slots for each of them, int64 (n, m).

        Returns
        -------
        numpy.ndarray
            Drops, int64 (n, m); -1 for slots below 0.
        """
        places = np.unravel_index(drops, self.sizes, order="F")
        moved = tuple(
            np.maximum(slots, 0) if letter == "s" else np.broadcast_to(place[:, None], slots.shape)
            for letter, place in zip(self.letters, places, strict=True)
        )
        found = np.ravel_multi_index(moved, self.sizes, order="F")
        return np.where(slots >= 0, found, -1).astype(np.int64)

    def history(self, drops: Indices, length: int) -> Indices:
        """Return the drops of the slots up to given ones.

        Parameters
        ----------
        drops : numpy.ndarray
            Newest drops, int64 (n,).
        length : int
            Number of slots.

        Returns
        -------
        numpy.ndarray
            Drops, oldest first, int64 (n, length); -1 before the first slot.
        """
        return self.at(drops, self.slot_of(drops)[:, None] - np.arange(length)[::-1])

    def by_slot(self) -> Indices:
        """Return the drops of every slot, in linear order, int64 (slots, subcarriers)."""
        drops = np.arange(math.prod(self.sizes), dtype=np.int64)
        return drops[np.argsort(self.slot_of(drops), kind="stable")].reshape(self.slots, -1)


def slot_seconds(file: ChannelFile) -> float | None:
    """Return the time between slots that a file states: one positive number ``slot_seconds`` beside the channels.

    Parameters
    ----------
    file : ChannelFile
        Open file.

    Returns
    -------
    float or None
        Seconds; None if the file states none.

    Raises
    ------
    NflaeError
        If ``slot_seconds`` is anything else.
    """
    stated = _beside(file, "slot_seconds")
    if stated is None:
        return None
    found = _numbers(file, "slot_seconds")
    if found is None or found.size != 1 or not 0 < found[0] < math.inf:
        value = f"slot_seconds = {found[0]:g}" if found is not None and found.size == 1 else str(stated)
        raise NflaeError(f"{file.path}: {value}: expected one positive number, s; correct or remove it")
    return float(found[0])


def subcarriers_as_drops(file: ChannelFile) -> int:
    """Return the number of subcarriers that follow each other as drops, as `nflae simulate` writes them.

    Parameters
    ----------
    file : ChannelFile
        Open file.

    Returns
    -------
    int
        The whole number ``subcarriers`` beside the channels, if the layout is ``nks`` and it divides the drops; else 1.
    """
    found = _numbers(file, "subcarriers")
    if file.layout != "nks" or found is None or found.size != 1 or not 1 < found[0] <= file.drops:
        return 1
    return 1 if file.drops % found[0] else int(found[0])


def slot_times(file: ChannelFile, name: str) -> npt.NDArray[np.float64]:
    """Read the times of the slots from a variable of a file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    name : str
        Name of the variable.

    Returns
    -------
    numpy.ndarray
        Times, s, float64 (slots,).

    Raises
    ------
    NflaeError
        If there is no such variable, or it has another number of values.
    """
    found, slots = _numbers(file, name), SlotAxis.of(file).slots
    if found is None:
        raise NflaeError(f"{file.path}: no numbers {name}; name the variable with the time of every drop, s")
    if found.size != slots:
        raise NflaeError(f"{file.path}: {name} has {found.size} values; expected one per drop, {slots}")
    return found


def _numbers(file: ChannelFile, name: str) -> npt.NDArray[np.float64] | None:
    """Return a real variable beside the channels as a vector; None if there is none."""
    from matlab_io.containers.variable import NUMERIC_CLASSES
    from matlab_io.reading.storage import open_storage  # h5py is not imported where no file is read

    variable = _beside(file, name)
    if variable is None or variable.matlab_class not in NUMERIC_CLASSES or variable.is_complex:
        return None
    with closing(open_storage(file.path, file.version, variable, [])) as storage:
        return np.asarray(storage.numbers(variable), np.float64).reshape(-1, order="F")


def _beside(file: ChannelFile, name: str) -> Variable | None:
    """Return the description of a variable beside the channels; None if there is none."""
    from matlab_io.containers.contents import list_variables

    listed = [] if file.version == "raw" else list_variables(file.path, file.version)
    return next((variable for variable in listed if variable.name == name), None)
