"""The near/far classifier as an ONNX graph, which ONNX Runtime computes on a CPU: for one drop in a sixth of the time.

What is computed is `network.wavefront`'s logit, step by step, in real numbers; the tests hold the two together.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge.engine.onnx_graph import CONTRIBUTED, Graph, Single
from nflae_bridge.network.encoders.wavefront import (
    CURVATURES,
    LONG_SUBARRAY,
    OVERSAMPLING,
    SLOPES,
    SUBARRAYS,
    WavefrontClassifier,
    chirps,
    fourier,
)

Pair = tuple[str, str]  # real and imaginary parts, (users, ...) each

_USERS_AT_ONCE = 320  # what comes of them stays in a processor's cache
_CPU = torch.device("cpu")
_LEAST = np.array([1e-30], np.float32)


class CompiledClassifier:
    """A `WavefrontClassifier`, compiled for each number of antennas that comes. Threads may share it."""

    most_antennas = SUBARRAYS * LONG_SUBARRAY  # above them Fourier transforms are quicker than products

    def __init__(self, classifier: WavefrontClassifier) -> None:
        self._classifier = classifier
        self._compiled: dict[int, Callable[[dict[str, npt.NDArray[Any]]], Single]] = {}
        self._mine = threading.Lock()

    def __call__(self, channels: npt.NDArray[np.complex64]) -> Single:
        """Near-field logits, float32 (...), of channels, complex64 (..., antennas), contiguous in memory."""
        antennas = channels.shape[-1]
        if not channels.size:
            return np.empty(channels.shape[:-1], np.float32)
        with self._mine:
            if antennas not in self._compiled:
                graph = Graph({"channels": ["users", 2 * antennas]})
                self._compiled[antennas] = graph.session(_logit(graph, self._classifier, antennas), ["users"])
            logit = self._compiled[antennas]
        users = channels.reshape(-1, antennas).view(np.float32)
        parts = [
            logit({"channels": users[start : start + _USERS_AT_ONCE]}) for start in range(0, len(users), _USERS_AT_ONCE)
        ]
        return np.concatenate(parts).reshape(channels.shape[:-1])


def _logit(graph: Graph, classifier: WavefrontClassifier, antennas: int) -> str:
    """The logit, (users,), from the graph's input."""
    outputs, energies = _subarray_beams(graph, antennas)
    bent = _Curvature(graph)
    flat, bends, mean_bend = bent.flattened(outputs)
    products = graph.node("MatMul", graph.node("Concat", *flat, axis=1), chirps(_CPU).numpy())
    squares = graph.node("Mul", products, products)
    squares = graph.node("ReduceSum", _shaped(graph, squares, -1, 2, 2 * CURVATURES * SLOPES), _axes(1), keepdims=0)
    best = graph.node("ReduceMax", _shaped(graph, squares, -1, 2 * CURVATURES, SLOPES), _axes(2), keepdims=0)
    match = graph.node("Sqrt", graph.node("Max", best, _LEAST))
    bound = np.float32(3)
    mean = [graph.node("Clip", part, np.array(-bound), np.array(bound)) for part in mean_bend]
    features = graph.node("Concat", *flat, bent.magnitude(flat), *bends, energies, *mean, match, axis=1)

    widen, middle, narrow = (classifier.layers[at] for at in (0, 2, 4))
    hidden = graph.node("MatMul", features, _both_readings(_weight(widen)))
    hidden = graph.node("BiasGelu", hidden, np.tile(_bias(widen), 2), domain=CONTRIBUTED)
    hidden = graph.node("MatMul", _shaped(graph, hidden, -1, len(_weight(middle))), _weight(middle))
    hidden = graph.node("BiasGelu", hidden, _bias(middle), domain=CONTRIBUTED)
    readings = _shaped(graph, graph.node("MatMul", hidden, _weight(narrow)), -1, 2)
    return graph.node("Add", graph.node("ReduceMax", readings, _axes(1), keepdims=0), _bias(narrow))


def _subarray_beams(graph: Graph, antennas: int) -> tuple[Pair, str]:
    """As `wavefront.subarray_beams`: outputs, (users, SUBARRAYS) each, and energies, (users, 3)."""
    length = math.ceil(antennas / SUBARRAYS)
    beams = OVERSAMPLING * length
    norm = graph.node("Max", graph.node("ReduceL2", "channels", _axes(1), keepdims=1), _LEAST)
    unit = graph.node("Div", "channels", norm)
    if length * SUBARRAYS > antennas:
        unit = graph.node("Pad", unit, _axes(0, 0, 0, 2 * (length * SUBARRAYS - antennas)))
    seen = graph.node("MatMul", _shaped(graph, unit, -1, 2 * length), fourier(length, _CPU).numpy())
    seen = _shaped(graph, seen, -1, SUBARRAYS, 2 * beams)
    squares = graph.node("ReduceSum", graph.node("Mul", seen, seen), _axes(1), keepdims=0)
    energy = graph.node("ReduceSum", _shaped(graph, squares, -1, 2, beams), _axes(1), keepdims=0)
    best = graph.node("ArgMax", energy, axis=1, keepdims=1)
    shifts = np.array([0, beams - OVERSAMPLING, OVERSAMPLING])
    around = graph.node("Mod", graph.node("Add", best, shifts), _axes(beams))
    energies = graph.node("GatherElements", energy, around, axis=1)
    parts = graph.node("Unsqueeze", graph.node("Add", best, np.array([0, beams])), _axes(1))
    outputs = graph.node("GatherElements", seen, graph.node("Expand", parts, _axes(1, SUBARRAYS, 1)), axis=2)
    norm = graph.node("Max", graph.node("ReduceL2", outputs, _axes(1, 2), keepdims=1), _LEAST)
    real, imaginary = graph.nodes("Split", graph.node("Div", outputs, norm), outputs=2, axis=2, num_outputs=2)
    return (_shaped(graph, real, -1, SUBARRAYS), _shaped(graph, imaginary, -1, SUBARRAYS)), energies


