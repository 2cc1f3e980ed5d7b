"""Registry of the beam forecasters, under the names that tables and models use.

A forecaster is a function decorated with ``@register`` in a file of `simulator.beams.methods`, or the `Forecaster` of
an entry point in the group ``nflae.beams`` of another package. All take windows and give a score per beam; those
that learn have a function that computes their state, arrays by name, from training windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from simulator.beams.windows import Windows
from simulator.plugins import Registry

__all__ = ["REGISTRY", "Forecaster", "State", "forecaster", "forecaster_names", "register"]

State: TypeAlias = Mapping[str, npt.NDArray[Any]]
Scores: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Forecaster:
    """Describe a forecaster.

    Parameters
    ----------
    name
        Name in tables and models.
    scores
        Function of windows and the state; scores (windows, ahead, beams), larger for better beams, from the past alone.
    fit
        Function of the training windows and a seed that computes the state; None for a forecaster that does not learn.
    positions
        Whether it requires positions.
    """

    name: str
    scores: Callable[[Windows, State], Scores]
    fit: Callable[[Windows, int], State] | None = None
    positions: bool = False

    def state(self, train: Windows, seed: int) -> State:
        """Learn from training windows.

        Parameters
        ----------
        train
            Training windows.
        seed
            Seed of random weights.

        Returns
        -------
        State
            Arrays by name, empty for a forecaster that does not learn.
        """
        return {} if self.fit is None else self.fit(train, seed)


def _adopt(name: str, found: object) -> Forecaster:
    if not isinstance(found, Forecaster):
        raise TypeError(f"it is of type {type(found).__name__}, not a Forecaster")
    return found


REGISTRY: Registry[Forecaster] = Registry("simulator.beams.methods", "nflae.beams", "beam forecaster", _adopt)


def register(
    name: str, fit: Callable[[Windows, int], State] | None = None, positions: bool = False
) -> Callable[[Callable[[Windows, State], Scores]], Callable[[Windows, State], Scores]]:
    """Register the decorated function as a forecaster.

    Parameters
    ----------
    name
        Name, a literal.
    fit
        Function that computes the state.
    positions
        Whether the forecaster requires positions.

    Returns
    -------
    Callable
        Decorator that returns its function unchanged.
    """

    def enter(scores: Callable[[Windows, State], Scores]) -> Callable[[Windows, State], Scores]:
        REGISTRY.add(name, Forecaster(name, scores, fit, positions))
        return scores

    return enter


def forecaster(name: str) -> Forecaster:
    """Return a forecaster.

    Parameters
    ----------
    name
        Name, one of `forecaster_names`.

    Returns
    -------
    Forecaster

    Raises
    ------
    NflaeError
        If there is no such forecaster.
    """
    return REGISTRY.load(name)


def forecaster_names() -> list[str]:
    """Return the names of all forecasters, sorted."""
    return REGISTRY.names()
