"""Compare beam forecasters on held-out windows, and choose by validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nflae_bridge.beams.gru import GRU_FORECASTERS
from nflae_bridge.beams.network import NetworkSettings, network_forecaster
from simulator.beams.measures import Measured, hits, measure
from simulator.beams.registry import Forecaster, Scores, State, forecaster, forecaster_names
from simulator.beams.splits import folds
from simulator.beams.windows import Windows

__all__ = ["NETWORK", "Choice", "all_forecasters", "choose", "compare", "selected_scores"]

SELECTED, NETWORK = "selected", "network"
FOLDS = 3
_CERTAIN = 2.0  # standard errors


@dataclass(frozen=True)
class Choice:
    """Hold the forecasters that validation prefers.

    Parameters
    ----------
    default
        Names of the forecasters for folders without one of their own, one per sample ahead.
    by_folder
        Names of the forecasters that are better on single folders by more than two standard errors.
    validation
        Share of hits of the strongest beam on validation windows, mean over the samples ahead, by forecaster.
    """

    default: tuple[str, ...]
    by_folder: dict[int, str] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return the names of all chosen forecasters."""
        return sorted({*self.default, *self.by_folder.values()})


def all_forecasters(
    positions: bool, settings: NetworkSettings | None = None, missing: Sequence[str] = ()
) -> dict[str, Forecaster]:
    """Return the rivals of the registry and the networks.

    Parameters
    ----------
    positions
        Whether there are positions; without them, forecasters that require them are left out.
    settings
        Inputs and training of the network over several inputs; None: the default ones.
    missing
        Inputs that are absent when that network forecasts.

    Returns
    -------
    dict of str to Forecaster
        By name, the networks last.
    """
    rivals = {name: forecaster(name) for name in forecaster_names()}
    network = network_forecaster(NETWORK, settings or NetworkSettings(), missing)
    found = {**rivals, **GRU_FORECASTERS, NETWORK: network}
    return {name: each for name, each in found.items() if positions or not each.positions}


def compare(scores: Mapping[str, Scores], windows: Windows) -> dict[str, Measured]:
    """Measure forecasts of the same windows.

    Parameters
    ----------
    scores
        Scores by forecaster.
    windows
        The windows.

    Returns
    -------
    dict of str to Measured
    """
    return {name: measure(each, windows) for name, each in scores.items()}


def choose(
    train: Windows, kind: str, seed: int, forecasters: Mapping[str, Forecaster], advance: Callable[[int, str], None]
) -> Choice:
    """Choose forecasters by cross-validation over three folds of the training windows.

    For each sample ahead the best one is chosen, a network only if it is better than every rival. A folder has a
    forecaster of its own only if that is better than the default there by more than two standard errors over flights.

    Parameters
    ----------
    train
        Training windows.
    kind
        Kind of the split, see `simulator.beams.splits.folds`.
    seed
        Seed of split and weights.
    forecasters
        Candidates, the simplest first.
    advance
        Function of the number of forecasters done and a note.

    Returns
    -------
    Choice

    Raises
    ------
    NflaeError
        If there is only one flight.
    """
    fold = folds(train, kind, seed, FOLDS)
    share = {name: np.zeros((len(train), train.ahead)) for name in forecasters}
    done = 0
    for held in range(int(fold.max()) + 1):
        fitted, validation = train.part(fold != held), train.part(fold == held)
        for name, each in forecasters.items():
            scores = each.scores(validation, each.state(fitted, seed))
            share[name][fold == held] = hits(scores, validation.future)[0]
            done += 1
            advance(done, name)
    by_step = {name: values.mean(0) for name, values in share.items()}
    default = tuple(max(by_step, key=lambda name: by_step[name][step]) for step in range(train.ahead))
    chosen = np.stack([share[name][:, step] for step, name in enumerate(default)], 1)
    by_folder = {}
    for folder in np.unique(train.folder):
        here = train.folder == folder
        best = max(share, key=lambda name: share[name][here].mean())
        gain, deviation = _clustered((share[best] - chosen)[here].mean(-1), train.flight[here])
        if gain > _CERTAIN * deviation:
            by_folder[int(folder)] = best
    means = {name: float(values.mean()) for name, values in by_step.items()}
    return Choice(default, by_folder, means | {SELECTED: float(chosen.mean())})


def _clustered(values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean and its standard error for values that are alike within groups; infinite for one group."""
    distinct, index = np.unique(groups, return_inverse=True)
    if len(distinct) < 2:
        return float(values.mean()), np.inf
    sums = np.bincount(index, values - values.mean())
    return float(values.mean()), float(np.sqrt((sums**2).sum() * len(distinct) / (len(distinct) - 1)) / len(values))


def selected_scores(choice: Choice, windows: Windows, scores: Mapping[str, Scores]) -> Scores:
    """Return the scores of each folder's and sample's chosen forecaster.

    Parameters
    ----------
    choice
        The choice.
    windows
        The windows.
    scores
        Scores of these windows by forecaster.

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    out = np.stack([scores[name][:, step] for step, name in enumerate(choice.default)], 1).astype(np.float32)
    for folder, name in choice.by_folder.items():
        here = windows.folder == folder
        out[here] = scores[name][here]
    return out


def fit_all(
    train: Windows, seed: int, forecasters: Mapping[str, Forecaster], advance: Callable[[int, str], None]
) -> dict[str, State]:
    """Fit forecasters.

    Parameters
    ----------
    train
        Training windows.
    seed
        Seed of random weights.
    forecasters
        Forecasters by name.
    advance
        Function of the number of forecasters done and a note.

    Returns
    -------
    dict of str to State
        By name.
    """
    states = {}
    for number, (name, each) in enumerate(forecasters.items(), 1):
        states[name] = each.state(train, seed)
        advance(number, name)
    return states