class _Curvature:
    """The steps of `wavefront.curvature_features` that work on complex numbers, as pairs of real ones."""

    def __init__(self, graph: Graph) -> None:
        self.node = graph.node

    def flattened(self, outputs: Pair) -> tuple[Pair, Pair, Pair]:
        """The outputs without mean phase and slope, the unit second differences of their phase, and their mean."""
        step = self.unit(self.total(self.steps(outputs, SUBARRAYS)))
        flat = self.product(outputs, self.powers(step), conjugate=True)
        flat = self.product(flat, self.unit(self.total(flat)), conjugate=True)
        bends = self.steps(self.steps(flat, SUBARRAYS), SUBARRAYS - 1)
        real, imaginary = (self.node("Mul", part, np.array([SUBARRAYS], np.float32)) for part in self.total(bends))
        return flat, self.unit(bends, least=1e-12), (real, imaginary)

    def product(self, left: Pair, right: Pair, conjugate: bool = False) -> Pair:
        """left times right, or times right's conjugate."""
        both, crossed = self.node("Mul", left[0], right[0]), self.node("Mul", left[1], right[1])
        inner, outer = self.node("Mul", left[1], right[0]), self.node("Mul", left[0], right[1])
        signs = ("Add", "Sub") if conjugate else ("Sub", "Add")
        return self.node(signs[0], both, crossed), self.node(signs[1], inner, outer)

    def steps(self, values: Pair, count: int) -> Pair:
        """values[1:] times the conjugate of values[:-1], of ``count`` values."""
        later, sooner = (self.part(values, *ends) for ends in ((1, count), (0, count - 1)))
        return self.product(later, sooner, conjugate=True)

    def part(self, values: Pair, start: int, stop: int) -> Pair:
        """values[start:stop]."""
        real, imaginary = (self.node("Slice", value, _axes(start), _axes(stop), _axes(1)) for value in values)
        return real, imaginary

    def total(self, values: Pair) -> Pair:
        """Their sum, (users, 1)."""
        real, imaginary = (self.node("ReduceSum", value, _axes(1), keepdims=1) for value in values)
        return real, imaginary

    def magnitude(self, values: Pair) -> str:
        """Their magnitudes."""
        squares = [self.node("Mul", value, value) for value in values]
        return self.node("Sqrt", self.node("Add", *squares))

    def unit(self, values: Pair, least: float = 1e-30) -> Pair:
        """Over their magnitudes, or over ``least`` where these are smaller."""
        norm = self.node("Max", self.magnitude(values), np.array([least], np.float32))
        return self.node("Div", values[0], norm), self.node("Div", values[1], norm)

    def powers(self, unit: Pair) -> Pair:
        """unit^0 ... unit^(SUBARRAYS - 1). By doubling: z^0 ... z^(2m-1) are z^0 ... z^(m-1) and z^m times them."""
        nothing = self.node("Mul", unit[1], np.zeros(1, np.float32))
        one = self.node("Add", nothing, np.ones(1, np.float32))
        powers, highest = (one, nothing), unit
        for _ in range(SUBARRAYS.bit_length() - 1):
            later = self.product(powers, highest)
            powers = self.node("Concat", powers[0], later[0], axis=1), self.node("Concat", powers[1], later[1], axis=1)
            highest = self.product(highest, highest)
        return powers


def _both_readings(weight: Single) -> Single:
    """The first layer for the channels as they are and, beside it, for their conjugates.

    weight: (FEATURES, width), in the order of `wavefront.curvature_features`. Returns (rows, 2 width), whose rows are
    what both readings share, then the matches of the one and those of the other; scales are multiplied in.
    """
    sizes = [SUBARRAYS] * 3 + [SUBARRAYS - 2] * 2 + [3, CURVATURES, CURVATURES, 1, 1]
    parts = np.split(weight, np.cumsum(sizes)[:-1])
    real, imaginary, magnitude, bend, bend_turn, energies, match, over_plane, mean, mean_turn = parts
    match = match + over_plane
    match[0] -= over_plane.sum(0)  # of match - match[0]
    nothing = np.zeros_like(match)
    given = [4 * real, 4 * imaginary, 4 * magnitude, bend, bend_turn, energies, mean, mean_turn, match, nothing]
    swapped = energies[[0, 2, 1]]
    turned = [4 * real, -4 * imaginary, 4 * magnitude, bend, -bend_turn, swapped, mean, -mean_turn, nothing, match]
    return np.concatenate([np.concatenate(given), np.concatenate(turned)], 1)


def _axes(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers)


def _shaped(graph: Graph, values: str, *shape: int) -> str:
    return graph.node("Reshape", values, _axes(*shape))


def _weight(layer: Any) -> Single:
    weight: Single = layer.weight.detach().float().cpu().numpy().T
    return weight


def _bias(layer: Any) -> Single:
    bias: Single = layer.bias.detach().float().cpu().numpy()
    return bias
