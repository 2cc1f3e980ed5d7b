"""Define the base of the networks of all tasks: a module and the configuration that it was built from."""

from __future__ import annotations

from typing import Any

from torch import nn


class TaskNetwork(nn.Module):
    """Define a network that checkpoints can hold.

    Attributes
    ----------
    config : Any
        Configuration, a frozen dataclass; its type determines the task, see `nflae_bridge.tasks.task.Task`.
    """

    config: Any

    def parameter_counts(self) -> tuple[int, int]:
        """Return the numbers of trained and of all parameters."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
