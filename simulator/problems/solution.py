"""Hold the solution of a precoding problem, measure it in the problem's own metric, and guard it by another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io.labelled import LabelledArray, LabelledSet
from matlab_io.result import OPTIONAL_ARRAYS, RECEIVE_COMBINER, RESULT_ARRAYS, RESULT_NAMES, label_arrays
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.precoding import ChannelBatch, Precoding, labels_and_scores, result_arrays, with_drops
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.problem import PrecodingProblem

_PER_DROP = ("precoder", "power", "uplink_power", "feasible", "fallback", "objective")
_OPTIONAL = ("analog", "digital", "receive_combiner")
_NO_POWER = 1e-24  # of the total: near the end of the range of float64, a vector has no digits for its direction
_RATE_TOLERANCE = 1e-6  # relative, of a minimum rate met by beams in single precision


@dataclass(frozen=True, kw_only=True, repr=False)
class ProblemSolution(Precoding):
    """Hold the solution of a precoding problem for a batch of drops.

    With several streams per user the axis of users holds the streams: user 1's first, then user 2's.

    Parameters
    ----------
    objective : Tensor
        Value of the problem's own objective, float64 (drops,): (weighted) sum of rates, smallest rate, or sum of
        logarithms of mean rates; of drops that are solved together, that of all of them.
    analog : Tensor, optional
        Phase shifters F of a hybrid array, complex64 (drops, antennas, RF chains), of modulus 1 / sqrt(antennas) where
        an antenna is connected to a chain, and 0 elsewhere.
    digital : Tensor, optional
        Baseband precoder D, complex64 (drops, RF chains, users): the precoder's columns are those of F D.
    receive_combiner : Tensor, optional
        Unit-norm combiners u of the streams, complex64 (drops, streams of all users, receive antennas), z = u^H y.
    streams : int
        Streams per user.
    """

    objective: Tensor
    analog: Tensor | None = None
    digital: Tensor | None = None
    receive_combiner: Tensor | None = None
    streams: int = 1

    def labelled(self) -> LabelledSet:
        """Return all arrays and the objective with the names of their axes."""
        arrays = solution_arrays(self)
        fields = {entry.field: arrays.get(entry.name) for entry in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS)}
        value = LabelledArray(
            "objective", ("drop",), self.objective.cpu().numpy(), "", "value of the problem's objective"
        )
        return LabelledSet((*label_arrays(fields).arrays, value))

    def to(self, device: torch.device) -> ProblemSolution:
        """Return the same on another device."""
        moved: dict[str, Any] = {"objective": self.objective.to(device)}
        for name in _OPTIONAL:
            part = getattr(self, name)
            moved[name] = None if part is None else part.to(device)
        solution = super().to(device)
        assert isinstance(solution, ProblemSolution)
        return replace(solution, **moved)

    def replaced(self, drops: Tensor, other: Precoding) -> ProblemSolution:
        """Return a copy with some drops replaced by those of another solution of the same problem.

        Parameters
        ----------
        drops : Tensor
            Drops to replace, bool (drops,).
        other : ProblemSolution
            As many drops as `drops` has true elements.

        Returns
        -------
        ProblemSolution
            Solution of all drops.
        """
        solution = super().replaced(drops, other)
        assert isinstance(solution, ProblemSolution)
        assert isinstance(other, ProblemSolution)
        moved: dict[str, Any] = {"objective": with_drops(self.objective, drops, other.objective)}
        for name in _OPTIONAL:
            ours, theirs = getattr(self, name), getattr(other, name)
            moved[name] = None if ours is None or theirs is None else with_drops(ours, drops, theirs)
        return replace(solution, **moved)


def measure_objective(problem: PrecodingProblem, rate: Tensor) -> Tensor:
    """Compute a problem's objective from the users' rates.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    rate : Tensor
        Rates, bps/Hz, float64 (drops, users).

    Returns
    -------
    Tensor
        float64 (drops,); drops that are solved together have the same value.
    """
    if problem.objective == "max-min":
        return rate.amin(-1)
    weights = problem_weights(problem, rate)
    value = rate.sum(-1) if weights is None else (weights * rate).sum(-1)
    together = problem.drops_together
    if problem.objective == "proportional-fair":
        mean = rate.reshape(-1, together, rate.shape[-1]).mean(1)
        value = torch.log(mean.clamp(min=torch.finfo(rate.dtype).tiny)).sum(-1)
        return value.repeat_interleave(together)
    if together > 1:
        value = value.reshape(-1, together).sum(-1).repeat_interleave(together)
    return value


def problem_weights(problem: PrecodingProblem, like: Tensor) -> Tensor | None:
    """Return the users' weights as a tensor.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    like : Tensor
        Tensor whose device the weights have.

    Returns
    -------
    Tensor or None
        float64 (drops or 1, users); None where the problem has none.
    """
    if problem.weights is None:
        return None
    return torch.as_tensor(problem.weights, dtype=torch.float64, device=like.device).reshape(-1, like.shape[-1])


def split_powers(rows: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Split scaled precoding vectors into unit-norm vectors and powers.

    Parameters
    ----------
    rows : Tensor
        sqrt(P_k) w_k, complex128 (drops, streams, antennas).
    directions : Tensor
        Vectors, not zero, complex (drops, streams, antennas), that define w_k where P_k = 0.

    Returns
    -------
    precoder : Tensor
        w_k, complex64 (drops, streams, antennas).
    power : Tensor
        P_k, float64 (drops, streams), W; powers below `_NO_POWER` of the total become 0.
    """
    power = (rows.real.square() + rows.imag.square()).sum(-1)
    power = torch.where(power > _NO_POWER * power.sum(-1, keepdim=True), power, 0)
    vectors = torch.where((power > 0).unsqueeze(-1), rows, directions.to(rows.dtype))
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=torch.finfo(power.dtype).tiny)
    return (vectors / norm).to(torch.complex64), power


