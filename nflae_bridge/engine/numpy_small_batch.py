"""Few drops on the CPU, in NumPy: the engine's answer where no constraint binds, without PyTorch's overhead.

For a single drop of ten users the arithmetic takes 60 us and PyTorch's dispatch of it some 2 ms; that of NumPy and ONNX
Runtime takes a tenth. What is computed is what `engine.Engine` computes for many drops, and the tests hold the two
together; constraints, and encoders and trunks other than the shipped ones, are left to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from nflae_bridge.engine.near_parallel import ALIKE, ALIKE_POWER, ALIKE_STEPS, COHERENCE
from nflae_bridge.engine.numpy_features import FeatureInputs, Real, diagonal, features
from nflae_bridge.engine.onnx_network import CompiledNetwork
from simulator.downlink.gram import MAX_FP32_COHERENCE, MAX_FP32_SNR, MIN_FP32_ENERGY

Complex = npt.NDArray[np.complexfloating[Any, Any]]
Bool = npt.NDArray[np.bool_]

_ROUNDING = 8 * np.finfo(np.float64).eps
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Drops:
    """Drops, and what their users' inner products are.

    channels: complex64 (drops, users, antennas). gram: Gamma, complex128, own: its diagonal, and coherence:
    |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 0 from a user to itself; float64. careful: bool (drops,), where sums over
    antennas have to be in double precision, as `simulator.downlink.gram.mixed_precision_gram` says; None: nowhere.
    """

    channels: npt.NDArray[np.complex64]
    gram: Complex
    own: Real
    coherence: Real
    needs_float64: Bool | None

    @staticmethod
    def of(channels: npt.NDArray[np.complex64], snr: float | Real) -> Drops:
        """channels: (drops, users, antennas). snr: P / sigma^2, linear, a number or float64 (drops or 1, 1)."""
        drops, users, antennas = channels.shape
        factor = np.asarray(snr).reshape(-1, 1, 1)
        if antennas < 2 * users:
            gram = _exact_gram(channels, factor)
            return Drops(channels, gram, *_coherence(gram), np.ones(drops, np.bool_))
        with np.errstate(over="ignore", invalid="ignore"):  # what single precision can't hold comes out of range
            rough = np.vecdot(channels[:, :, None], channels[:, None]).astype(np.complex128)
            energy = diagonal(rough).real
            gram = rough * factor
            own, coherence = _coherence(gram)
            quick = np.minimum.reduce(energy, 1) > MIN_FP32_ENERGY
            quick &= np.maximum.reduce(energy, 1) < np.minimum(MAX_FP32_SNR / factor[:, 0, 0], 1 / MIN_FP32_ENERGY)
            quick &= np.maximum.reduce(coherence.reshape(drops, -1), 1) <= MAX_FP32_COHERENCE
        if np.logical_and.reduce(quick):
            return Drops(channels, gram, own, coherence, None)
        needs_float64 = ~quick
        gram[needs_float64] = _exact_gram(
            channels[needs_float64], np.broadcast_to(factor, (drops, 1, 1))[needs_float64]
        )
        return Drops(channels, gram, *_coherence(gram), needs_float64)


@dataclass(frozen=True)
class Solution:
    """Beams and powers of some drops; as in `simulator.downlink.candidates.Candidate`."""

    coefficients: Complex
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real

    @property
    def sum_rate(self) -> Real:
        """Sum of log2(1 + SINR), bps/Hz, (drops,)."""
        result: Real = np.add.reduce(np.log2(1 + self.sinr), 1)
        return result

    def put(self, places: npt.NDArray[np.intp] | Bool, other: Solution, chosen: Bool) -> None:
        """In places of these drops, the chosen ones of another's."""
        for field in fields(self):
            getattr(self, field.name)[places] = getattr(other, field.name)[chosen]

    def precoder(self, drops: Drops) -> npt.NDArray[np.complex64]:
        """W = H C with unit-norm columns, complex64 (drops, users, antennas)."""
        needs_float64 = drops.needs_float64
        if needs_float64 is None:
            return _unit_beams(self.coefficients.astype(np.complex64), drops.channels)
        beams = np.empty_like(drops.channels)
        beams[~needs_float64] = _unit_beams(
            self.coefficients[~needs_float64].astype(np.complex64), drops.channels[~needs_float64]
        )
        # Gains may be so large that what nulls them leaves the range.
        exact = self.coefficients[needs_float64]
        exact /= np.maximum(np.abs(exact).max(1, keepdims=True), _TINY)
        beams[needs_float64] = _unit_beams(exact, drops.channels[needs_float64].astype(np.complex128))
        return beams


