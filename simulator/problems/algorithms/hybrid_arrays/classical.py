"""Choose the phases of a hybrid array by classical methods; WMMSE follows behind them on the projected channels.

All represent the fully digital precoder of WMMSE, columns sqrt(P_k) w_k, by F D.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.interruption import check_interrupt
from simulator.problems.algebra import Complex, squares
from simulator.problems.algorithms.hybrid_arrays.analog import (
    PhaseShifters,
    descend_phases,
    fitted_digital,
    initial_phases,
)
from simulator.problems.algorithms.hybrid_arrays.array import HybridArray
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution
from simulator.schemes.options import Between
from simulator.schemes.wmmse import wmmse

_DIGITAL_STEPS = 200  # weighted iterations, where there are weights
_OVERSAMPLING = 2  # steering vectors of the dictionary per antenna

Represent = Callable[[Complex, PhaseShifters], Complex]


def omp(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Select steering vectors for the chains by orthogonal matching pursuit.

    The dictionary holds the far-field steering vectors of 2 N directions of a line array, uniform in the sine.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a fully connected hybrid array.

    Returns
    -------
    ProblemSolution
        Solution of every drop.

    References
    ----------
    * O. El Ayach, S. Rajagopal, S. Abu-Surra, Z. Pi, R. W. Heath, "Spatially sparse precoding in millimeter wave MIMO
      systems", IEEE Transactions on Wireless Communications, 2014, algorithm 1.
    """
    return _solve(_pursued_phases, batch, budget, problem)


def pe_altmin(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 30,
) -> ProblemSolution:
    """Alternate between phases and a digital part with orthogonal columns (phase extraction, PE-AltMin).

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a fully connected hybrid array.
    iterations : int
        Number of alternations.

    Returns
    -------
    ProblemSolution
        Solution of every drop.

    References
    ----------
    * X. Yu, J.-C. Shen, J. Zhang, K. B. Letaief, "Alternating minimization algorithms for hybrid precoding in
      millimeter wave MIMO systems", IEEE Journal of Selected Topics in Signal Processing, 2016, algorithm 2.
    """
    return _solve(partial(_extracted_phases, iterations=iterations), batch, budget, problem)


def hybrid_wmmse(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    sweeps: Annotated[int, Between(0, 1000)] = 30,
) -> ProblemSolution:
    """Choose phases by coordinate descent, see `analog.descend_phases`.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a hybrid array.
    sweeps : int
        Sweeps over all chains.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    array = HybridArray.of(batch, budget, problem)
    target = _digital_target(array)
    analog = descend_phases(target, initial_phases(target, array.shifters), array.shifters, sweeps)
    return array.precoded(analog, wmmse)


def _solve(represent: Represent, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    array = HybridArray.of(batch, budget, problem)
    return array.precoded(represent(_digital_target(array), array.shifters), wmmse)


def _digital_target(array: HybridArray) -> Complex:
    beams, found = array.digital_beams(wmmse, _DIGITAL_STEPS)
    return beams * np.sqrt(found.power).astype(np.float32)[..., None]


def _pursued_phases(target: Complex, shifters: PhaseShifters) -> Complex:
    antennas = target.shape[-1]
    size = _OVERSAMPLING * antennas
    analog = target[:, :0]
    rest = target
    for _ in range(shifters.chains):
        check_interrupt()
        matches = squares(np.fft.fft(rest, size, axis=-1)).sum(1)
        phase = 2 * math.pi / size * matches.argmax(1)[:, None] * np.arange(antennas)
        column = shifters.phases(np.exp(1j * phase).astype(target.dtype))
        analog = np.concatenate([analog, column[:, None]], 1)
        rest = target - fitted_digital(analog, target).transpose(0, 2, 1) @ analog
    return analog


def _extracted_phases(target: Complex, shifters: PhaseShifters, iterations: int) -> Complex:
    analog = initial_phases(target, shifters)
    for _ in range(iterations):
        check_interrupt()
        left, _, right = np.linalg.svd(target.conj() @ analog.transpose(0, 2, 1), full_matrices=False)
        analog = shifters.phases((left @ right).transpose(0, 2, 1) @ target)
    return analog
