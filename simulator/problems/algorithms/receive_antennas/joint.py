"""Maximise the sum rate of users with several receive antennas, whose combiners are chosen together with the precoder.

Each stream is a virtual user with the channel h' = sum_m u_m h_m behind its receive combiner u, z = u^H y: first the
channels' strongest left singular vectors. Of these the streams are chosen one by one, each the one of most gain in the
null space of those before, while it exceeds the noise. The inner scheme precodes for them, and regularised zero forcing
with equal powers beside it. Iterations of WMMSE follow, see `block_wmmse`: from both starts, which lead to different
local optima, then on the better one where its sum rate still rises. Last, each user's streams are rotated to the basis
in which they do not interfere, so that decoding them one by one has the rate of joint decoding.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algebra import TINY, Complex, diagonal
from simulator.problems.algorithms.receive_antennas.arrays import ReceiveArrays
from simulator.problems.algorithms.receive_antennas.block_wmmse import block_wmmse, sum_rates
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.problems.structured import Allocation, inner_allocation
from simulator.schemes.options import Between
from simulator.schemes.wmmse import wmmse

_CLOSE = 0.999
_MOMENTUM = 0.8
_SHARED = 3 / 8  # of the iterations are from both starts
_LEAST_RISE = 2e-4  # of the sum rate in one iteration, beyond which more follow
_BETWEEN_CHECKS = 3  # iterations
_LEAST_SNR = 0.3  # of a stream at an equal share of the power, beyond which no more streams are chosen


def precode_streams(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    steps: Annotated[int, Between(0, 1000)] = 16,
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
        WMMSE iterations at most; the first three eighths of them are from the inner scheme's beams and from those of
        regularised zero forcing.

    Returns
    -------
    ProblemSolution
        Never below eigen-RZF in the sum rate; `fallback` marks the drops that start from regularised zero forcing.
    """
    arrays = ReceiveArrays.of(batch, budget, problem)
    gram = arrays.virtual_gram()
    chosen = choose_streams(gram)
    starts = [
        arrays.precoded(gram, chosen, allocate) for allocate in (partial(inner_allocation, inner), Allocation.equal)
    ]
    coefficients, index = _improved(arrays, chosen, starts, steps)
    found = arrays.solution(arrays.placed(coefficients, chosen))
    found = replace(found, fallback=torch.from_numpy(index > 0).to(found.fallback.device))
    textbook = arrays.eigen_rzf(gram)
    # The textbook is formed in single precision only where it comes close to the result.
    if (sum_rates(arrays.amplitudes(textbook), arrays.owner) > _CLOSE * found.objective.cpu().numpy()).any():
        return guarded(found, arrays.solution(textbook))
    return found


def _improved(
    arrays: ReceiveArrays, chosen: npt.NDArray[np.intp], starts: list[Complex], steps: int
) -> tuple[Complex, npt.NDArray[np.intp]]:
    """Return the coefficients after iterations of WMMSE from the better start of each drop, and its index."""
    drops, count = len(chosen), len(starts)
    owner = arrays.owner[0].T[chosen].transpose(0, 2, 1)
    owners = np.concatenate([owner] * count)
    coefficients = np.concatenate(starts)
    received = np.concatenate([arrays.amplitudes(each) for each in starts])
    shared = math.ceil(_SHARED * steps)
    if not shared:
        index = sum_rates(received, owners).reshape(count, drops).argmax(0)
        return coefficients[index * drops + np.arange(drops)], index
    coefficients, received, previous = block_wmmse(
        np.concatenate([arrays.gram] * count), received, owners, shared, _MOMENTUM
    )
    reached = sum_rates(received, owners)
    index = reached.reshape(count, drops).argmax(0)
    best = index * drops + np.arange(drops)
    coefficients, reached, received, previous = coefficients[best], reached[best], received[best], previous[best]
    left, places = steps - shared, np.arange(drops)
    while left:
        rises = reached - sum_rates(previous, owner[places]) > _LEAST_RISE * reached
        places, received, previous = places[rises], received[rises], previous[rises]
        if not places.size:
            break
        taken = min(left, _BETWEEN_CHECKS)
        left -= taken
        coefficients[places], received, previous = block_wmmse(
            arrays.gram[places], received, owner[places], taken, _MOMENTUM, previous
        )
        reached = sum_rates(received, owner[places])
    return coefficients, index


def choose_streams(gram: Complex) -> npt.NDArray[np.intp]:
    """Choose streams by pivoted Cholesky decomposition: each has the most gain in the null space of those before.

    Parameters
    ----------
    gram : ndarray
        Gamma of the streams, complex128 (drops, streams, streams).

    Returns
    -------
    ndarray
        Streams in ascending order, int64 (drops, chosen streams): as many as the drop with the most streams whose gain
        at an equal share of the power exceeds `_LEAST_SNR`.
    """
    drops, streams, _ = gram.shape
    rows, left = np.arange(drops), diagonal(gram).real.copy()
    factors = np.zeros((streams, drops, streams), np.complex128)
    chosen = np.empty((drops, streams), np.intp)
    for count in range(streams):
        pivot = left.argmax(1)
        gain = left[rows, pivot]
        if count and not (gain > _LEAST_SNR * (count + 1)).any():
            return np.sort(chosen[:, :count], 1)
        chosen[:, count] = pivot
        found = factors[:count]
        column = gram[rows, :, pivot] - np.einsum("cds,cd->ds", found, found[:, rows, pivot].conj())
        column /= np.sqrt(np.maximum(gain, TINY))[:, None]
        factors[count] = column
        left -= (column * column.conj()).real
        left[rows, pivot] = -np.inf
    return np.sort(chosen, 1)


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
    start = arrays.amplitudes(arrays.eigen_rzf(arrays.virtual_gram()))
    return arrays.solution(block_wmmse(arrays.gram, start, arrays.owner, iterations)[0])


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
    return arrays.solution(
        arrays.precoded(arrays.virtual_gram(), arrays.every_stream, partial(inner_allocation, wmmse))
    )


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
    return arrays.solution(arrays.eigen_rzf(arrays.virtual_gram()))