def solve(network: CompiledNetwork, drops: Drops, refinements: int, negligible: float) -> tuple[Solution, Bool]:
    """The best of the network's answer, the same less doubled users, and RZF's; and where it is RZF's.

    refinements: WMMSE steps from the network's answer. negligible: by how much the answer with doubled users may be
    better and still be passed over.
    """
    gram = drops.gram
    equal = np.full(drops.own.shape, 1 / drops.own.shape[1])
    inverse, effective_gains, _ = _beams(gram, drops.own, equal)
    rzf = Solution(inverse, equal, equal, _sinr(effective_gains, equal))
    rate = np.log2(1 + rzf.sinr)
    found = network.power_fractions(
        *features(FeatureInputs(drops.own, drops.coherence, inverse, effective_gains, rate))
    )
    uplink, power_fractions = found[..., 0], found[..., 1]
    redundant = _redundant_users(drops, power_fractions)
    tried = None
    if redundant is not None:
        given = np.add.reduce((uplink + power_fractions) * redundant, 1) * np.maximum(
            np.maximum.reduce(drops.own, 1), 1
        )
        matters = given > negligible  # elsewhere the network has switched them off itself: one try without them will do
        kept = ~redundant
        if np.logical_or.reduce(matters):
            tried = slice(None) if np.logical_and.reduce(matters) else np.flatnonzero(matters)
            less_uplink, pruned_power_fractions = (
                _normalised((uplink * kept)[tried]),
                _normalised((power_fractions * kept)[tried]),
            )
            kept |= matters[:, None]
        uplink, power_fractions = _normalised(uplink * kept), _normalised(power_fractions * kept)
    best = _refined(gram, drops.own, uplink, power_fractions, refinements)
    ours = best.sum_rate
    if tried is not None:
        other = _refined(gram[tried], drops.own[tried], less_uplink, pruned_power_fractions, refinements)
        theirs = other.sum_rate
        better = ~(theirs <= ours[tried] * (1 - negligible))
        places = np.flatnonzero(matters)[better]
        best.put(places, other, better)
        ours[places] = theirs[better]
    fallback = ~(ours < math.inf) | (np.add.reduce(rate, 1) > ours * (1 + 1e-9))
    if np.logical_or.reduce(fallback):
        best.put(fallback, rzf, fallback)
    return best, fallback


def _exact_gram(channels: npt.NDArray[np.complex64], factor: Real) -> Complex:
    scaled = channels * np.sqrt(factor).astype(np.complex128)
    result: Complex = scaled.conj() @ scaled.transpose(0, 2, 1)
    return result


def _coherence(gram: Complex) -> tuple[Real, Real]:
    """Gamma's diagonal, and the coherences, of users among whom nobody is his own neighbour."""
    own = np.maximum(diagonal(gram).real, 1e-30)
    coherence = np.minimum(_squares(gram) / (own[:, :, None] * own[:, None]), 1.0)
    diagonal(coherence)[:] = 0
    return own, coherence


def _squares(values: Complex) -> Real:
    """|z|^2, in half the time that the parts' squares take."""
    result: Real = (values * values.conj()).real
    return result


