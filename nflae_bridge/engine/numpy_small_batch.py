"""Compute small batches on a CPU in NumPy and ONNX Runtime, without PyTorch's overhead, where no constraint binds.

The arithmetic of a drop of ten users takes 60 us, PyTorch's dispatch of it some 2 ms; NumPy and ONNX Runtime take a
fraction of that. Time of the torch backend over this one, K = 10, N = 256, one thread, `tiny`: 3.8 for 1 drop, 2.3
for 16, 1.6 for 64 (`python benchmarks/engine_stages.py --ratios`). The mathematics of `simulator.downlink.structure`,
`.sinr`, `.gram` and `nflae_bridge.engine.near_parallel` is stated here a second time for it;
`tests/nflae_bridge/engine/test_numpy_small_batch.py` compares both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from nflae_bridge.engine.onnx_graphs import Real, Run
from simulator.downlink.gram import MAX_FP32_COHERENCE, MAX_FP32_SNR, MIN_FP32_ENERGY
from simulator.downlink.rounding import MAX_ALGEBRA_SNR, MAX_CANCELLATION
from simulator.interruption import check_interrupt

Complex = npt.NDArray[np.complexfloating[Any, Any]]
Bool = npt.NDArray[np.bool_]

_ROUNDING = 8 * np.finfo(np.float64).eps
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Drops:
    """Hold drops and the inner products of their users; float64 unless stated.

    Attributes
    ----------
    channels
        complex64 (drops, users, antennas).
    gram
        Gamma, complex128 (drops, users, users).
    gains
        Its diagonal, (drops, users).
    coherence
        |h_i^H h_j|^2 / (||h_i||^2 ||h_j||^2), 0 on the diagonal, (drops, users, users).
    needs_float64
        bool (drops,), drops whose sums over antennas are in double precision, as in
        `simulator.downlink.gram.mixed_precision_gram`; None: no drop.
    """

    channels: npt.NDArray[np.complex64]
    gram: Complex
    gains: Real
    coherence: Real
    needs_float64: Bool | None

    @staticmethod
    def of(channels: npt.NDArray[np.complex64], snr: float | Real) -> Drops:
        """Compute the inner products.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).
        snr
            P / sigma^2, linear, a number or float64 (drops or 1, 1).

        Returns
        -------
        Drops
        """
        drops, users, antennas = channels.shape
        factor = np.asarray(snr).reshape(-1, 1, 1)
        if antennas < 2 * users:
            gram = _exact_gram(channels, factor)
            return Drops(channels, gram, *_gains_and_coherence(gram), np.ones(drops, np.bool_))
        with np.errstate(over="ignore", invalid="ignore"):  # values beyond single precision fail the range check
            rough = np.vecdot(channels[:, :, None], channels[:, None]).astype(np.complex128)
            energy = _diagonal(rough).real
            gram = rough * factor
            gains, coherence = _gains_and_coherence(gram)
            in_range = np.minimum.reduce(energy, 1) > MIN_FP32_ENERGY
            in_range &= np.maximum.reduce(energy, 1) < np.minimum(MAX_FP32_SNR / factor[:, 0, 0], 1 / MIN_FP32_ENERGY)
            in_range &= np.maximum.reduce(coherence.reshape(drops, -1), 1) <= MAX_FP32_COHERENCE
        if np.logical_and.reduce(in_range):
            return Drops(channels, gram, gains, coherence, None)
        gram[~in_range] = _exact_gram(channels[~in_range], np.broadcast_to(factor, (drops, 1, 1))[~in_range])
        return Drops(channels, gram, *_gains_and_coherence(gram), ~in_range)


@dataclass(frozen=True)
class Solution:
    """Hold beams and powers of drops, as `simulator.downlink.candidates.Candidate` does.

    Attributes
    ----------
    coefficients
        C, complex128 (drops, users, users).
    power_fractions, dual_power_fractions, sinr
        float64 (drops, users).
    """

    coefficients: Complex
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real

    @property
    def sum_rate(self) -> Real:
        """Sum of log2(1 + SINR), bps/Hz, (drops,)."""
        result: Real = np.add.reduce(np.log2(1 + self.sinr), 1)
        return result

    def put(self, drops: npt.NDArray[np.intp] | Bool, other: Solution, chosen: Bool) -> None:
        """Replace drops by chosen ones of another solution, in place.

        Parameters
        ----------
        drops
            The drops to replace, as indices or bool (drops,).
        other
            The other solution.
        chosen
            bool, as many true ones as ``drops`` selects.
        """
        for field in fields(self):
            getattr(self, field.name)[drops] = getattr(other, field.name)[chosen]

    def precoder(self, drops: Drops) -> npt.NDArray[np.complex64]:
        """Form W = H C with unit-norm columns, complex64 (drops, users, antennas)."""
        exact = drops.needs_float64
        if exact is None:
            return _unit_beams(self.coefficients.astype(np.complex64), drops.channels)
        beams = np.empty_like(drops.channels)
        beams[~exact] = _unit_beams(self.coefficients[~exact].astype(np.complex64), drops.channels[~exact])
        # Gains may be so large that coefficients of nulling beams leave the range.
        coefficients = self.coefficients[exact]
        coefficients /= np.maximum(np.abs(coefficients).max(1, keepdims=True), _TINY)
        beams[exact] = _unit_beams(coefficients, drops.channels[exact].astype(np.complex128))
        return beams


def solve(network: Run, drops: Drops, refinements: int, negligible: float) -> tuple[Solution, Bool, Bool | None]:
    """Return the best of the network's answer, of the same without redundant users, and of regularised zero forcing.

    Parameters
    ----------
    network
        Exported network; see `nflae_bridge.engine.onnx_graphs.PowerGraph`.
    drops
        The drops.
    refinements
        WMMSE steps from the network's answer.
    negligible
        Relative gain in sum rate up to which redundant users are switched off.

    Returns
    -------
    best : Solution
        The answer per drop.
    fallback : Bool
        bool (drops,), drops answered by regularised zero forcing.
    lossy : Bool or None
        bool (drops,), drops that `simulator.downlink.rounding.loses_digits` marks; None: none.
    """
    gains, count = drops.gains, drops.gains.shape[1]
    equal = np.full(gains.shape, 1 / count)
    inverse, effective_gains, energy = _beams(drops.gram, gains, equal)
    lossy = None if drops.needs_float64 is None else _loses_digits(gains, inverse, energy)
    rzf = Solution(inverse, equal, equal, _sinr(effective_gains, equal))
    rate = np.log2(1 + rzf.sinr)
    (fractions,) = network(
        {
            "gains": gains,
            "coherence": drops.coherence + np.eye(count),
            "inverse_diagonal": _diagonal(inverse).real.copy(),
            "inverse_power": _squares(inverse),
            "effective_gains": effective_gains,
            "rate": rate,
        }
    )
    uplink, power_fractions = fractions.reshape(2, *gains.shape)
    best = _pruned_or_not(drops, uplink, power_fractions, refinements, negligible)
    sum_rate = best.sum_rate
    fallback = ~(sum_rate < math.inf) | (np.add.reduce(rate, 1) > sum_rate * (1 + 1e-9))
    if np.logical_or.reduce(fallback):
        best.put(fallback, rzf, fallback)
    return best, fallback, lossy


def _loses_digits(gains: Real, coefficients: Complex, energy: Real) -> Bool:
    strongest = gains.max(1)
    cancels = (np.vecmat(gains, _squares(coefficients)) > MAX_CANCELLATION * energy).any(1)
    result: Bool = (strongest > MAX_ALGEBRA_SNR) | (cancels & (strongest > MAX_FP32_SNR))
    return result


def _pruned_or_not(drops: Drops, uplink: Real, power_fractions: Real, refinements: int, negligible: float) -> Solution:
    """Return the better of the answers with and without redundant users, per drop."""
    redundant = _redundant_users(drops, power_fractions)
    if redundant is None:
        return _refined(drops.gram, drops.gains, _normalised(uplink), _normalised(power_fractions), refinements)
    loudest = np.maximum(np.maximum.reduce(drops.gains, 1), 1)
    # Elsewhere the network has switched redundant users off itself: the answer without them suffices.
    matters = np.add.reduce((uplink + power_fractions) * redundant, 1) * loudest > negligible
    kept = ~redundant | matters[:, None]
    best = _refined(
        drops.gram, drops.gains, _normalised(uplink * kept), _normalised(power_fractions * kept), refinements
    )
    if np.logical_or.reduce(matters):
        tried = np.flatnonzero(matters)
        fractions = [_normalised((part * ~redundant)[tried]) for part in (uplink, power_fractions)]
        pruned = _refined(drops.gram[tried], drops.gains[tried], fractions[0], fractions[1], refinements)
        better = ~(pruned.sum_rate <= best.sum_rate[tried] * (1 - negligible))
        best.put(tried[better], pruned, better)
    return best


def _exact_gram(channels: npt.NDArray[np.complex64], factor: Real) -> Complex:
    scaled = channels * np.sqrt(factor).astype(np.complex128)
    result: Complex = scaled.conj() @ scaled.transpose(0, 2, 1)
    return result


def _gains_and_coherence(gram: Complex) -> tuple[Real, Real]:
    gains = np.maximum(_diagonal(gram).real, 1e-30)
    coherence = np.minimum(_squares(gram) / (gains[:, :, None] * gains[:, None]), 1.0)
    _diagonal(coherence)[:] = 0
    return gains, coherence


def _diagonal(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the diagonals of contiguous (drops, n, n), to read and write; NumPy's function takes ten times as long."""
    return matrices.reshape(len(matrices), -1)[:, :: matrices.shape[1] + 1]