def make_solution(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    precoder: Tensor,
    power: Tensor,
    *,
    uplink_power: Tensor | None = None,
    sinr: Tensor | None = None,
    feasible: Tensor | None = None,
    streams: int = 1,
    analog: Tensor | None = None,
    digital: Tensor | None = None,
    receive_combiner: Tensor | None = None,
) -> ProblemSolution:
    """Form the solution of a precoder and powers, with the SINRs that they achieve.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget and problem.
    precoder : Tensor
        Unit-norm w_k in rows, complex64 (drops, streams of all users, antennas).
    power : Tensor
        P_k, float64 (drops, streams of all users), W.
    uplink_power : Tensor, optional
        lambda, float64 (drops, streams of all users), W; NaN by default.
    sinr : Tensor, optional
        SINRs, linear, float64 (drops, streams of all users); by default those of single-antenna receivers.
    feasible : Tensor, optional
        C4 holds, bool (drops,); by default as the achieved rates have it.
    streams : int
        Streams per user.
    analog, digital, receive_combiner : Tensor, optional
        As in `ProblemSolution`.

    Returns
    -------
    ProblemSolution
        Solution of every drop; none is marked as fallback.
    """
    achieved = achieved_sinr(batch.channels, precoder, power, budget.noise_power) if sinr is None else sinr
    rate = rates(achieved)
    if streams > 1:
        rate = rate.reshape(len(achieved), -1, streams).sum(-1)
    feasible = _meets_minimum(rate, budget) if feasible is None else feasible
    return ProblemSolution(
        precoder=precoder,
        power=power,
        uplink_power=torch.full_like(power, torch.nan) if uplink_power is None else uplink_power,
        feasible=feasible,
        fallback=torch.zeros_like(feasible),
        compute_labels=lambda: labels_and_scores(batch),
        compute_sinr=lambda: achieved,
        objective=measure_objective(problem, rate),
        analog=analog,
        digital=digital,
        receive_combiner=receive_combiner,
        streams=streams,
    )


def _meets_minimum(rate: Tensor, budget: LinkBudget) -> Tensor:
    """Return the drops in which every user has the minimum rate, bool (drops,)."""
    if not budget.demands_rates:
        return torch.ones(len(rate), dtype=torch.bool, device=rate.device)
    least = per_drop(budget.min_rate, rate).unsqueeze(-1)
    return (rate >= least * (1 - _RATE_TOLERANCE)).all(-1)


