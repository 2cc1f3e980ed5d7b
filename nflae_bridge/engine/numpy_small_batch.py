"""Compute small batches on a CPU in NumPy and ONNX Runtime, without PyTorch's overhead, where no constraint binds.

The arithmetic of a drop of ten users takes 60 us, PyTorch's dispatch of it some 2 ms; NumPy and ONNX Runtime take a
fraction of that. Time of the torch backend over this one, K = 10, N = 256, one thread, `tiny`: 3.8 for 1 drop, 2.3
for 16, 1.6 for 64 (`python benchmarks/engine_stages.py --ratios`). Matrices are those of `simulator.problems.algebra`;
the mathematics of `nflae_bridge.engine.near_parallel` is stated here a second time. Tests compare both:
`tests/nflae_bridge/engine/test_numpy_small_batch.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from nflae_bridge.engine.onnx_graphs import Run
from nflae_bridge.engine.user_selection import is_overloaded, select_users
from simulator.downlink.gram import MAX_FP32_SNR
from simulator.downlink.rounding import MAX_ALGEBRA_SNR, MAX_CANCELLATION
from simulator.problems.algebra import (
    Beams,
    Bool,
    Complex,
    Real,
    UserGram,
    diagonal,
    normalised,
    rates,
    sinr,
    squares,
    structured_beams,
    wmmse_steps,
)


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
        result: Real = np.add.reduce(rates(self.sinr), 1)
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


def solve(network: Run, drops: UserGram, refinements: int, negligible: float) -> tuple[Solution, Bool, Bool | None]:
    """Return the best of the network's answer, of the same without redundant users, and of regularised zero forcing.

    Regularised zero forcing serves all users, in overloaded cells also those of `user_selection.select_users`.

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
    beams = structured_beams(drops.gram, equal)
    lossy = None if drops.needs_float64 is None else _loses_digits(gains, beams)
    rzf = Solution(beams.coefficients, equal, equal, sinr(beams.effective_gains, equal))
    rate = rates(rzf.sinr)
    (fractions,) = network(
        {
            "gains": gains,
            "coherence": drops.coherence + np.eye(count),
            "inverse_diagonal": diagonal(beams.coefficients).real.copy(),
            "inverse_power": squares(beams.coefficients),
            "effective_gains": beams.effective_gains,
            "rate": rate,
        }
    )
    uplink, power_fractions = fractions.reshape(2, *gains.shape)
    best = _pruned_or_not(drops, uplink, power_fractions, refinements, negligible)
    rivals = [rzf]
    if drops.channels is not None and is_overloaded(*drops.channels.shape[1:]):
        share = select_users(torch.from_numpy(drops.gram), drops.channels.shape[2]).numpy()
        rivals.append(_refined(drops.gram, share, share, 0))
    fallback = np.zeros(len(gains), np.bool_)
    for rival in rivals:
        sum_rate = best.sum_rate
        wins: Bool = ~(sum_rate < math.inf) | (rival.sum_rate > sum_rate * (1 + 1e-9))
        if np.logical_or.reduce(wins):
            best.put(wins, rival, wins)
            fallback |= wins
    return best, fallback, lossy


def _loses_digits(gains: Real, beams: Beams) -> Bool:
    strongest = gains.max(1)
    cancels = (np.vecmat(gains, squares(beams.coefficients)) > MAX_CANCELLATION * beams.energy).any(1)
    result: Bool = (strongest > MAX_ALGEBRA_SNR) | (cancels & (strongest > MAX_FP32_SNR))
    return result


def _pruned_or_not(
    drops: UserGram, uplink: Real, power_fractions: Real, refinements: int, negligible: float
) -> Solution:
    """Return the better of the answers with and without redundant users, per drop."""
    redundant = _redundant_users(drops, power_fractions)
    if redundant is None:
        return _refined(drops.gram, normalised(uplink), normalised(power_fractions), refinements)
    loudest = np.maximum(np.maximum.reduce(drops.gains, 1), 1)
    # Elsewhere the network has switched redundant users off itself: the answer without them suffices.
    matters = np.add.reduce((uplink + power_fractions) * redundant, 1) * loudest > negligible
    kept = ~redundant | matters[:, None]
    best = _refined(drops.gram, normalised(uplink * kept), normalised(power_fractions * kept), refinements)
    if np.logical_or.reduce(matters):
        tried = np.flatnonzero(matters)
        fractions = [normalised((part * ~redundant)[tried]) for part in (uplink, power_fractions)]
        pruned = _refined(drops.gram[tried], fractions[0], fractions[1], refinements)
        better = ~(pruned.sum_rate <= best.sum_rate[tried] * (1 - negligible))
        best.put(tried[better], pruned, better)
    return best


def _refined(gram: Complex, uplink: Real, power_fractions: Real, refinements: int) -> Solution:
    uplink, beams, power_fractions = wmmse_steps(gram, uplink, power_fractions, refinements)
    return Solution(beams.coefficients, power_fractions, uplink, sinr(beams.effective_gains, power_fractions))


def _redundant_users(drops: UserGram, power_fractions: Real) -> Bool | None:
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
        steps = _mean_phase_steps(drops, tied)
        difference = steps[:, :, None] - steps[:, None]
        index = np.arange(steps.shape[1])
        ahead = np.where(np.abs(difference) <= SAME_PHASE_STEP, index[:, None] < index, difference > 0)
        first[tied] |= parallel[tied] & ahead
    result: Bool = np.logical_or.reduce(first, 1)
    return result


def _mean_phase_steps(drops: UserGram, tied: npt.NDArray[np.intp]) -> Real:
    """Return phase steps from antenna to antenna, (tied drops, users); zeros where no channels are known."""
    if drops.channels is None:
        return np.zeros_like(drops.gains[tied])
    channels = drops.channels[tied].astype(np.complex128)
    steps: Real = np.angle(np.vecdot(channels[..., :-1], channels[..., 1:]))
    return steps
