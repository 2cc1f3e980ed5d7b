"""Score schemes on blocks of drops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.engine.devices import choose_device
from nflae_bridge.files.blocks import Block
from nflae_bridge.files.labels import UNDECIDED, strongest_antenna
from nflae_bridge.studies.evaluation.comparison import Comparison
from simulator.downlink.capacity import dirty_paper_capacity
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.combinations import TEXTBOOK
from simulator.problems.dispatch import ProblemScheme
from simulator.problems.solution import ProblemSolution
from simulator.problems.violations import is_below, violates_limits

_RATE_TOLERANCE = 1e-6  # by which a rate may miss the minimum rate, relative


@dataclass(frozen=True)
class BlockScore:
    """Result of one block.

    Parameters
    ----------
    start
        First drop, counted from 0 in the file.
    drops, skipped
        Drops, and bad ones among them.
    positions
        Good drops, counted from 0 in the file.
    users, near_users
        Users of the good drops, and near-field users among them.
    capacity
        Dirty-paper capacity per good drop, bps/Hz; empty for other problems than the plain sum rate.
    values
        Objective per good drop, by scheme: the sum rate, bps/Hz, or that of the problem.
    infeasible, fallback
        Per good drop: it misses C4; RZF answered. By scheme.
    violated, below
        Numbers of drops that violate a limit and that are below the textbook, by scheme; 0 for the plain sum rate.
    """

    start: int
    drops: int
    skipped: int
    positions: list[int]
    users: int
    near_users: int
    capacity: list[float]
    values: dict[str, list[float]]
    infeasible: dict[str, list[bool]]
    fallback: dict[str, list[bool]]
    violated: dict[str, int]
    below: dict[str, int]


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
    positions = (block.start + np.flatnonzero(block.good)).tolist()
    found = BlockScore(block.start, len(block.good), len(block.good) - good, positions, 0, 0, [], {}, {}, {}, {}, {})
    if not good:
        return found
    batch = labelled_drops(comparison, block)
    true = None if block.true_channels is None else torch.from_numpy(block.true_channels).to(batch.channels.device)
    assert batch.near_field is not None
    found = replace(found, users=batch.near_field.numel(), near_users=int(batch.near_field.sum()))
    textbook = None
    if comparison.problem.is_plain:
        found.capacity.extend(
            dirty_paper_capacity(batch.channels if true is None else true, comparison.budget).tolist()
        )
    else:
        textbook = scheme_of_block(comparison.solver(TEXTBOOK), block)(batch, comparison.budget)
    for name, scheme in comparison.schemes_by_name().items():
        if note is not None:
            note(name)
        answer = scheme_of_block(scheme, block)(batch, comparison.budget)
        found.fallback[name] = answer.fallback.tolist()
        found.violated[name] = found.below[name] = 0
        values, feasible = (answer.sum_rate, answer.feasible) if true is None else _on(true, answer, comparison)
        found.values[name], found.infeasible[name] = values.tolist(), (~feasible).tolist()
        if isinstance(answer, ProblemSolution) and isinstance(textbook, ProblemSolution):
            found.values[name] = answer.objective.tolist()
            found.violated[name] = int(violates_limits(answer, comparison.budget, comparison.problem).sum())
            found.below[name] = int(is_below(answer, textbook).sum())
    return found


def _on(channels: Tensor, answer: Precoding, comparison: Comparison) -> tuple[Tensor, Tensor]:
    """Compute the sum rates of precoders and powers on other channels, and whether every minimum rate is met."""
    budget = comparison.budget
    rate = rates(achieved_sinr(channels, answer.precoder, answer.power, budget.noise_power))
    return rate.sum(-1), (rate >= budget.min_rate * (1 - _RATE_TOLERANCE)).all(-1)


def scheme_of_block(scheme: Scheme, block: Block) -> Scheme:
    """Return the scheme of the good drops of a block.

    Parameters
    ----------
    scheme, block
        The scheme, and the block.

    Returns
    -------
    Scheme
    """
    return scheme.of_drops(block.start, block.good) if isinstance(scheme, ProblemScheme) else scheme


def labelled_drops(comparison: Comparison, block: Block) -> ChannelBatch:
    """Return the drops of a block, as the transmitter knows them, with labels.

    Parameters
    ----------
    comparison, block
        The comparison, whose labels count where the block has none, and the block.

    Returns
    -------
    ChannelBatch
    """
    channels = torch.from_numpy(block.channels).to(choose_device(comparison.device))
    if block.near_field is None:
        return ChannelBatch(channels, comparison.near_field_score(strongest_antenna(channels)) > UNDECIDED)
    return ChannelBatch(channels, torch.from_numpy(block.near_field).to(channels.device))