def solution_arrays(
    precoding: Precoding, good: npt.NDArray[np.bool_] | None = None, names: Iterable[str] = RESULT_NAMES
) -> dict[str, npt.NDArray[Any]]:
    """Convert a precoding to the arrays of the result schema, with those that a problem adds.

    Parameters
    ----------
    precoding : Precoding
        Result for the good drops: a `ProblemSolution`, or that of a plain problem.
    good, names
        As in `precoding.result_arrays`.

    Returns
    -------
    dict
        Arrays by name, (all drops, ...); with several streams per user an axis of streams follows that of users.
    """
    names = tuple(names)
    arrays = result_arrays(precoding, good, names)
    if not isinstance(precoding, ProblemSolution):
        return arrays
    arrays |= optional_arrays(precoding, good)
    if precoding.streams > 1:
        streamed = {entry.name for entry in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS) if entry.per_stream}
        for name in streamed & set(arrays):
            drops, rows, *rest = arrays[name].shape
            arrays[name] = arrays[name].reshape(drops, rows // precoding.streams, precoding.streams, *rest)
    return arrays


def optional_arrays(
    solution: ProblemSolution, good: npt.NDArray[np.bool_] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Convert the parts of a solution that only some problems have, in Python's axis order.

    Parameters
    ----------
    solution : ProblemSolution
        Solution of the good drops.
    good : numpy.ndarray, optional
        Good drops among all, bool (all drops,); the others become NaN.

    Returns
    -------
    dict
        ``receive_combiner``, (all drops, streams of all users, receive antennas), ``analog``, (all drops, RF chains,
        antennas), and ``digital``, (all drops, streams of all users, RF chains), where there are.
    """
    arrays = {}
    for entry in OPTIONAL_ARRAYS:
        part = getattr(solution, entry.field)
        if part is None:
            continue
        rows = part if entry is RECEIVE_COMBINER else part.transpose(-1, -2)
        computed = np.ascontiguousarray(rows.cpu().numpy())
        if good is not None and not good.all():
            padded = np.full((len(good), *computed.shape[1:]), np.nan, computed.dtype)
            padded[good] = computed
            computed = padded
        arrays[entry.name] = computed
    return arrays


def best_of(first: ProblemSolution, *others: ProblemSolution) -> ProblemSolution:
    """Choose per drop the feasible solution with the largest objective; the earlier one where two are equal.

    Parameters
    ----------
    first, *others : ProblemSolution
        Solutions of the same drops and the same problem.

    Returns
    -------
    ProblemSolution
        Best solution of every drop.
    """
    best = first
    for other in others:
        best = _choose(best, other, _is_better(other, best))
    return best


def guarded(solution: ProblemSolution, textbook: ProblemSolution) -> ProblemSolution:
    """Replace the drops on which a textbook solution of the same problem is better, and mark them as fallback.

    Parameters
    ----------
    solution, textbook : ProblemSolution
        Solutions of the same drops and the same problem.

    Returns
    -------
    ProblemSolution
        The solution, never below the textbook in the problem's own objective.
    """
    wins = _is_better(textbook, solution)
    return replace(_choose(solution, textbook, wins), fallback=solution.fallback | wins)


def _is_better(other: ProblemSolution, ours: ProblemSolution) -> Tensor:
    """Return the drops on which the other solution is better by more than the last digits."""
    margin = 1e-9 * ours.objective.abs()
    higher = (other.feasible == ours.feasible) & (other.objective > ours.objective + margin)
    wins = (other.feasible & ~ours.feasible) | higher
    return (wins & other.objective.isfinite()) | ~ours.objective.isfinite()


def _choose(ours: ProblemSolution, other: ProblemSolution, drops: Tensor) -> ProblemSolution:
    """Take the other solution on some drops."""

    def pick(one: Tensor, two: Tensor) -> Tensor:
        return torch.where(drops.reshape(-1, *[1] * (one.ndim - 1)), two, one)

    if not bool(drops.any()):
        return ours
    chosen: dict[str, Any] = {name: pick(getattr(ours, name), getattr(other, name)) for name in _PER_DROP}
    for name in _OPTIONAL:
        one, two = getattr(ours, name), getattr(other, name)
        chosen[name] = None if one is None or two is None else pick(one, two)
    sinr = pick(ours.sinr, other.sinr)
    return replace(ours, **chosen, compute_sinr=lambda: sinr)