def _squares(values: Complex) -> Real:
    """Return |z|^2 in half the time that squares of the parts take."""
    result: Real = (values * values.conj()).real
    return result


def _beams(gram: Complex, gains: Real, dual_power_fractions: Real) -> tuple[Complex, Real, Real]:
    """Return C, F and the beams' energies of `simulator.downlink.structure.structured_beams`."""
    system = dual_power_fractions[:, :, None] * gram
    _diagonal(system)[:] += 1
    coefficients = _inverse(system)
    seen = gram @ coefficients
    energy: Real = np.vecdot(coefficients, seen, axis=1).real  # type: ignore[call-overload]  # its stub lacks axis
    energy = np.maximum(energy, 0)
    rounding = _ROUNDING * np.vecmat(gains, _squares(coefficients))
    least = np.maximum(np.maximum(energy, rounding), _TINY)
    return coefficients, np.minimum(_squares(seen) / least[:, None], gains[:, :, None]), energy


def _inverse(system: Complex) -> Complex:
    if len(system) > 1:
        try:
            result: Complex = np.linalg.inv(system)
            return result
        except np.linalg.LinAlgError:  # identical users at 160 dB: 1 is lost beside their gains
            return np.concatenate([_inverse(one[None]) for one in system])
    # LAPACK itself takes half the time for one matrix; rows in memory are columns to it, also in the result.
    factors, pivots, _ = lapack.zgetrf(system[0].T, overwrite_a=True)
    inverse: Complex = lapack.zgetri(factors, pivots, overwrite_lu=True)[0].T
    return inverse[None]


