"""Compare schemes on the same drops: objective, fraction of the dirty-paper capacity, feasibility, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.files.blocks import Block
from nflae_bridge.files.labels import UNDECIDED, strongest_antenna
from nflae_bridge.studies.cluster import ClusterLost, run_units
from simulator.downlink.budget import LinkBudget
from simulator.downlink.capacity import dirty_paper_capacity
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.geometry.panel_labels import panel_near_field_score
from simulator.geometry.panels import UniformPlanarArray
from simulator.problems.combinations import TEXTBOOK
from simulator.problems.dispatch import ProblemScheme
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution
from simulator.problems.violations import is_below, violates_limits

OPTIMISER = "optimiser"
# Large enough to show the time per drop in batch.
BLOCK_DROPS = 256
_REPEATS = 5


@dataclass(frozen=True)
class Comparison:
    """Schemes and rules of a comparison: all that a worker needs beside the channels.

    Parameters
    ----------
    schemes
        Scheme specifications, see `load_scheme`.
    optimiser
        Also run the per-drop optimiser, which is too slow to be timed.
    model, device, refine
        Of ``nflae``, see `load_scheme`; where no labels are given the model labels the users, whichever schemes are
        compared.
    budget
        Link budget.
    problem
        Problem of the whole file, which every scheme solves; by default the plain sum rate.
    panel
        Planar array, whose users are labelled by fitted spherical waves instead of the model; None: a line.
    """

    schemes: tuple[str, ...]
    optimiser: bool
    model: str
    device: str
    refine: int
    budget: LinkBudget
    problem: PrecodingProblem = field(default_factory=PrecodingProblem)
    panel: UniformPlanarArray | None = None

    def engine(self) -> Engine:
        """Return the network; raise NflaeError if its model cannot be loaded or the device is not available."""
        return _engine(self.model, self.device, self.refine)

    def near_field_score(self, channels: Tensor) -> Tensor:
        """Return near-field scores, float64 (drops, users), of channels, complex64 (drops, users, antennas)."""
        if self.panel is None:
            return self.engine().near_field_score(channels)
        return panel_near_field_score(self.panel, channels)

    def schemes_by_name(self) -> dict[str, Scheme]:
        """Return every scheme by its specification, the optimiser last."""
        if not self.problem.is_plain:
            return {spec: self.solver(spec) for spec in self.schemes}
        chosen = {name: self.engine() if name == "nflae" else load_scheme(name) for name in self.schemes}
        return {**chosen, OPTIMISER: optimise} if self.optimiser else chosen

    def solver(self, spec: str) -> ProblemScheme:
        """Return the scheme of a specification for the problem, with the network inside where it has one inside.

        Parameters
        ----------
        spec
            Specification, see `simulator.problems.dispatch.solve`.
        """
        return ProblemScheme(self.problem, self.engine(), spec)

    @property
    def timed_drops(self) -> int:
        """Largest number of drops of the block that is timed; those that are solved together stay together."""
        together = self.problem.drops_together
        return max(BLOCK_DROPS - BLOCK_DROPS % together, together)


@dataclass(frozen=True)
class BlockScore:
    """Result of one block.

    Parameters
    ----------
    drops, skipped
        Drops, and bad ones among them.
    users, near_users
        Users of the good drops, and near-field users among them.
    capacity
        Dirty-paper capacity per good drop, bps/Hz; empty for other problems than the plain sum rate.
    values
        Objective per good drop, by scheme: the sum rate, bps/Hz, or that of the problem.
    infeasible, fallback, violated, below
        Numbers of drops that miss C4, that RZF answered, that violate a limit and that are below the textbook, by
        scheme; the last two are 0 for the plain sum rate.
    """

    drops: int
    skipped: int
    users: int
    near_users: int
    capacity: list[float]
    values: dict[str, list[float]]
    infeasible: dict[str, int]
    fallback: dict[str, int]
    violated: dict[str, int]
    below: dict[str, int]


@dataclass(frozen=True)
class Score:
    """Result of one scheme on all drops.

    Parameters
    ----------
    scheme
        The scheme's specification.
    mean
        Mean objective over the good drops: the sum rate, bps/Hz, or that of the problem.
    infeasible, fallback
        Fractions of the good drops that miss C4 and that RZF answered.
    violated, below
        Numbers of good drops that violate a limit and that are below the textbook.
    seconds_per_drop
        Median time of five runs on one block after a warm-up, divided by its drops, s; None if not timed.
    """

    scheme: str
    mean: float
    infeasible: float
    fallback: float
    violated: int
    below: int
    seconds_per_drop: float | None


@dataclass(frozen=True)
class Evaluation:
    """Result of a comparison.

    Parameters
    ----------
    scores
        Schemes by rising mean objective.
    capacity
        Mean dirty-paper capacity under C1 alone, bps/Hz; None for other problems than the plain sum rate.
    drops, skipped
        Drops, and bad ones among them.
    users, near_field_share
        Users per drop, and fraction of near-field ones.
    timed_drops
        Drops of the block that was timed.
    lost
        The failure after which no more drops were evaluated; None if all were.
    """

    scores: list[Score]
    capacity: float | None
    drops: int
    skipped: int
    users: int
    near_field_share: float
    timed_drops: int
    lost: ClusterLost | None = None


def evaluate(
    blocks: Iterable[Block], comparison: Comparison, advance: Callable[[int, str], None], cluster: str | None = None
) -> Evaluation:
    """Solve the same problem by every scheme on every drop, with the same near-field labels, so that C3 is the same.

    Parameters
    ----------
    blocks
        See `nflae_bridge.files.blocks.blocks`; the units of work on a cluster.
    comparison
        Schemes and rules.
    advance
        Called with the number of drops done and a note, after each block and, without a cluster, after each scheme.
    cluster
        See `run_units`; times are always measured on this machine.

    Returns
    -------
    Evaluation
        Of the blocks completed, if the cluster is lost meanwhile, see `Evaluation.lost`.

    Raises
    ------
    NflaeError
        If no drop is good or a rate is not finite.
    ClusterLost
        If the cluster is lost before the first block is complete.
    """
    done, scored, lost = 0, {}, None
    timed: list[Block] = []

    def keep_first() -> Iterator[Block]:
        for block in blocks:
            if not timed and block.good.any():
                timed.append(_head(block, comparison.timed_drops))
            yield block

    note = (lambda name: advance(done, name)) if cluster is None else None
    try:
        with closing(run_units(partial(score_block, comparison, note=note), keep_first(), cluster)) as outcomes:
            for index, score in outcomes:
                scored[index] = score
                done += score.drops
                advance(done, "")
    except ClusterLost as error:
        if not scored:
            raise
        lost = error
    scores = [scored[index] for index in sorted(scored)]
    if not timed or all(score.skipped == score.drops for score in scores):
        raise NflaeError("no drop of the file can be precoded: every one is bad")
    seconds = _times(comparison, timed[0], lambda name: advance(done, f"timing {name}"))
    return _summarise(comparison, scores, seconds, len(timed[0].channels), lost)


def _summarise(
    comparison: Comparison,
    scores: list[BlockScore],
    seconds: dict[str, float],
    timed_drops: int,
    lost: ClusterLost | None,
) -> Evaluation:
    totals = [_total(name, scores, seconds.get(name)) for name in comparison.schemes_by_name()]
    capacity = [value for score in scores for value in score.capacity]
    return Evaluation(
        scores=sorted(totals, key=lambda score: score.mean),
        capacity=statistics.fmean(capacity) if capacity else None,
        drops=sum(score.drops for score in scores),
        skipped=sum(score.skipped for score in scores),
        users=sum(score.users for score in scores) // sum(score.drops - score.skipped for score in scores),
        near_field_share=sum(score.near_users for score in scores) / sum(score.users for score in scores),
        timed_drops=timed_drops,
        lost=lost,
    )


def score_block(comparison: Comparison, block: Block, note: Callable[[str], None] | None = None) -> BlockScore:
    """Run every scheme on one block.

    Parameters
    ----------
    comparison
        Schemes and rules.
    block
        The block.
    note
        Called with the name of each scheme before it runs.

    Returns
    -------
    BlockScore
        The block's result.
    """
    good = len(block.channels)
    found = BlockScore(len(block.good), len(block.good) - good, 0, 0, [], {}, {}, {}, {}, {})
    if not good:
        return found
    batch = _labelled(comparison, block)
    assert batch.near_field is not None
    found = replace(found, users=batch.near_field.numel(), near_users=int(batch.near_field.sum()))
    textbook = None
    if comparison.problem.is_plain:
        found.capacity.extend(dirty_paper_capacity(batch.channels, comparison.budget).tolist())
    else:
        textbook = _of_block(comparison.solver(TEXTBOOK), block)(batch, comparison.budget)
    for name, scheme in comparison.schemes_by_name().items():
        if note is not None:
            note(name)
        answer = _of_block(scheme, block)(batch, comparison.budget)
        found.infeasible[name] = int((~answer.feasible).sum())
        found.fallback[name] = int(answer.fallback.sum())
        found.violated[name] = found.below[name] = 0
        found.values[name] = answer.sum_rate.tolist()
        if isinstance(answer, ProblemSolution) and isinstance(textbook, ProblemSolution):
            found.values[name] = answer.objective.tolist()
            found.violated[name] = int(violates_limits(answer, comparison.budget, comparison.problem).sum())
            found.below[name] = int(is_below(answer, textbook).sum())
    return found


def _of_block(scheme: Scheme, block: Block) -> Scheme:
    """Return the scheme of the good drops of a block."""
    return scheme.of_drops(block.start, block.good) if isinstance(scheme, ProblemScheme) else scheme


def _head(block: Block, drops: int) -> Block:
    """Return a block up to its good drop of a number."""
    good = block.good[: int(np.flatnonzero(block.good)[:drops][-1]) + 1]
    labels = None if block.near_field is None else block.near_field[:drops]
    return replace(block, good=good, channels=block.channels[:drops], near_field=labels)


def _labelled(comparison: Comparison, block: Block) -> ChannelBatch:
    """Return the drops of a block with labels, those given or those of the comparison."""
    channels = torch.from_numpy(block.channels).to(choose_device(comparison.device))
    if block.near_field is None:
        return ChannelBatch(channels, comparison.near_field_score(strongest_antenna(channels)) > UNDECIDED)
    return ChannelBatch(channels, torch.from_numpy(block.near_field).to(channels.device))


def _total(name: str, scores: list[BlockScore], seconds: float | None) -> Score:
    values = [value for score in scores for value in score.values.get(name, [])]
    if not np.isfinite(values).all():
        raise NflaeError(f"{name}: the rates are not finite numbers; are the channels scaled beyond reason?")
    infeasible, fallback, violated, below = (
        sum(getattr(score, count).get(name, 0) for score in scores)
        for count in ("infeasible", "fallback", "violated", "below")
    )
    shares = infeasible / len(values), fallback / len(values)
    return Score(name, statistics.fmean(values), *shares, violated, below, seconds)


def _times(comparison: Comparison, block: Block, note: Callable[[str], None]) -> dict[str, float]:
    """Measure `seconds_per_drop` of every scheme but the optimiser."""
    seconds, batch = {}, _labelled(comparison, block)
    for name, scheme in comparison.schemes_by_name().items():
        if name != OPTIMISER:
            note(name)
            seconds[name] = seconds_per_drop(_of_block(scheme, block), batch, comparison.budget)
    return seconds


@lru_cache(maxsize=1)
def _engine(model: str, device: str, refine: int) -> Engine:
    """Load the network, once per process."""
    engine = load_scheme("nflae", model, device, refine)
    assert isinstance(engine, Engine)
    return engine


def seconds_per_drop(scheme: Scheme, batch: ChannelBatch, budget: LinkBudget) -> float:
    """Measure the time of a scheme in batch.

    Parameters
    ----------
    scheme
        The scheme.
    batch
        Channels, on the device of the scheme.
    budget
        Link budget.

    Returns
    -------
    float
        Median time of five runs after one to warm up, divided by the drops, s.
    """

    def run() -> float:
        _synchronise(batch.channels.device)
        began = time.perf_counter()
        scheme(batch, budget)
        _synchronise(batch.channels.device)
        return time.perf_counter() - began

    run()
    return statistics.median(run() for _ in range(_REPEATS)) / len(batch.channels)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
