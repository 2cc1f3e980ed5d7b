"""Hold a noise power per user or drop and refer channels to one noise power."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import matlab_shape, shape_text

if TYPE_CHECKING:
    from matlab_io import ChannelFile

__all__ = ["UserNoise", "fit_user_noise"]


@dataclass(frozen=True)
class UserNoise:
    """Hold the noise power of every user and drop.

    SINRs depend on h_k / sigma_k only: precoding sqrt(sigma_ref^2 / sigma_k^2) h_k with the noise power sigma_ref^2 for
    all is precoding h_k with sigma_k^2.

    Parameters
    ----------
    power : numpy.ndarray
        sigma_k^2, W, float64 (users or 1, drops or 1), positive and finite.
    drop_axes : tuple of int
        Sizes of the subcarrier and drop axes, whose product is the number of drops.
    """

    power: npt.NDArray[np.float64]
    drop_axes: tuple[int, ...]

    @property
    def reference(self) -> float:
        """Return sigma_ref^2, the geometric mean of all noise powers, W."""
        return float(np.exp(np.log(self.power).mean()))

    def amplitude(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return sqrt(sigma_ref^2 / sigma_k^2) for consecutive drops.

        Parameters
        ----------
        start, stop : int
            First drop, and the one after the last, counted from 0.

        Returns
        -------
        numpy.ndarray
            Float32, (stop - start or 1, users or 1, 1).
        """
        part = self.power if self.power.shape[1] == 1 else self.power[:, start:stop]
        return np.sqrt(self.reference / part).T[:, :, None].astype(np.float32)

    def matlab_array(self) -> npt.NDArray[np.float64]:
        """Return the noise powers in MATLAB order, of a shape that expands to that of ``rate``: K x S, K x F x S."""
        shape = self.drop_axes if self.power.shape[1] > 1 else (1,)
        return self.power.reshape((self.power.shape[0], *shape), order="F")

    def describe(self) -> str:
        """Describe the noise powers in a few words."""
        low, high = float(self.power.min()), float(self.power.max())
        kinds = [name for name, size in zip(("user", "drop"), self.power.shape, strict=True) if size > 1]
        decibels = f"{10 * math.log10(low):.4g} to {10 * math.log10(high):.4g} dBW"
        return f"{low:g} to {high:g} W ({decibels}), one per {' and '.join(kinds) or 'file'}"


def fit_user_noise(file: ChannelFile, numbers: npt.NDArray[np.float64]) -> UserNoise | str:
    """Match the axes of an array of noise powers with the users and drops of a file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    numbers : numpy.ndarray
        Noise powers, W, in MATLAB's axis order.

    Returns
    -------
    UserNoise or str
        Noise powers, or why they fit no reading, or more than one.
    """
    drop_sizes = iter(file.drop_axes)
    axes = [
        ("k", file.users) if letter == "k" else (f"{letter}{place}", next(drop_sizes, 1))
        for place, letter in enumerate(file.layout)
        if letter in "ksf"
    ]
    if ("k", file.users) not in axes:
        axes.append(("k", file.users))
    shape = matlab_shape(numbers.shape)
    found: dict[bytes, UserNoise] = {}
    for order in _orders(axes):
        noise = _read_as(numbers.reshape(shape), order, axes, file.drop_axes)
        if noise is not None:
            found.setdefault(noise.power.tobytes() + bytes(str(noise.power.shape), "ascii"), noise)
    expected = f"{file.users} x 1 for a number per user, 1 x {math.prod(file.drop_axes)} per drop"
    if not found:
        return f"is {shape_text(shape)}, which fits neither users nor drops; expected {expected}, or one number"
    if len(found) > 1:
        return f"is {shape_text(shape)}, which may count users or drops; save it with an entry per user and drop"
    return next(iter(found.values()))


Axes = list[tuple[str, int]]


def _orders(axes: Axes) -> list[Axes]:
    """Return the axes in the order of the file and with the users first, as results have them, and parts of them."""
    users = [axis for axis in axes if axis[0] == "k"]
    drops = [axis for axis in axes if axis[0] != "k"]
    whole = [axes, users + drops]
    singles = [[axis] for axis in axes if axis[1] > 1]
    pairs = [list(pair) for pair in itertools.combinations(axes, 2) if all(size > 1 for _, size in pair)]
    return whole + singles + pairs


def _read_as(numbers: npt.NDArray[np.float64], order: Axes, axes: Axes, drop_axes: tuple[int, ...]) -> UserNoise | None:
    """Return the noise powers if the axes of `numbers` are `order`; None if they cannot be."""
    sizes = tuple(size for _, size in order)
    is_vector = len(order) == 1 and max(numbers.shape) == numbers.size == sizes[0]
    if not is_vector and (len(order) == 1 or matlab_shape(sizes) != numbers.shape):
        return None
    where = {letter: index for index, (letter, _) in enumerate(order)}
    wanted = [axis for axis in axes if axis[0] == "k"] + [axis for axis in axes if axis[0] != "k"]
    array = numbers.reshape(sizes)
    array = array.transpose([where[letter] for letter, _ in wanted if letter in where])
    array = array.reshape([size if letter in where else 1 for letter, size in wanted])
    if all(letter not in where or size == 1 for letter, size in wanted if letter != "k"):
        return UserNoise(array.reshape(-1, 1), drop_axes)
    whole = np.broadcast_to(array, (array.shape[0], *(size for letter, size in wanted if letter != "k")))
    power = whole.reshape(array.shape[0], -1, order="F")
    return UserNoise(power, drop_axes)
