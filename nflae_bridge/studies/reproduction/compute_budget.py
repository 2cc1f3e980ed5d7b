"""How much work goes into an experiment: ``full``, as published, or ``quick``, minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nflae_bridge.plots.names import NETWORK_NAMES


@dataclass(frozen=True)
class ComputeBudget:
    """A budget.

    test_drops: a point. train_drops, validation_drops, batch, learning_rate: of the learned baselines. steps:
        theirs, by preset.
    per_point: they are trained for every point of a figure, not just for the published setting.
    """

    name: Literal["full", "quick"]
    test_drops: int
    train_drops: int
    validation_drops: int
    batch: int
    steps: dict[str, int]
    learning_rate: float
    per_point: bool

    def cuts(self, networks: Sequence[str], cut: str | None) -> str:
        """What was cut, in words for a plot; empty if nothing was.

        networks: the learned baselines trained. cut: how the rest of the experiment is cut, see `Experiment.cut`.
        """
        if self.name == "full":
            return ""
        describe = [cut] if cut else []
        if networks:
            steps = ", ".join(
                f"{NETWORK_NAMES[name]} {self.steps[name]} steps instead of {FULL.steps[name]:,}" for name in networks
            )
            describe.append(
                f"networks trained for a moment ({steps}; {self.batch} drops a step instead of {FULL.batch}, learning "
                f"rate {self.learning_rate:g} instead of {FULL.learning_rate:g}, {self.train_drops:,} drops instead of "
                f"{FULL.train_drops:,})"
            )
        return "Quick run: " + "; ".join(describe) if describe else ""


FULL = ComputeBudget(
    name="full",
    test_drops=1_000,
    train_drops=8_000,
    validation_drops=1_000,
    batch=100,
    steps={"paper": 40_000, "transformer": 40_000, "cnn": 40_000, "tiny": 4_000},
    learning_rate=1e-4,
    per_point=True,
)

# Small batches: on a CPU more steps of fewer drops teach more in the same time.
QUICK = ComputeBudget(
    name="quick",
    test_drops=200,
    train_drops=2_000,
    validation_drops=200,
    batch=20,
    steps={"paper": 40, "transformer": 400, "cnn": 400, "tiny": 300},
    learning_rate=5e-4,
    per_point=False,
)

COMPUTE_BUDGETS: dict[str, ComputeBudget] = {compute_budget.name: compute_budget for compute_budget in (FULL, QUICK)}
