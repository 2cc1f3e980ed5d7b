"""Hand the last answer from the thread that sent it to that of the live view."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """Hold the last answer; the arrays are those of the program, not copies, unless another program can change them.

    Parameters
    ----------
    channels : numpy.ndarray
        Channels as received, complex, (drops, users, antennas), or with an axis of receive antennas after the users.
    arrays : mapping of str to numpy.ndarray
        Arrays of the answer by their names on the wire, drops first.
    noise_power : float
        Noise power, W.
    direct : bool
        The channels are conj(h_k).
    info : dict
        Further quantities by name, for the heading.
    """

    channels: npt.NDArray[Any]
    arrays: Arrays
    noise_power: float
    direct: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    def last_drop(self) -> Sample:
        """Return the last drop alone, as a copy."""
        arrays = {name: np.array(values[-1:]) for name, values in self.arrays.items() if np.ndim(values)}
        return Sample(np.array(self.channels[-1:]), arrays, self.noise_power, self.direct, self.info)


class Sampler:
    """Keep the last answer while a page is open; `offer` belongs to the program, all else to the live view."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=1)
        self._pages = 0
        self._changed = threading.Condition()

    @property
    def is_open(self) -> bool:
        """True while a page is open; answers need not be offered otherwise."""
        return self._pages > 0

    def offer(self, sample: Sample) -> None:
        """Replace the last answer.

        Parameters
        ----------
        sample : Sample
            Answer.
        """
        self._samples.append(sample)

    def take(self) -> Sample | None:
        """Return the last drop of the last answer, None where there is none since the last call."""
        try:
            sample = self._samples.pop()
        except IndexError:
            return None
        return sample.last_drop()

    @contextmanager
    def page(self) -> Iterator[None]:
        """Count a page as open."""
        with self._changed:
            self._pages += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._pages -= 1
                if not self._pages:
                    self._samples.clear()

    def wait_until_open(self) -> None:
        """Wait until a page is open."""
        with self._changed:
            self._changed.wait_for(lambda: self._pages > 0)
