"""Maximise the sum rate of users with several receive antennas, whose combiners are chosen together with the precoder.

Each stream is a virtual user with the channel h' = sum_m u_m h_m behind its receive combiner u, z = u^H y. The inner
scheme precodes for the virtual users of the channels' strongest left singular vectors, then for those of the MMSE
combiners that its beams lead to; a few iterations of WMMSE follow, see `block_wmmse`. Last, each user's streams are
rotated to the basis in which they do not interfere, so that decoding them one by one has the rate of joint decoding.
"""

from __future__ import annotations

from typing import Annotated

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algorithms.receive_antennas.arrays import ReceiveArrays
from simulator.problems.algorithms.receive_antennas.block_wmmse import block_wmmse, sum_rates
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.schemes.options import Between
from simulator.schemes.wmmse import wmmse

_CLOSE = 0.999


def precode_streams(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    steps: Annotated[int, Between(0, 1000)] = 6,
) -> ProblemSolution:
    """Maximise the sum rate over precoder and receive combiners by an inner scheme and iterations of WMMSE.

    Parameters
    ----------
    batch : ChannelBatch
        Channels, complex64 (drops, users, receive antennas, antennas).
    budget, problem
        Link budget, and problem with joint receivers.
    inner : Scheme
        Scheme for single-antenna users.
    steps : int
        WMMSE iterations from the inner scheme's beams.

    Returns
    -------
    ProblemSolution
        Never below eigen-RZF in the sum rate; `fallback` marks the drops where that is better.
    """
    arrays = ReceiveArrays.of(batch, budget, problem)
    textbook = arrays.eigen_rzf()
    eigen = arrays.virtual_beams(arrays.eigen_combiners(), inner)
    beams = arrays.virtual_beams(arrays.mmse_combiners(arrays.amplitudes(eigen)), inner)
    if steps:
        beams = arrays.beams(block_wmmse(arrays.gram, arrays.amplitudes(beams), steps)[0])
    found = arrays.solution(beams)
    # The textbook is formed in single precision only where it comes close to the result.
    if bool((sum_rates(arrays.amplitudes(textbook)) > _CLOSE * found.objective).any()):
        return guarded(found, arrays.solution(textbook))
    return found


def stream_wmmse(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 200,
) -> ProblemSolution:
    """Maximise the sum rate by WMMSE for users with several receive antennas, from eigen-RZF.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_streams`.
    iterations : int
        Number of iterations.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    arrays = ReceiveArrays.of(batch, budget, problem)
    coefficients, _ = block_wmmse(arrays.gram, arrays.amplitudes(arrays.eigen_rzf()), iterations)
    return arrays.solution(arrays.beams(coefficients))


def eigen_combining(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Combine by the strongest left singular vectors, and maximise the streams' sum rate by WMMSE.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_streams`.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    arrays = ReceiveArrays.of(batch, budget, problem)
    return arrays.solution(arrays.virtual_beams(arrays.eigen_combiners(), wmmse))


def eigen_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Combine by the strongest left singular vectors, and precode by regularised zero forcing with equal powers.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_streams`.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    arrays = ReceiveArrays.of(batch, budget, problem)
    return arrays.solution(arrays.eigen_rzf())
