"""Maximise the sum rate of a hybrid array: R RF chains behind phase shifters, W = F D with unit-modulus F.

The inner scheme precodes for a fully digital array. The phases F are those that represent its beams best, weighted by
their powers, see `analog.descend_phases`; then the inner scheme precodes for the channels projected on the range of F.
The total power of F D is that of beams in this range, so that the projected channels have the plain problem. For
R >= 2 K continuous phases the digital beams are represented exactly, see `analog.two_phase_form`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algorithms.hybrid_arrays.analog import descend_phases, initial_phases, two_phase_form
from simulator.problems.algorithms.hybrid_arrays.array import HybridArray
from simulator.problems.algorithms.weights import textbook_allocation
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.schemes.options import Between
from simulator.schemes.rzf import rzf

SWEEPS = 4
STEPS = 2
_CLOSE = 0.999


def precode_hybrid(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    sweeps: Annotated[int, Between(0, 1000)] = SWEEPS,
) -> ProblemSolution:
    """Maximise the sum rate of a hybrid array from the digital precoder of an inner scheme.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a hybrid array.
    inner : Scheme
        Scheme for fully digital arrays.
    sweeps : int
        Sweeps of the descent over the phases.

    Returns
    -------
    ProblemSolution
        Never below RZF behind the phases of the users' channels; `fallback` marks the drops where that is better.
    """
    array = HybridArray.of(batch, budget, problem)
    found = _precoded(array, inner, sweeps)
    # The textbook is formed only where it comes close to the result.
    if (array.rzf_sum_rate() > _CLOSE * found.objective.cpu().numpy()).any():
        return guarded(found, user_phases_rzf(batch, budget, problem))
    return found


def user_phases_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Steer each chain by the phases of a user's channel, and regularise zero forcing behind them.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a hybrid array.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    array = HybridArray.of(batch, budget, problem)
    start = None if array.weights is None else textbook_allocation(array.users.gram, array.weights)
    return array.precoded(array.user_phases(), rzf, start)


def _precoded(array: HybridArray, inner: Scheme, sweeps: int) -> ProblemSolution:
    shifters = array.shifters
    users = array.channels.shape[1]
    beams, found = array.digital_beams(inner)
    if shifters.bits is None and not shifters.sub_connected and shifters.chains >= 2 * users:
        return array.solution(*two_phase_form(beams), found.power)
    target = beams
    target *= np.sqrt(found.power).astype(np.float32)[..., None]
    analog = descend_phases(target, initial_phases(target, shifters), shifters, sweeps)
    return array.precoded(analog, inner, found, STEPS)
