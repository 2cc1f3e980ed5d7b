"""Define how much work an experiment does: ``full``, as published, or ``quick``, minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nflae_bridge.plots.names import NETWORK_NAMES


@dataclass(frozen=True)
class ComputeBudget:
    """Amount of work of an experiment.

    Parameters
    ----------
    name
        ``full`` or ``quick``.
    test_drops
        Test drops per point.
    train_drops, validation_drops, batch, learning_rate
        Of the training of the learned baselines.
    steps
        Their training steps, by preset.
    per_point
        Train them for every point of a figure instead of the published one only.
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
        """Describe the reductions against a full run.

        Parameters
        ----------
        networks
            Learned baselines trained, by preset.
        cut
            Other reductions of the experiment, see `Experiment.cut`.

        Returns
        -------
        str
            Text for a figure; empty without reductions.
        """
        if self.name == "full":
            return ""
        parts = [cut] if cut else []
        if networks:
            steps = ", ".join(
                f"{NETWORK_NAMES[name]} {self.steps[name]} steps instead of {FULL.steps[name]:,}" for name in networks
            )
            parts.append(
                f"networks trained briefly ({steps}; {self.batch} drops per step instead of {FULL.batch}, learning "
                f"rate {self.learning_rate:g} instead of {FULL.learning_rate:g}, {self.train_drops:,} drops instead of "
                f"{FULL.train_drops:,})"
            )
        return "Quick run: " + "; ".join(parts) if parts else ""


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

# Small batches: on a CPU more steps of fewer drops reach a lower loss in the same time.
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

COMPUTE_BUDGETS: dict[str, ComputeBudget] = {budget.name: budget for budget in (FULL, QUICK)}