def _beams(gram: Complex, own: Real, dual_power_fractions: Real) -> tuple[Complex, Real, Real]:
    """C = (I + diag(mu) Gamma)^-1, F and the beams' energies; see `simulator.downlink.structure.structured_beams`."""
    system = dual_power_fractions[:, :, None] * gram
    diagonal(system)[:] += 1
    coefficients = _inverse(system)
    seen = gram @ coefficients
    energy: Real = np.vecdot(coefficients, seen, axis=1).real  # type: ignore[call-overload]  # its axis isn't known
    rounding = _ROUNDING * np.vecmat(own, _squares(coefficients))
    least = np.maximum(np.maximum(energy, rounding), _TINY)
    return coefficients, np.minimum(_squares(seen) / least[:, None], own[:, :, None]), energy


def _inverse(system: Complex) -> Complex:
    if len(system) > 1:
        try:
            result: Complex = np.linalg.inv(system)
            return result
        except np.linalg.LinAlgError:  # users alike at 160 dB: 1 is lost beside their gains
            return np.concatenate([_inverse(one[None]) for one in system])
    # One matrix by LAPACK itself, in half the time. Rows in memory are columns to it, in what it returns too.
    factors, pivots, _ = lapack.zgetrf(system[0].T, overwrite_a=True)
    alone: Complex = lapack.zgetri(factors, pivots, overwrite_lu=True)[0].T
    return alone[None]


def _sinr(effective_gains: Real, power_fractions: Real) -> Real:
    received = effective_gains * power_fractions[:, None]
    signal = diagonal(received).copy()
    diagonal(received)[:] = 0  # the sum without the signal, not the sum minus it
    result: Real = signal / (1 + np.add.reduce(received, 2))
    return result


def _refined(gram: Complex, own: Real, uplink: Real, power_fractions: Real, refinements: int) -> Solution:
    """The shares after WMMSE steps; see `simulator.downlink.structure.wmmse_step`."""
    coefficients, effective_gains, _ = _beams(gram, own, uplink)
    for _ in range(refinements):
        weight = 1 + _sinr(effective_gains, power_fractions)
        received = 1 + (effective_gains * power_fractions[:, None]).sum(2)
        receiver = diagonal(effective_gains) * power_fractions / received**2
        uplink = _normalised(weight * receiver)
        coefficients, effective_gains, energy = _beams(gram, own, uplink)
        power_fractions = _normalised(weight * weight * receiver * energy)
    return Solution(coefficients, power_fractions, uplink, _sinr(effective_gains, power_fractions))


def _normalised(power_fractions: Real) -> Real:
    result: Real = power_fractions / np.maximum(np.add.reduce(power_fractions, 1, keepdims=True), _TINY)
    return result


def _redundant_users(drops: Drops, power_fractions: Real) -> Bool | None:
    """`side_by_side.redundant_users`, bool (drops, users), where nobody counts as near-field; None: nobody anywhere."""
    parallel = drops.coherence > COHERENCE
    if not np.logical_or.reduce(parallel.reshape(-1)):
        return None
    first = np.zeros_like(parallel)
    for value, alike in ((np.log(np.maximum(power_fractions, 1e-30)), ALIKE_POWER), (np.log(drops.own), ALIKE)):
        difference = value[:, :, None] - value[:, None]
        first |= parallel & (difference > alike)
        parallel &= np.abs(difference) <= alike
    tied = np.flatnonzero(np.logical_or.reduce(parallel.reshape(len(parallel), -1), 1))
    if len(tied):
        channels = drops.channels[tied].astype(np.complex128)
        steps = np.angle(np.vecdot(channels[..., :-1], channels[..., 1:]))
        difference = steps[:, :, None] - steps[:, None]
        index = np.arange(steps.shape[1])
        ahead = np.where(np.abs(difference) <= ALIKE_STEPS, index[:, None] < index, difference > 0)
        first[tied] |= parallel[tied] & ahead
    result: Bool = np.logical_or.reduce(first, 1)
    return result


def _unit_beams(coefficients: Complex, channels: Complex) -> npt.NDArray[np.complex64]:
    beams = coefficients.transpose(0, 2, 1) @ channels
    parts = beams.view(beams.real.dtype)
    parts /= np.maximum(np.sqrt(np.vecdot(parts, parts)), np.finfo(parts.dtype).tiny)[..., None]
    result: npt.NDArray[np.complex64] = beams.astype(np.complex64, copy=False)
    return result
