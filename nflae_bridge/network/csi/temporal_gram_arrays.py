"""Compute the coefficients of `nflae_bridge.network.csi.temporal_gram` for small batches, in NumPy.

The features of all problems pass the trunk in one batch. `tests/nflae_bridge/network/test_temporal_gram_arrays.py`
compares both forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from nflae_bridge.network.csi.temporal_features import LEAST_NOISE, periodogram_weights, waves
from simulator.csi.small_batch.arrays import Complex, Index, Problem, Real, diagonal, forward_backward
from simulator.csi.small_batch.rules import sums_of_windows

if TYPE_CHECKING:
    from nflae_bridge.network.csi.temporal_gram import TemporalGramNetwork

Run = Callable[[Real, Real], Real]


class TemporalGramArrays:
    """Compute coefficients from NumPy arrays.

    Parameters
    ----------
    network
        The network, on the CPU; its weights must not change.
    run
        `TemporalGramNetwork.outputs` for NumPy arrays; None: by PyTorch.
    """

    def __init__(self, network: TemporalGramNetwork, run: Run | None = None) -> None:
        self._compute = network.outputs
        self._run = self._by_torch if run is None else run
        self._config = network.config
        ends = np.cumsum([0, *network.parts]).tolist()
        self._parts = [slice(*ends[part : part + 2]) for part in range(len(network.parts))]

    def __call__(self, problems: Sequence[Problem]) -> list[Complex]:
        """Compute the coefficients of several problems of the same series.

        Parameters
        ----------
        problems
            Problems.

        Returns
        -------
        list of Complex
            complex128 (series, rows, history, ahead) each.
        """
        taken = [self._recent(problem) for problem in problems]
        spectra, features = zip(*(self._features(problem) for problem in taken), strict=True)
        found = []
        for problem, recent, spectrum, output in zip(problems, taken, spectra, self._outputs(features), strict=True):
            solved = self._solve(recent, spectrum, [output[:, part] for part in self._parts])
            full, history = problem.gram.shape[-1], recent.gram.shape[-1]
            padded = np.zeros((len(solved), full, problem.ahead), solved.dtype) if full > history else solved
            padded[:, full - history :] = solved
            found.append(padded.reshape(*problem.gram.shape[:3], problem.ahead))
        return found

    def _outputs(self, features: Sequence[Real]) -> list[Real]:
        """Return the network's outputs for each problem's features (series, rows, features), float64 (rows, outputs).

        Problems with the same number of rows share a batch.
        """
        found: dict[int, Iterator[Real]] = {}
        for rows in {each.shape[1] for each in features}:
            alike = [each for each in features if each.shape[1] == rows]
            batch = np.concatenate(alike)
            bias = np.zeros((len(batch), self._config.heads, rows, rows), np.float32)
            outputs = self._run(batch, bias).astype(np.float64)
            found[rows] = iter(outputs.reshape(len(alike), -1, outputs.shape[-1]))
        return [next(found[each.shape[1]]) for each in features]

    def _recent(self, problem: Problem) -> Problem:
        full = problem.gram.shape[-1]
        start = full - min(full, self._config.history)
        recent = forward_backward(problem.gram[..., start:, start:]) if start else problem.both_directions
        return Problem(
            recent.reshape(-1, full - start, full - start),
            np.maximum(problem.noise, LEAST_NOISE),
            problem.ahead,
        )

    def _features(self, problem: Problem) -> tuple[Real, Real]:
        """Return the logarithmic periodogram, (rows, bins), and all features, (series, rows, features)."""
        history, size, bins = problem.gram.shape[-1], self._config.history, self._config.bins
        noise = problem.noise.ravel()
        halves = np.zeros((len(noise), size, size))
        start = size - history
        upper, lower = _triangles(history)
        halves[:, start:, start:] = problem.gram.real * upper + problem.gram.imag * lower
        halves = halves.reshape(len(noise), -1)
        power = halves @ _periodogram_weights(bins, size) / history**2
        spectrum = np.log(np.maximum(power, 0) + noise[:, None] / history + 1e-4).astype(np.float32)
        features = np.empty((len(noise), size * size + bins + 3), np.float32)
        features[:, : size * size] = halves
        features[:, size * size : -3] = spectrum / 4
        features[:, -3] = np.log10(np.minimum(noise, 2))
        common = np.zeros(problem.noise.shape)
        common[:, 0] = 1
        features[:, -2] = common.ravel()
        features[:, -1] = history / size
        return spectrum, features.reshape(*problem.noise.shape, -1)

    def _by_torch(self, features: Real, bias: Real) -> Real:
        with torch.inference_mode():
            outputs: Real = self._compute(torch.from_numpy(features), torch.from_numpy(bias)).numpy()
        return outputs

    def _solve(self, problem: Problem, spectrum: Real, outputs: Sequence[Real]) -> Complex:
        """Solve the problems that the outputs define, (rows, history, ahead)."""
        history, ahead, noise = problem.gram.shape[-1], problem.ahead, problem.noise.ravel()
        logits = spectrum + 10 * outputs[0]
        weights = np.exp(logits - logits.max(1, keepdims=True))
        levels = np.exp(_clipped(outputs[5], 3, 3))
        power = np.maximum(1 - noise, 0.02) * levels[:, 0] / weights.sum(1)
        parts = weights @ _waves(self._config.bins, history + ahead)
        correlation = (parts[:, : history + ahead] + 1j * parts[:, history + ahead :]) * power[:, None]
        order = max(1, history * self._config.order // self._config.history)
        wiener, prior = _wiener(correlation, noise * levels[:, 1] + LEAST_NOISE, history, order)
        share = 1 / (1 + np.exp(-outputs[4][:, _horizons(ahead, self._config.horizons)]))[:, None]
        result = (1 - share) * wiener
        result[:, history - order :] += share * self._correct(problem.gram, prior, noise, outputs, ahead)
        return result

    def _correct(self, gram: Complex, prior: Complex, noise: Real, outputs: Sequence[Real], ahead: int) -> Complex:
        order, history = prior.shape[1], gram.shape[-1]
        direct = min(ahead, history - order)
        if direct < 1:
            return prior
        weights = np.exp(_clipped(outputs[2][:, : history - order], 6, 6))[:, ::-1]
        normal, cross = sums_of_windows(gram, order, direct, weights)
        taps = outputs[1][:, self._config.order - order :]
        levels = outputs[3][:, _horizons(direct, self._config.horizons)]
        ridge = np.exp(_clipped(taps[:, None] + levels[:, :, None], 8, 10)) * (noise[:, None, None] + 1e-5)
        diagonal(normal)[...] += ridge
        cross += ridge * prior[:, :, :direct].swapaxes(1, 2)
        corrected = np.linalg.solve(normal, cross[..., None])[..., 0].swapaxes(1, 2)
        return corrected if direct == ahead else np.concatenate([corrected, prior[:, :, direct:]], -1)


def _clipped(values: Real, below: float, above: float) -> Real:
    """Limit values to [-below, above], in less time than `numpy.clip`."""
    result: Real = np.minimum(np.maximum(values, -below), above)
    return result


@cache
def _periodogram_weights(bins: int, size: int) -> Real:
    result: Real = periodogram_weights(bins, size).numpy()
    return result


@cache
def _waves(bins: int, lags: int) -> Real:
    result: Real = waves(bins, lags).numpy()
    return result


@cache
def _triangles(size: int) -> tuple[Real, Real]:
    """Return the masks of the upper triangle with the diagonal, and of the strict lower one."""
    upper = np.triu(np.ones((size, size)))
    return upper, 1 - upper


@cache
def _horizons(ahead: int, known: int) -> Index:
    """Return the indices of horizons, the last repeated."""
    return np.minimum(np.arange(ahead), known - 1)


@cache
def _toeplitz_index(history: int, ahead: int) -> tuple[Index, Index]:
    """Return the places of `simulator.csi.prediction.temporal.toeplitz`'s matrix and target among their lags."""
    place = np.arange(history)
    return history - 1 - place[:, None] + place, 1 + place[:, None] + np.arange(ahead)


def _wiener(correlation: Complex, floor: Real, history: int, order: int) -> tuple[Complex, Complex]:
    """Return the Wiener coefficients of the last ``history`` and ``order`` snapshots, oldest first."""
    matrix_index, target_index = _toeplitz_index(history, correlation.shape[1] - history)
    lags = np.concatenate([correlation[:, history - 1 :: -1], correlation[:, 1:history].conj()], 1)
    matrix, target = lags[:, matrix_index], correlation[:, target_index]
    diagonal(matrix)[...] += floor[:, None]
    longer, shorter = (np.linalg.solve(matrix[:, :size, :size], target[:, :size])[:, ::-1] for size in (history, order))
    return longer, shorter