def _sinr(effective_gains: Real, power_fractions: Real) -> Real:
    received = effective_gains * power_fractions[:, None]
    signal = _diagonal(received).copy()
    _diagonal(received)[:] = 0  # the sum without the signal, not the sum minus it
    result: Real = signal / (1 + np.add.reduce(received, 2))
    return result


def _refined(gram: Complex, gains: Real, uplink: Real, power_fractions: Real, refinements: int) -> Solution:
    """Return the answer after steps of `simulator.downlink.structure.wmmse_step`."""
    coefficients, effective_gains, _ = _beams(gram, gains, uplink)
    for _ in range(refinements):
        check_interrupt()
        weight = 1 + _sinr(effective_gains, power_fractions)
        received = 1 + (effective_gains * power_fractions[:, None]).sum(2)
        receiver = _diagonal(effective_gains) * power_fractions / received**2
        uplink = _normalised(weight * receiver)
        coefficients, effective_gains, energy = _beams(gram, gains, uplink)
        power_fractions = _normalised(weight * weight * receiver * energy)
    return Solution(coefficients, power_fractions, uplink, _sinr(effective_gains, power_fractions))


def _normalised(power_fractions: Real) -> Real:
    result: Real = power_fractions / np.maximum(np.add.reduce(power_fractions, 1, keepdims=True), _TINY)
    return result


def _redundant_users(drops: Drops, power_fractions: Real) -> Bool | None:
    """Return `near_parallel.redundant_users` where no user counts under C3; None where no user of any drop is."""
    parallel = drops.coherence > COHERENCE
    if not np.logical_or.reduce(parallel.reshape(-1)):
        return None
    first = np.zeros_like(parallel)
    criteria = ((np.log(np.maximum(power_fractions, 1e-30)), SAME_POWER), (np.log(drops.gains), SAME_GAIN))
    for value, same in criteria:
        difference = value[:, :, None] - value[:, None]
        first |= parallel & (difference > same)
        parallel &= np.abs(difference) <= same
    tied = np.flatnonzero(np.logical_or.reduce(parallel.reshape(len(parallel), -1), 1))
    if len(tied):
        channels = drops.channels[tied].astype(np.complex128)
        steps = np.angle(np.vecdot(channels[..., :-1], channels[..., 1:]))
        difference = steps[:, :, None] - steps[:, None]
        index = np.arange(steps.shape[1])
        ahead = np.where(np.abs(difference) <= SAME_PHASE_STEP, index[:, None] < index, difference > 0)
        first[tied] |= parallel[tied] & ahead
    result: Bool = np.logical_or.reduce(first, 1)
    return result


def _unit_beams(coefficients: Complex, channels: Complex) -> npt.NDArray[np.complex64]:
    beams = coefficients.transpose(0, 2, 1) @ channels
    parts = beams.view(beams.real.dtype)
    parts /= np.maximum(np.sqrt(np.vecdot(parts, parts)), np.finfo(parts.dtype).tiny)[..., None]
    result: npt.NDArray[np.complex64] = beams.astype(np.complex64, copy=False)
    return result
