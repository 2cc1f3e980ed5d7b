"""One drop at a time on the CPU, in NumPy: the engine's answer where no constraint binds, without PyTorch's overhead.

For a single drop of ten users the arithmetic takes 60 us and PyTorch's dispatch of it some 2 ms; that of NumPy and ONNX
Runtime takes a tenth. What is computed is what `engine.Engine` computes for a batch, and the tests hold the two
together; constraints, and encoders and trunks other than the shipped ones, are left to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from nflae_bridge.compiled import CompiledNetwork
from nflae_bridge.one_drop_features import Look, Real, features
from nflae_bridge.side_by_side import ALIKE, ALIKE_POWER, ALIKE_STEPS, COHERENCE
from simulator.link import COHERENT, IN_RANGE, LOUD

Complex = npt.NDArray[np.complexfloating[Any, Any]]

_ROUNDING = 8 * np.finfo(np.float64).eps
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Drop:
    """A drop, and what the users' inner products are.

    channels: complex64 (users, antennas), or complex128 and multiplied by sqrt(P / sigma^2) where sums over antennas
    have to be in double precision, as in `simulator.link.quick_gram`. gram: Gamma, complex128, own: its diagonal, and
    coherence: |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 0 from a user to itself; float64.
    """

    channels: Complex
    gram: Complex
    own: Real
    coherence: Real

    @staticmethod
    def of(channels: npt.NDArray[np.complex64], snr: float) -> Drop:
        """channels: (users, antennas). snr: P / sigma^2, linear."""
        users, antennas = channels.shape
        if antennas >= 2 * users:
            rough = np.vecdot(channels[:, None], channels[None]).astype(np.complex128)
            energy = rough.diagonal().real
            least, most = np.minimum.reduce(energy), np.maximum.reduce(energy)
            if least > IN_RANGE and most < min(1 / IN_RANGE, LOUD / snr):
                drop = Drop._with_gram(channels, rough * snr)
                if np.maximum.reduce(drop.coherence, None) <= COHERENT:
                    return drop
        scaled = channels * np.complex128(math.sqrt(snr))
        return Drop._with_gram(scaled, scaled.conj() @ scaled.T)

    @staticmethod
    def _with_gram(channels: Complex, gram: Complex) -> Drop:
        own = np.maximum(gram.diagonal().real, 1e-30)
        parts = gram.view(np.float64)
        squares = parts * parts
        coherence = np.minimum((squares[:, ::2] + squares[:, 1::2]) / np.multiply.outer(own, own), 1.0)
        coherence.flat[:: len(own) + 1] = 0
        return Drop(channels, gram, own, coherence)


@dataclass(frozen=True)
class Solution:
    """Beams and powers of a drop; as in `simulator.precoding.Candidate`, without the axis of drops."""

    coefficients: Complex
    shares: Real
    uplink_shares: Real
    sinr: Real

    @property
    def sum_rate(self) -> float:
        """Sum of log2(1 + SINR), bps/Hz."""
        return float(np.add.reduce(np.log2(1 + self.sinr)))

    def precoder(self, channels: Complex) -> npt.NDArray[np.complex64]:
        """W = H C with unit-norm columns, complex64 (users, antennas), in the precision of `Drop.channels`."""
        coefficients = self.coefficients
        if channels.dtype == np.complex64:
            coefficients = coefficients.astype(np.complex64)
        else:  # where gains are so large that what nulls them may leave the range
            coefficients = coefficients / np.maximum(np.maximum.reduce(np.abs(coefficients), 0), _TINY)
        beams = coefficients.T @ channels
        parts = beams.view(beams.real.dtype)
        parts /= np.maximum(np.sqrt(np.vecdot(parts, parts)), np.finfo(parts.dtype).tiny)[:, None]
        result: npt.NDArray[np.complex64] = beams.astype(np.complex64, copy=False)
        return result


def solve(network: CompiledNetwork, drop: Drop, refinements: int, negligible: float) -> tuple[Solution, bool]:
    """The best of the network's answer, the same less doubled users, and RZF's; and whether it is RZF's.

    refinements: WMMSE steps from the network's answer. negligible: by how much the answer with doubled users may be
    better and still be passed over.
    """
    gram, users = drop.gram, len(drop.own)
    equal = np.full(users, 1 / users)
    inverse, couplings, _ = _beams(gram, equal)
    textbook = Solution(inverse, equal, equal, _sinr(couplings, equal))
    rate = np.log2(1 + textbook.sinr)
    found = network.shares(*features(Look(drop.own, drop.coherence, inverse, couplings, rate)))
    uplink, shares = found[0, :, 0], found[0, :, 1]
    best = _refined(gram, uplink, shares, refinements)
    ours = best.sum_rate
    doubled = _redundant_users(drop, shares)
    if doubled is not None:
        alone = _refined(gram, _normalised(uplink * ~doubled), _normalised(shares * ~doubled), refinements)
        theirs = alone.sum_rate
        if not theirs <= ours * (1 - negligible):
            best, ours = alone, theirs
    fallback = not ours < math.inf or float(np.add.reduce(rate)) > ours * (1 + 1e-9)
    return (textbook if fallback else best), fallback


def _beams(gram: Complex, uplink_shares: Real) -> tuple[Complex, Real, Real]:
    """C = (I + diag(mu) Gamma)^-1, F and the beams' energies; see `simulator.structure.structured_beams`."""
    count = len(gram)
    system = uplink_shares[:, None] * gram
    system.flat[:: count + 1] += 1
    # Row by row in memory is the transpose to LAPACK, and so is what it returns.
    factors, pivots, _ = lapack.zgetrf(system.T, overwrite_a=True)
    coefficients: Complex = lapack.zgetri(factors, pivots, overwrite_lu=True)[0].T
    seen = gram @ coefficients
    own = gram.diagonal().real
    ours, theirs = coefficients.view(np.float64), seen.view(np.float64)
    energy = np.add.reduce(ours * theirs, 0)
    energy = energy[::2] + energy[1::2]
    rounding = own @ (ours * ours)
    least = np.maximum(np.maximum(energy, _ROUNDING * (rounding[::2] + rounding[1::2])), _TINY)
    squares = theirs * theirs
    return coefficients, np.minimum((squares[:, ::2] + squares[:, 1::2]) / least, own[:, None]), energy


