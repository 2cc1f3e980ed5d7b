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


@dataclass(frozen=True)
class _Axis:
    """Axis of users (`place` 0), or of drops: `place` 1, 2, ... in MATLAB's order."""

    place: int
    size: int


def fit_user_noise(file: ChannelFile, numbers: npt.NDArray[np.float64]) -> UserNoise | str:
    """Match the axes of an array of noise powers with the users and drops of a file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    numbers : numpy.ndarray
        Noise powers, W, in the order of axes in which the file stores its arrays.

    Returns
    -------
    UserNoise or str
        Noise powers, or why they fit no reading, or more than one.
    """
    found: dict[bytes, UserNoise] = {}
    for order in _orders(file):
        noise = _read_as(numbers, order, file)
        if noise is not None:
            found.setdefault(noise.power.tobytes() + bytes(str(noise.power.shape), "ascii"), noise)
    shape = shape_text(matlab_shape(numbers.shape))
    if not found:
        drops = math.prod(file.drop_axes)
        each = " (every receive antenna is a user, user by user)" if file.receive_mode == "each" else ""
        return (
            f"is {shape}, which fits neither users nor drops; save {file.users} numbers, one per user{each}, or"
            f" {drops}, one per drop, or both, or one number"
        )
    if len(found) > 1:
        return f"is {shape}, which may count users or drops; save it with an entry per user and drop"
    return next(iter(found.values()))


def _orders(file: ChannelFile) -> list[list[_Axis]]:
    """Return the orders in which axes may come: that of the file, that of results, and parts of the former."""
    drops = [_Axis(place, size) for place, size in enumerate(file.drop_axes, start=1)]
    drops = drops[::-1] if file.row_major else drops
    users, rest = _Axis(0, file.users), iter(drops)
    axes = [users if letter == "k" else next(rest) for letter in file.layout if letter in "ksf"]
    results = [*drops, users] if file.row_major else [users, *drops]
    axes = axes if users in axes else results
    singles = [[axis] for axis in axes if axis.size > 1]
    pairs = [list(pair) for pair in itertools.combinations(axes, 2) if all(axis.size > 1 for axis in pair)]
    return [axes, results, *singles, *pairs]


def _read_as(numbers: npt.NDArray[np.float64], order: list[_Axis], file: ChannelFile) -> UserNoise | None:
    """Return the noise powers if the axes of `numbers` are `order`; None if they cannot be."""
    sizes = tuple(axis.size for axis in order)
    is_vector = len(order) == 1 and max(numbers.shape) == numbers.size == sizes[0]
    if not is_vector and (len(order) == 1 or matlab_shape(sizes) != matlab_shape(numbers.shape)):
        return None
    places = [axis.place for axis in order]
    array = numbers.reshape(sizes).transpose(sorted(range(len(order)), key=places.__getitem__))
    whole = (file.users, *file.drop_axes)
    array = array.reshape([size if place in places else 1 for place, size in enumerate(whole)])
    if all(size == 1 for size in array.shape[1:]):
        return UserNoise(array.reshape(-1, 1), file.drop_axes)
    array = np.broadcast_to(array, (array.shape[0], *file.drop_axes))
    return UserNoise(array.reshape(array.shape[0], -1, order="F"), file.drop_axes)
