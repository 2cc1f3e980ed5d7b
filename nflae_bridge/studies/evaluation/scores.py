"""Hold the result of a comparison of schemes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from matlab_io.labelled import ArrayResult, LabelledArray, LabelledSet
from nflae_bridge.studies.cluster import ClusterLost
from nflae_bridge.studies.evaluation.scoring import BlockScore
from nflae_bridge.studies.intervals import MeanInterval


@dataclass(frozen=True)
class Score:
    """Result of one scheme on all drops.

    Parameters
    ----------
    scheme
        The scheme's specification.
    mean, low, high
        Mean objective over the good drops, the sum rate in bps/Hz or that of the problem, and its 95 % interval.
    block
        Length of the blocks of successive drops by which the interval was computed.
    infeasible, fallback
        Fractions of the good drops that miss C4 and that RZF answered.
    violated, below
        Numbers of good drops that violate a limit and that are below the textbook.
    seconds_per_drop
        Median time of five runs on one block after a warm-up, divided by its drops, s; None if not timed.
    """

    scheme: str
    mean: float
    low: float
    high: float
    block: int
    infeasible: float
    fallback: float
    violated: int
    below: int
    seconds_per_drop: float | None

    @property
    def interval(self) -> MeanInterval:
        """Mean objective with its interval."""
        return MeanInterval(self.mean, self.low, self.high, self.block)


@dataclass(frozen=True, repr=False)
class Evaluation(ArrayResult):
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
    blocks
        Results drop by drop, in order.
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
    blocks: list[BlockScore]
    lost: ClusterLost | None = None

    def labelled(self) -> LabelledSet:
        """Return the measures of the schemes, with the specifications of the schemes as coordinates."""
        units = {"seconds_per_drop": "s"}
        units |= dict.fromkeys(("mean", "low", "high"), "bps/Hz" if self.capacity is not None else "")
        names = [each.name for each in fields(Score) if each.name != "scheme"]
        columns = {name: [getattr(score, name) for score in self.scores] for name in names}
        arrays = {name: np.array(values, float if None in values else None) for name, values in columns.items()}
        attributes = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        return LabelledSet(
            tuple(LabelledArray(name, ("scheme",), values, units.get(name, "")) for name, values in arrays.items()),
            {"scheme": [score.scheme for score in self.scores]},
            attributes,
        )