def _sinr(couplings: Real, shares: Real) -> Real:
    received = couplings * shares
    signal = received.diagonal().copy()
    received.flat[:: len(shares) + 1] = 0  # the sum without the signal, not the sum minus it
    result: Real = signal / (1 + np.add.reduce(received, 1))
    return result


def _refined(gram: Complex, uplink: Real, shares: Real, refinements: int) -> Solution:
    """The shares after WMMSE steps; see `simulator.structure.wmmse_step`."""
    coefficients, couplings, _ = _beams(gram, uplink)
    for _ in range(refinements):
        weight = 1 + _sinr(couplings, shares)
        received = 1 + (couplings * shares).sum(-1)
        receiver = couplings.diagonal() * shares / received**2
        uplink = _normalised(weight * receiver)
        coefficients, couplings, energy = _beams(gram, uplink)
        shares = _normalised(weight * weight * receiver * energy)
    return Solution(coefficients, shares, uplink, _sinr(couplings, shares))


def _normalised(shares: Real) -> Real:
    result: Real = shares / max(np.add.reduce(shares), _TINY)
    return result


def _redundant_users(drop: Drop, shares: Real) -> npt.NDArray[np.bool_] | None:
    """`side_by_side.redundant_users` of one drop in which nobody counts as near-field; None: nobody is redundant."""
    parallel = drop.coherence > COHERENCE
    if not np.logical_or.reduce(parallel, None):
        return None
    first = np.zeros_like(parallel)
    for value, alike in ((np.log(np.maximum(shares, 1e-30)), ALIKE_POWER), (np.log(drop.own), ALIKE)):
        difference = np.subtract.outer(value, value)
        first |= parallel & (difference > alike)
        parallel &= np.abs(difference) <= alike
    if np.logical_or.reduce(parallel, None):
        steps = np.angle(np.vecdot(drop.channels[:, :-1], drop.channels[:, 1:]))
        difference = np.subtract.outer(steps, steps)
        index = np.arange(len(steps))
        alike_steps = np.abs(difference) <= ALIKE_STEPS
        first |= parallel & np.where(alike_steps, index[:, None] < index, difference > 0)
    result: npt.NDArray[np.bool_] = np.logical_or.reduce(first, 0)
    return result
