"""Take an optimiser step: forward pass, loss, backward pass, gradient clipping and AdamW as one computation.

Nothing in `TrainingStep.compute` transfers values between host and device or depends on values for its shapes, so that
CUDA captures it whole. Parameters without gradients take no part: they have neither gradients nor moments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nflae_bridge.network.trunks.backbone import Backbone
from nflae_bridge.tasks.task import Task
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.steps.captured import CapturedSteps

MAX_NORM = 1.0
"""Norm to which larger gradients are scaled."""
_BFLOAT16_WIDTH = 512  # narrower trunks are not limited by matrix products


class TrainingStep:
    """Optimiser step of a task's network on a batch.

    Parameters
    ----------
    network : nn.Module
        The network, on the device.
    task : Task
        Its task.
    recipe : Recipe
        Recipe of the run.
    device : torch.device
        Device of the training.

    Attributes
    ----------
    parameters : list of nn.Parameter
        Trained parameters.
    optimiser : torch.optim.AdamW
        The optimiser, with states of the trained parameters alone.
    rate : Tensor
        Learning rate, float32 scalar on the device.
    captured : CapturedSteps or None
        Graphs of the step by the shape of its inputs; None: the step is run kernel by kernel, as on a CPU.
    """

    def __init__(self, network: nn.Module, task: Task, recipe: Recipe, device: torch.device) -> None:
        self.network, self.task, self.settings = network, task, recipe.loss
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.rate = torch.zeros((), device=device)
        on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            self.rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self.captured = CapturedSteps(device) if on_gpu else None
        if on_gpu:
            use_bfloat16(network)

    def take(self, batch: Any, rate: float) -> Tensor:
        """Take a step.

        Parameters
        ----------
        batch
            Batch of the task, on the device.
        rate : float
            Learning rate.

        Returns
        -------
        Tensor
            Loss and its parts, in the order of the task, float64 (1 + parts,) on the device.
        """
        with torch.no_grad():
            inputs = self.task.prepare(self.network, batch, self.settings)
        self.network.train()
        self.rate.fill_(rate)
        if self.captured is None:
            return self.compute(inputs)
        return self.captured.run(self.compute, inputs)

    def compute(self, inputs: Any) -> Tensor:
        """Compute loss and gradients on prepared inputs and update the parameters.

        Where the gradient is infinite or NaN, as on a drop whose constraints can just be met, parameters and moments
        stay as they are.

        Parameters
        ----------
        inputs
            Result of the task's ``prepare``.

        Returns
        -------
        Tensor
            As in `take`.
        """
        self.optimiser.zero_grad(set_to_none=True)
        parts = self.task.loss(self.network, inputs, self.settings)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.get_total_norm([each.grad for each in self.parameters if each.grad is not None])
        # The fused kernel divides gradients by the first and is without effect where the second is 1.
        self.optimiser.grad_scale = (norm + 1e-6).clamp(min=MAX_NORM) / MAX_NORM  # type: ignore[attr-defined]
        self.optimiser.found_inf = 1 - norm.isfinite().float()  # type: ignore[attr-defined]
        self.optimiser.step()
        return torch.stack([parts[name].detach().double() for name in ("loss", *self.task.parts)])


def use_bfloat16(network: nn.Module) -> None:
    """Let language models as trunks, of 512 numbers per token or more, multiply matrices in bfloat16.

    Their inputs and outputs, weights, gradients and moments stay in float32, as does all outside of them.

    Parameters
    ----------
    network : nn.Module
        The network.
    """
    for module in network.modules():
        if isinstance(module, Backbone) and module.width >= _BFLOAT16_WIDTH:
            module.precision = torch.bfloat16
